"""Write small GGUF files for tests: right ones, and wrong ones on purpose."""

from __future__ import annotations

import random
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_CODES = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_STRING, _ARRAY = 8, 9

#: Type number -> (elements per block, bytes per block), as far as tests write them.
BLOCKS = {0: (1, 4), 1: (1, 2), 2: (32, 18), 8: (32, 34), 12: (256, 144), 30: (1, 2)}

F32, F16, Q4_0, Q8_0 = 0, 1, 2, 8


@dataclass(frozen=True)
class Typed:
    """A value with the number of its type; ``length`` overrules an array's or a string's true length."""

    type: int
    value: Any
    element: int | None = None
    length: int | None = None


def u8(value: int) -> Typed:
    return Typed(0, value)


def u32(value: int) -> Typed:
    return Typed(4, value)


def i32(value: int) -> Typed:
    return Typed(5, value)


def u64(value: int) -> Typed:
    return Typed(10, value)


def i64(value: int) -> Typed:
    return Typed(11, value)


def f64(value: float) -> Typed:
    return Typed(12, value)


def array(element: int, values: Iterable[Any], length: int | None = None) -> Typed:
    """An array of one type; *length* may lie."""
    return Typed(_ARRAY, tuple(values), element, length)


@dataclass(frozen=True)
class TensorSpec:
    """A tensor of zeros, or of random bytes when ``seed`` is given; ``offset`` may lie, ``data`` may be short."""

    name: str
    shape: tuple[int, ...]
    type: int = F32
    seed: int | None = None
    offset: int | None = None
    data: bytes | None = None

    def contents(self) -> bytes:
        if self.data is not None:
            return self.data
        elements = 1
        for length in self.shape:
            elements *= length
        per_block, size = BLOCKS[self.type]
        n_bytes = elements // per_block * size
        return bytes(n_bytes) if self.seed is None else random.Random(self.seed).randbytes(n_bytes)


class Writer:
    """Packs for one version and byte order."""

    def __init__(self, version: int = 3, order: str = "<") -> None:
        self.version = version
        self.order = order

    def pack(self, code: str, *values: Any) -> bytes:
        return struct.pack(self.order + code, *values)

    def count(self, number: int) -> bytes:
        return self.pack("I" if self.version == 1 else "Q", number)

    def string(self, text: str | bytes, length: int | None = None) -> bytes:
        data = text.encode() if isinstance(text, str) else text
        if self.version == 1:
            data += b"\0"
        return self.pack("Q", len(data) if length is None else length) + data

    def value(self, value: Any) -> bytes:
        typed = value if isinstance(value, Typed) else infer(value)
        return self.pack("I", typed.type) + self._body(typed)

    def _body(self, typed: Typed) -> bytes:
        if typed.type == _STRING:
            return self.string(typed.value, typed.length)
        if typed.type != _ARRAY:
            return self.pack(_CODES[typed.type], typed.value)
        assert typed.element is not None
        items = [self._body(Typed(typed.element, item)) for item in typed.value]
        length = len(items) if typed.length is None else typed.length
        return self.pack("I", typed.element) + self.count(length) + b"".join(items)


def infer(value: Any) -> Typed:
    """The type that a plain Python value is written with."""
    if isinstance(value, bool):
        return Typed(7, value)
    if isinstance(value, int):
        return Typed(5 if value < 0 else 4 if value < 2**32 else 10, value)
    if isinstance(value, float):
        return Typed(6, value)
    if isinstance(value, (str, bytes)):
        return Typed(_STRING, value)
    items = tuple(value)
    return array(infer(items[0]).type if items else _STRING, items)


def build(
    metadata: Mapping[str, Any] | Iterable[tuple[str, Any]] = (),
    tensors: Iterable[TensorSpec] = (),
    *,
    version: int = 3,
    order: str = "<",
    n_keys: int | None = None,
    n_tensors: int | None = None,
    alignment: int = 32,
) -> bytes:
    """Return the bytes of a GGUF. Pairs instead of a mapping may repeat a key; the counts may lie.

    *alignment* is how the file is laid out; ``general.alignment`` is written only if *metadata* has it.
    """
    writer = Writer(version, order)
    pairs = list(metadata.items() if isinstance(metadata, Mapping) else metadata)
    specs = list(tensors)
    parts = [
        b"GGUF" if order == "<" else b"FUGG",
        writer.pack("I", version),
        writer.count(len(specs) if n_tensors is None else n_tensors),
        writer.count(len(pairs) if n_keys is None else n_keys),
    ]
    parts += [writer.string(key) + writer.value(value) for key, value in pairs]
    data = bytearray()
    for spec in specs:
        offset = len(data) if spec.offset is None else spec.offset
        shape = writer.pack(f"{len(spec.shape)}Q", *spec.shape)
        parts.append(writer.string(spec.name) + writer.pack("I", len(spec.shape)) + shape)
        parts.append(writer.pack("IQ", spec.type, offset))
        data += _padded(spec.contents(), alignment)
    header = b"".join(parts)
    return _padded(header, alignment) + bytes(data) if specs else header


def _padded(data: bytes, alignment: int) -> bytes:
    return data + bytes(-len(data) % alignment)


def write(path: Path, metadata: Mapping[str, Any], tensors: Iterable[TensorSpec] = (), **how: Any) -> Path:
    """Write `build` to *path* and return it."""
    path.write_bytes(build(metadata, tensors, **how))
    return path


#: 68 bytes: the smallest file that create takes. Source: models contract, appendix F.
EMPTY = build({"general.architecture": "test"})
