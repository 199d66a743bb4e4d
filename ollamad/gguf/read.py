"""From a file's first bytes to a checked `Header`. Source: models contract, container, limits and errors."""

from __future__ import annotations

import os
import struct
from pathlib import Path
from typing import Literal

from ollamad.errors import InvalidModelFile
from ollamad.gguf.header import Array, Header, Tensor, Value
from ollamad.gguf.numbers import ARRAY, FLOAT32, SCALARS, STRING, TENSOR_TYPES
from ollamad.gguf.window import LIMITS, Limits, Window

__all__ = ["LIMITS", "Limits", "read_header", "starts_as_gguf"]

#: Number arrays up to this length are always kept: head counts per block and the like.
_SHORT_ARRAY = 1024

_DEFAULT_ALIGNMENT = 32
_MAX_DIMENSIONS = 4
_MAX_INT64 = 2**63 - 1
_MAX_UINT64 = 2**64 - 1


def starts_as_gguf(path: Path) -> bool:
    """Tell whether the file has the magic of a GGUF, and so is worth an error of `read_header`. Raises: OSError."""
    with open(path, "rb", buffering=0) as file:
        return file.read(4) in (b"GGUF", b"FUGG")


def read_header(path: Path, *, arrays: bool = False, limits: Limits = LIMITS) -> Header:
    """Read and check the header of the file at *path*.

    Args:
        path: The file; read only as far as the header goes.
        arrays: Also keep string arrays and number arrays of more than 1024 elements; otherwise they
            are stepped over, which takes 0.1 µs an element.
        limits: What the header may ask for.

    Raises:
        InvalidModelFile: Not a usable GGUF; the text names an offset, a key or a tensor.
        OSError: The file cannot be read.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return _Reader(Window(descriptor, limits), limits, arrays).header()
    finally:
        os.close(descriptor)


class _Reader:
    def __init__(self, window: Window, limits: Limits, arrays: bool) -> None:
        self._window = window
        self._limits = limits
        self._arrays = arrays
        self._count_code = "Q"

    def header(self) -> Header:
        byte_order, version = self._start()
        n_tensors, n_keys = self._counts()
        metadata = self._metadata(n_keys)
        alignment = _alignment(metadata)
        rows = self._tensors(n_tensors)
        self._window.check_limit()
        data_offset = -(-self._window.offset // alignment) * alignment
        metadata["general.parameter_count"] = _parameter_count(rows)
        for tensor in rows:
            self._check_end(tensor, data_offset)
        return Header(
            version=version,
            byte_order=byte_order,
            metadata=metadata,
            tensors=tuple(rows),
            alignment=alignment,
            data_offset=data_offset,
            size_bytes=self._window.size_bytes,
        )

    def _start(self) -> tuple[Literal["little", "big"], int]:
        magic = self._window.raw(min(4, self._window.size_bytes))
        if magic not in (b"GGUF", b"FUGG"):
            raise InvalidModelFile("invalid file magic at offset 0")
        little = magic == b"GGUF"
        self._window.use(order="<" if little else ">", terminated_strings=False)
        version = self._window.scalar("I")
        if version not in (1, 2, 3):
            raise InvalidModelFile(f"unsupported GGUF version {version} at offset 4")
        self._window.use(order="<" if little else ">", terminated_strings=version == 1)
        self._count_code = "I" if version == 1 else "Q"
        return "little" if little else "big", version

    def _counts(self) -> tuple[int, int]:
        counts = []
        for what, limit in (("tensor", self._limits.tensors), ("key", self._limits.keys)):
            offset = self._window.offset
            count = self._window.scalar(self._count_code)
            if count > limit:
                raise InvalidModelFile(f"GGUF {what} count {count} exceeds maximum {limit} at offset {offset}")
            counts.append(count)
        return counts[0], counts[1]

    # --- metadata

    def _metadata(self, n_keys: int) -> dict[str, Value]:
        metadata: dict[str, Value] = {}
        for _ in range(n_keys):
            offset = self._window.offset
            key = self._window.string()
            # The native reader refuses such a file; here it would hide one of the two values.
            if key in metadata:
                raise InvalidModelFile(f"key {_quoted(key)} repeated at offset {offset}")
            metadata[key] = self._value(key)
        return metadata

    def _value(self, key: str) -> Value:
        offset = self._window.offset
        kind = self._window.scalar("I")
        if kind == STRING:
            return self._window.string()
        if kind == ARRAY:
            return self._array(key)
        if kind not in SCALARS:
            raise InvalidModelFile(f"invalid type: {kind} of key {_quoted(key)} at offset {offset}")
        value: int | float | bool = self._window.scalar(SCALARS[kind])
        return _shortest_float32(value) if kind == FLOAT32 else value

    def _array(self, key: str) -> Array:
        offset = self._window.offset
        kind = self._window.scalar("I")
        if kind != STRING and kind not in SCALARS:
            raise InvalidModelFile(f"invalid array type: {kind} of key {_quoted(key)} at offset {offset}")
        length = self._window.scalar(self._count_code)
        if length > self._limits.array_length:
            raise InvalidModelFile(
                f"GGUF array size {length} exceeds maximum {self._limits.array_length} in key {_quoted(key)}"
            )
        wanted = self._arrays and length <= self._limits.collected_length
        if kind == STRING:
            return self._strings(length, wanted)
        return self._numbers(kind, length, wanted or length <= _SHORT_ARRAY)

    def _strings(self, length: int, wanted: bool) -> Array:
        if length * 8 > self._window.remaining():
            raise self._window.end_of_file()
        if wanted:
            return Array(STRING, length, tuple(self._window.string() for _ in range(length)))
        self._window.skip_strings(length)
        return Array(STRING, length)

    def _numbers(self, kind: int, length: int, wanted: bool) -> Array:
        if not wanted:
            self._window.skip_numbers(SCALARS[kind], length)
            return Array(kind, length)
        values = self._window.numbers(SCALARS[kind], length)
        return Array(kind, length, tuple(map(_shortest_float32, values)) if kind == FLOAT32 else values)

    # --- tensors

    def _tensors(self, n_tensors: int) -> list[Tensor]:
        rows: dict[str, Tensor] = {}
        for _ in range(n_tensors):
            offset = self._window.offset
            tensor = self._tensor()
            if tensor.name in rows:
                raise InvalidModelFile(f"tensor {_quoted(tensor.name)} repeated at offset {offset}")
            rows[tensor.name] = tensor
        return list(rows.values())

    def _tensor(self) -> Tensor:
        window = self._window
        name = window.string()
        n_dimensions = window.scalar("I")
        if n_dimensions > _MAX_DIMENSIONS:
            raise InvalidModelFile(
                f"tensor {_quoted(name)} dimensions {n_dimensions} exceeds maximum {_MAX_DIMENSIONS}"
            )
        shape = tuple(window.scalar("Q") for _ in range(n_dimensions))
        kind = window.scalar("I")
        return Tensor(name, kind, shape, window.scalar("Q"), _tensor_bytes(name, kind, shape))

    def _check_end(self, tensor: Tensor, data_offset: int) -> None:
        end = data_offset + tensor.offset + tensor.size_bytes
        if end > self._window.size_bytes:
            raise InvalidModelFile(
                f"tensor {_quoted(tensor.name)} offset+size ({end}) exceeds file size ({self._window.size_bytes})"
            )


def _elements(shape: tuple[int, ...]) -> int:
    product = 1
    for length in shape:
        product *= length
    return product


def _tensor_bytes(name: str, kind: int, shape: tuple[int, ...]) -> int:
    elements = _elements(shape)
    if elements > _MAX_UINT64:
        raise InvalidModelFile(f"tensor {_quoted(name)} elements overflow")
    block = TENSOR_TYPES.get(kind)
    row = shape[0] if shape else 1
    if block is None or row % block.elements or elements // block.elements * block.bytes > _MAX_INT64:
        raise InvalidModelFile(f"tensor {_quoted(name)} size overflow")
    return elements // block.elements * block.bytes


def _parameter_count(rows: list[Tensor]) -> int:
    count = sum(_elements(tensor.shape) for tensor in rows)
    if count > _MAX_UINT64:
        raise InvalidModelFile("parameter count overflow in key general.parameter_count")
    return count


def _alignment(metadata: dict[str, Value]) -> int:
    value = metadata.get("general.alignment", _DEFAULT_ALIGNMENT)
    # The native reader takes powers of two only.
    if isinstance(value, bool) or not isinstance(value, int) or value <= 0 or value & (value - 1):
        shown = value if isinstance(value, (int, float)) else type(value).__name__
        raise InvalidModelFile(f"invalid GGUF alignment: {shown} in key general.alignment")
    return value


def _shortest_float32(value: float) -> float:
    for digits in (6, 7, 8):
        short = float(f"{value:.{digits}g}")
        # Infinities and NaN never compare equal after packing to more digits, and stay as they are.
        if _as_float32(short) == value:
            return short
    return float(f"{value:.9g}")


def _as_float32(value: float) -> float:
    try:
        return float(struct.unpack("<f", struct.pack("<f", value))[0])
    except OverflowError:
        return float("inf")


def _quoted(text: str) -> str:
    """A name from a hostile file, short enough for a log line and without control characters."""
    shown = text if len(text) <= 80 else f"{text[:80]}…"
    return '"' + "".join(char if char.isprintable() else "\ufffd" for char in shown) + '"'
