"""Read the header of a GGUF file: metadata and tensor table, nothing of the tensors' data.

Pure Python and bounded: no allocation follows a claimed count, every number is checked against the file's
size, and a file that is not what it claims to be is refused with the offset, key or tensor where that shows.
Does not know which keys a model needs to run.
"""

from ollamad.gguf.facts import facts, layer_kind, parameter_size_text
from ollamad.gguf.header import Array, Header, Tensor, Value
from ollamad.gguf.numbers import file_type_name, tensor_type_name
from ollamad.gguf.read import LIMITS, Limits, read_header, starts_as_gguf

__all__ = [
    "LIMITS",
    "Array",
    "Header",
    "Limits",
    "Tensor",
    "Value",
    "facts",
    "file_type_name",
    "layer_kind",
    "parameter_size_text",
    "read_header",
    "starts_as_gguf",
    "tensor_type_name",
]
