"""What of a create request can be wrong, told before any file is read.

Source: http contract 8.12, models contract 4.9.
"""

from __future__ import annotations

import math
import posixpath
from collections.abc import Mapping
from dataclasses import replace
from typing import Any
from urllib.parse import SplitResult, urlsplit

from ollamad.errors import InvalidName, InvalidRequest, Unsupported
from ollamad.names import Reference, is_valid, parse_name, parse_reference
from ollamad.plugin import CreateRequest
from ollamad.types import ModelConfig, ModelName

_NOT_AVAILABLE = "not available in this version of ollamad"
_TEXTS = {
    "model_family": "model_family",
    "base_name": "base_name",
    "quantization_level": "file_type",
    "parameter_size": "model_type",
}
_LENGTHS = ("context_length", "embedding_length")


def target_name(request: CreateRequest) -> ModelName:
    """Check what stands in the request alone, in the recorded order, and return the name to make.

    Raises:
        InvalidRequest, InvalidName: The first thing that is wrong.
    """
    for files in (request.files, request.draft_files):
        for path in files or {}:
            if not _is_relative(path):
                raise InvalidRequest("file path must be relative", field="files")
    for files in (request.files, request.draft_files, request.adapters):
        if any(not digest for digest in (files or {}).values()):
            raise InvalidRequest("invalid digest format", field="files")
    if request.draft_quantize and not request.draft_files:
        raise InvalidRequest("--draft-quantize requires a DRAFT model", field="draft_quantize")
    name = parse_name(request.name)
    if not is_valid(name):
        raise InvalidName(request.name)
    return name


def source_reference(request: CreateRequest) -> Reference | None:
    """The model to start from, None for files.

    Raises:
        InvalidRequest: Neither, no name, or a remote that cannot be.
        Unsupported: Something that a later version will do.
    """
    if not request.from_name:
        if request.files is None:
            raise InvalidRequest("neither 'from' or 'files' was specified", field="from")
        _refuse_unavailable(request)
        return None
    reference = _reference(request.from_name)
    if request.remote_host or reference.source == "cloud":
        _check_remote(request)
        read_info(request.info, ModelConfig())
        raise Unsupported(f"remote models are {_NOT_AVAILABLE}", field="remote_host")
    _refuse_unavailable(request)
    return reference


def read_info(info: Mapping[str, Any], config: ModelConfig) -> ModelConfig:
    """Put what ``info`` says into *config*. Raises: InvalidRequest, naming the field."""
    values: dict[str, Any] = {}
    capabilities = info.get("capabilities")
    if isinstance(capabilities, (list, tuple)):
        values["capabilities"] = tuple(text for text in capabilities if isinstance(text, str))
    for key, target in _TEXTS.items():
        if key in info:
            if not isinstance(info[key], str):
                raise InvalidRequest(f'info field "{key}" must be a string', field="info")
            values[target] = info[key]
    values |= {key: _length(key, info[key]) for key in _LENGTHS if key in info}
    return replace(config, **values)


def normalise_remote(text: str) -> str:
    """A remote host with scheme, port and a clean path. Raises: InvalidRequest (``bad remote``).

    Source: models contract 4.7, appendix F33.
    """
    if text in ("ollama.com", "http://ollama.com"):
        return "https://ollama.com:443"
    if text.startswith("/"):
        text = f"http://localhost:11434{text}"
    elif "://" not in text:
        text = f"http://{text}"
    try:
        url = urlsplit(text)
        port = url.port
    except ValueError:
        raise InvalidRequest("bad remote", field="remote_host") from None
    host = f"[{url.hostname}]" if ":" in (url.hostname or "") else url.hostname or "localhost"
    return f"{url.scheme}://{host}:{11434 if port is None else port}{_clean_path(url, text)}"


def _clean_path(url: SplitResult, text: str) -> str:
    if not url.path:
        return ""
    path = posixpath.normpath(url.path)
    path = path[1:] if path.startswith("//") else path
    # A bare "/" goes, but not where it was all that was given.
    return "" if path == "/" and text != "http://localhost:11434/" else path


def _length(key: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise InvalidRequest(f'info field "{key}" must be a number', field="info")
    if not math.isfinite(value) or value < 0 or value != int(value):
        raise InvalidRequest(f'info field "{key}" must be a non-negative integer', field="info")
    return int(value)


def _is_relative(path: str) -> bool:
    """Go's ``fs.ValidPath``: clean and relative; a lone dot passes."""
    return path == "." or all(element not in ("", ".", "..") for element in path.split("/"))


def _reference(text: str) -> Reference:
    try:
        reference = parse_reference(text)
    except InvalidName:
        raise InvalidName(text) from None
    if not is_valid(parse_name(reference.base)):
        raise InvalidName(text)
    return reference


def _check_remote(request: CreateRequest) -> None:
    if request.remote_host:
        normalise_remote(request.remote_host)
    if request.draft_files:
        raise InvalidRequest("DRAFT cannot be used with remote models", field="draft_files")


def _refuse_unavailable(request: CreateRequest) -> None:
    if request.adapters:
        raise Unsupported(f"adapters are {_NOT_AVAILABLE}", field="adapters")
    if request.draft_files:
        raise Unsupported(f"draft models are {_NOT_AVAILABLE}", field="draft_files")
    if any(path.endswith(".safetensors") for path in request.files or {}) and not request.from_name:
        raise Unsupported(f"importing safetensors files is {_NOT_AVAILABLE}", field="files")
