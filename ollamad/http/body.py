"""The body of a request: framing taken off as bytes come, and a queue that holds the sender back."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from typing import Protocol

from ollamad.errors import InvalidRequest
from ollamad.plugin.frontend import BodyTooLarge

#: Bytes that may wait for a handler before the sender is held back.
_HIGH = 256 * 1024
#: Longest line of chunk framing. Source: net/http/internal, maxLineLength.
_LINE = 4096


class Decoder(Protocol):
    """Takes body bytes from the front of a buffer."""

    done: bool

    def feed(self, buffer: bytearray) -> bytes:
        """Remove what belongs to the body and return its content. Raises InvalidRequest."""


class PlainDecoder:
    """A body of known length."""

    def __init__(self, length: int) -> None:
        self.remaining = length
        self.done = length == 0

    def feed(self, buffer: bytearray) -> bytes:
        data = bytes(buffer[: self.remaining])
        del buffer[: len(data)]
        self.remaining -= len(data)
        self.done = self.remaining == 0
        return data


class ChunkedDecoder:
    """A chunked body; trailers are read and forgotten."""

    def __init__(self) -> None:
        self.done = False
        self._left = 0  # bytes of the current chunk
        self._behind = False  # the line end behind a chunk's bytes is due
        self._trailing = 0  # bytes of trailers, once the last chunk came

    def feed(self, buffer: bytearray) -> bytes:
        parts: list[bytes] = []
        while not self.done:
            if self._left:
                part = bytes(buffer[: self._left])
                del buffer[: len(part)]
                self._left -= len(part)
                self._behind = not self._left
                parts.append(part)
                if self._left:
                    break
                continue
            line = self._line(buffer)
            if line is None:
                break
            self._take(line)
        return b"".join(parts)

    def _line(self, buffer: bytearray) -> bytes | None:
        end = buffer.find(b"\n", 0, _LINE)
        if end < 0:
            if len(buffer) >= _LINE:
                raise InvalidRequest("header line too long")
            return None
        line = bytes(buffer[:end]).removesuffix(b"\r")
        del buffer[: end + 1]
        return line

    def _take(self, line: bytes) -> None:
        if self._behind:
            if line:
                raise InvalidRequest("malformed chunked encoding")
            self._behind = False
        elif self._trailing:
            self._trailing += len(line)
            if self._trailing > 64 * 1024:
                raise InvalidRequest("http: suspiciously long trailer after chunked body")
            self.done = not line
        else:
            self._left = _chunk_size(line)
            self._trailing = 0 if self._left else 1


def _chunk_size(line: bytes) -> int:
    digits = line.partition(b";")[0].strip()
    if not digits or not all(byte in b"0123456789abcdefABCDEF" for byte in digits):
        raise InvalidRequest("invalid byte in chunk length")
    if len(digits) > 15:
        raise InvalidRequest("http chunk length too large")
    return int(digits, 16)


class Body:
    """What a handler reads from, and the connection feeds.

    Args:
        decoder: Knows where the body ends.
        hold: Called with True to hold the sender back, with False to let it go on.
        ask: Called once before the first wait (sends ``100 Continue`` where it is expected).
        wait: Called with True when a reader begins to wait, False when it ends (arms a time-out).
    """

    def __init__(
        self,
        decoder: Decoder,
        hold: Callable[[bool], None],
        ask: Callable[[], None],
        wait: Callable[[bool], None],
    ) -> None:
        self._decoder = decoder
        self._hold = hold
        self._ask = ask
        self._wait = wait
        self._pieces: deque[bytes] = deque()
        self._size = 0
        self._held = False
        self._error: InvalidRequest | None = None
        self._waiter: asyncio.Future[None] | None = None
        self.asked = False

    @property
    def done(self) -> bool:
        """All bytes came from the client (read or not)."""
        return self._decoder.done

    @property
    def failed(self) -> bool:
        """The client ended or broke the body; the connection cannot be used again."""
        return self._error is not None

    @property
    def remaining(self) -> int | None:
        """Bytes still to come; None when only the sender knows."""
        return self._decoder.remaining if isinstance(self._decoder, PlainDecoder) else None

    def feed(self, buffer: bytearray) -> None:
        """Take this body's bytes from the front of *buffer*."""
        if self._error is not None:
            buffer.clear()
            return
        try:
            data = self._decoder.feed(buffer)
        except InvalidRequest as error:
            self._fail(error)
            return
        if data:
            self._pieces.append(data)
            self._size += len(data)
        if self._size > _HIGH and not self._held:
            self._held = True
            self._hold(True)
        self._wake()

    def cut(self) -> None:
        """The sender has ended before the body did. The text is Go's, for JSON readers."""
        if not self.done:
            self._fail(InvalidRequest("unexpected EOF"))

    def _fail(self, error: InvalidRequest) -> None:
        self._error = error
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def next(self) -> bytes:
        """The next piece, b"" at the end. Raises InvalidRequest when the body is cut or broken."""
        while not self._pieces:
            if self._error is not None:
                raise self._error
            if self.done:
                return b""
            await self._arrival()
        piece = self._pieces.popleft()
        self._size -= len(piece)
        if self._held and self._size <= _HIGH // 2:
            self._held = False
            self._hold(False)
        return piece

    async def _arrival(self) -> None:
        if not self.asked:
            self.asked = True
            self._ask()
        self._waiter = asyncio.get_running_loop().create_future()
        self._wait(True)
        try:
            await self._waiter
        finally:
            self._waiter = None
            self._wait(False)

    async def whole(self, limit: int) -> bytes:
        """All of it. Raises BodyTooLarge past *limit* bytes, before more is read."""
        if (self.remaining or 0) + self._size > limit:
            raise BodyTooLarge(f"request body is larger than {limit} bytes")
        pieces: list[bytes] = []
        size = 0
        while piece := await self.next():
            size += len(piece)
            if size > limit:
                raise BodyTooLarge(f"request body is larger than {limit} bytes")
            pieces.append(piece)
        return b"".join(pieces)

    async def chunks(self) -> AsyncIterator[bytes]:
        """Piece by piece, without a limit."""
        while piece := await self.next():
            yield piece

    async def discard(self, limit: int) -> bool:
        """Read the rest away; False if it is longer than *limit* or broken."""
        size = 0
        try:
            while piece := await self.next():
                size += len(piece)
                if size > limit:
                    return False
        except InvalidRequest:
            return False
        return True
