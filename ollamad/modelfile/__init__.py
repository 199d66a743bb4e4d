"""Modelfiles: text to commands and back, and what a client sends for them. Knows no store and no daemon.

`parse` and `dump` are the text, `convert_parameters` the types of values, `read_request` turns
commands into a `ModelRequest` whose files still lie on the client's disk.
"""

from ollamad.modelfile.parameters import convert_parameters
from ollamad.modelfile.request import ModelRequest, read_request
from ollamad.modelfile.text import Command, ModelfileError, dump, parse

__all__ = ["Command", "ModelRequest", "ModelfileError", "convert_parameters", "dump", "parse", "read_request"]
