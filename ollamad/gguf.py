"""Read the header of a GGUF file: metadata and tensor table, nothing of the tensors' data.

Pure Python and bounded: no allocation follows a claimed count, every number is checked against the file's
size, and a file that is not what it claims to be is refused with the offset or key where that shows.
Does not know which keys a model needs to run.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from ollamad.types import ModelFacts


@dataclass(frozen=True, slots=True)
class Array:
    """An array of the metadata. ``values`` is None where it was only stepped over."""

    type: int
    length: int
    values: tuple[Any, ...] | None = None


Value: TypeAlias = int | float | bool | str | Array


@dataclass(frozen=True, slots=True)
class Tensor:
    """A row of the tensor table. ``shape`` as in the file (innermost first), ``offset`` from the data's start."""

    name: str
    type: int
    shape: tuple[int, ...]
    offset: int
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Limits:
    """What a header may ask for."""

    string_bytes: int = 16 * 2**20
    array_length: int = 64 * 2**20
    header_bytes: int = 64 * 2**20
    keys: int = 2**16
    tensors: int = 2**16


LIMITS = Limits()


@dataclass(frozen=True, slots=True)
class Header:
    """A checked header. ``metadata`` keeps the file's order; ``general.parameter_count`` is the recomputed one."""

    version: int
    byte_order: str  # "little" or "big"
    metadata: Mapping[str, Value]
    tensors: tuple[Tensor, ...]
    alignment: int
    data_offset: int
    size_bytes: int

    @property
    def architecture(self) -> str:
        """``general.architecture``, ``unknown`` when absent."""
        raise NotImplementedError

    def get(self, key: str, default: Any = None) -> Any:
        """Look a key up; one not starting ``general.`` or ``tokenizer.`` is prefixed with the architecture."""
        raise NotImplementedError


def read_header(path: Path, *, arrays: bool = False, limits: Limits = LIMITS) -> Header:
    """Read and check the header of the file at *path*.

    Args:
        arrays: Also materialise arrays longer than 1024 elements and of strings; otherwise they are stepped over.

    Raises:
        InvalidModelFile: Not a usable GGUF; the text names an offset, a key or a tensor.
        OSError: The file cannot be read.
    """
    raise NotImplementedError


def facts(header: Header) -> ModelFacts:
    """Return what the rest of the daemon wants to know of a header."""
    raise NotImplementedError


def layer_kind(header: Header) -> str:
    """Return what a file is in a create: ``model``, ``projector`` or ``adapter``."""
    raise NotImplementedError


def file_type_name(number: int) -> str:
    """Return the quantization's name, ``unknown`` for numbers that have none."""
    raise NotImplementedError


def tensor_type_name(number: int) -> str:
    """Return the tensor type's name, ``unknown`` for numbers that have none."""
    raise NotImplementedError


def parameter_size_text(count: int) -> str:
    """Return a parameter count as people write it: ``26M``, ``1.23M``, ``8.0B``."""
    raise NotImplementedError
