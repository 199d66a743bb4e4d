"""A cursor over a file that reads a window at a time and never believes a length."""

from __future__ import annotations

import os
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ollamad.errors import InvalidModelFile

_WINDOW_BYTES = 2**18


@dataclass(frozen=True, slots=True)
class Limits:
    """What a header may ask for.

    ``string_bytes`` and ``array_length`` are Ollama's. The others are ours: the longest real header has
    about 12 MB (a vocabulary of 256k tokens with merges), the most tensors seen are 2,100.
    """

    string_bytes: int = 16 * 2**20
    array_length: int = 64 * 2**20
    collected_length: int = 4 * 2**20
    header_bytes: int = 64 * 2**20
    keys: int = 2**16
    tensors: int = 2**16


LIMITS = Limits()


class Window:
    """The cursor. Reads with ``pread``, so a file that shrinks meanwhile is an error and not a signal."""

    def __init__(self, descriptor: int, limits: Limits) -> None:
        self.offset = 0
        self.size_bytes = os.fstat(descriptor).st_size
        self._descriptor = descriptor
        self._limits = limits
        self._bytes = b""
        self._start = 0
        self._order = "<"
        self._terminated = False
        self._unpackers: dict[str, tuple[int, Callable[..., tuple[Any, ...]]]] = {}

    def use(self, *, order: str, terminated_strings: bool) -> None:
        """Set the byte order (a `struct` prefix) and whether strings end in a counted NUL, as in version 1."""
        self._order = order
        self._terminated = terminated_strings
        self._unpackers.clear()

    def remaining(self) -> int:
        """Bytes from the cursor to the end of the file."""
        return self.size_bytes - self.offset

    def end_of_file(self) -> InvalidModelFile:
        """The error for a file that ends before its header does."""
        return InvalidModelFile(f"unexpected EOF at offset {min(self.offset, self.size_bytes)}")

    def scalar(self, code: str) -> Any:
        """Read one number by its `struct` code."""
        known = self._unpackers.get(code)
        if known is None:
            form = struct.Struct(self._order + code)
            known = self._unpackers[code] = (form.size, form.unpack_from)
        size, unpack = known
        index = self._at(size)
        self.offset += size
        return unpack(self._bytes, index)[0]

    def raw(self, length: int) -> bytes:
        """Read *length* bytes, which must be in the file and within the header's limit."""
        if length > self.remaining():
            raise self.end_of_file()
        if length > _WINDOW_BYTES:
            self.check_limit(length)
            data = os.pread(self._descriptor, length, self.offset)
            if len(data) != length:
                raise self.end_of_file()
        else:
            index = self._at(length)
            data = self._bytes[index : index + length]
        self.offset += length
        return data

    def numbers(self, code: str, length: int) -> tuple[Any, ...]:
        """Read *length* numbers of one `struct` code, all of which must be in the file."""
        form = struct.Struct(self._order + code)
        return tuple(value for (value,) in form.iter_unpack(self.raw(form.size * length)))

    def string(self) -> str:
        """Read a counted string; bytes that are no UTF-8 become U+FFFD."""
        start = self.offset
        length = self.scalar("Q")
        if length > self._limits.string_bytes:
            raise self._too_long(length, start)
        if not self._terminated:
            return self.raw(length).decode(errors="replace")
        if length == 0:
            raise _no_v1_string(start)
        data = self.raw(length)
        if data[-1]:
            raise InvalidModelFile(f"invalid GGUF v1 string terminator at offset {self.offset - 1}")
        return data[:-1].decode(errors="replace")

    def skip_numbers(self, code: str, count: int) -> None:
        """Step over *count* numbers, all of which must be in the file."""
        length = struct.calcsize(self._order + code) * count
        if length > self.remaining():
            raise self.end_of_file()
        self.offset += length
        self.check_limit()

    def skip_strings(self, count: int) -> None:
        """Step over *count* strings: a loop over their lengths alone, about 0.1 µs each."""
        unpack = struct.Struct(self._order + "Q").unpack_from
        longest = self._limits.string_bytes
        shortest = 1 if self._terminated else 0
        while count:
            index = self._at(8)
            window = self._bytes
            last = len(window) - 8
            while count and index <= last:
                length = unpack(window, index)[0]
                if not shortest <= length <= longest:
                    start = self._start + index
                    raise self._too_long(length, start) if length else _no_v1_string(start)
                index += 8 + length
                count -= 1
            self.offset = self._start + index
        if self.remaining() < 0:
            raise self.end_of_file()

    def _too_long(self, length: int, offset: int) -> InvalidModelFile:
        return InvalidModelFile(
            f"GGUF string length {length} exceeds maximum {self._limits.string_bytes} at offset {offset}"
        )

    def check_limit(self, length: int = 0) -> None:
        """Refuse a header that goes on for more than the limit, *length* bytes from the cursor included."""
        if self.offset + length > self._limits.header_bytes:
            raise InvalidModelFile(
                f"GGUF header exceeds maximum {self._limits.header_bytes} bytes at offset {self.offset}"
            )

    def _at(self, length: int) -> int:
        """Have *length* bytes from the cursor in the window; return where in it they start."""
        index = self.offset - self._start
        if index >= 0 and index + length <= len(self._bytes):
            return index
        self.check_limit(length)
        if self.offset + length > self.size_bytes:
            raise self.end_of_file()
        self._bytes = os.pread(self._descriptor, max(length, _WINDOW_BYTES), self.offset)
        self._start = self.offset
        if len(self._bytes) < length:
            raise self.end_of_file()
        return 0


def _no_v1_string(offset: int) -> InvalidModelFile:
    return InvalidModelFile(f"invalid GGUF v1 string length: 0 at offset {offset}")
