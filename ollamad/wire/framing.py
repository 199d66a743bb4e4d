"""Payloads as frames on an ordered byte stream: pure, no socket, no message types.

A frame is ``length:u32 flags:u8 number:u32`` (big endian) and ``length`` bytes. A payload of at most
64 KiB is one frame with number 0. A larger one travels as pieces that share a number and end with
the `LAST` flag, so that frames of other lanes, and urgent ones before all, slip in between.
Within a lane (a request id) order is kept.
"""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Iterator

from ollamad.errors import WireError

HEADER = struct.Struct(">IBI")
PIECE_BYTES = 64 * 1024
#: Most bytes of one payload, and of all payloads that a reader has in part.
MAX_MESSAGE_BYTES = 256 * 1024 * 1024
#: Most payloads that may be in part at once; far above the slots and the queue of one runner.
MAX_PARTIAL = 4096

LAST = 1
ABORT = 2


class FrameDecoder:
    """Turns bytes, cut anywhere, into payloads.

    After a `WireError` the decoder is of no further use: the stream has lost its place.
    """

    def __init__(self, *, max_message_bytes: int = MAX_MESSAGE_BYTES) -> None:
        self._rest = bytearray()
        self._partial: dict[int, bytearray] = {}
        self._partial_bytes = 0
        self._max_bytes = max_message_bytes

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Yield the payloads that *data* completes, in order; has to be exhausted.

        Raises:
            WireError: A header that no peer of ours writes, or more than the limits.
        """
        if self._rest:
            self._rest += data
            data = bytes(self._rest)
        start, size = 0, len(data)
        while size - start >= HEADER.size:
            length, flags, number = HEADER.unpack_from(data, start)
            self._check(length, flags, number)
            end = start + HEADER.size + length
            if end > size:
                break
            payload = self._take(data[start + HEADER.size : end], flags, number)
            if payload is not None:
                yield payload
            start = end
        self._rest = bytearray(data[start:])

    def _check(self, length: int, flags: int, number: int) -> None:
        if length > PIECE_BYTES or flags not in (0, LAST, ABORT):
            raise WireError(f"no frame of ours: length {length}, flags {flags}")
        if (number == 0 and flags != LAST) or (length == 0 and flags != ABORT) or (flags == ABORT and length):
            raise WireError(f"no frame of ours: length {length}, flags {flags}, number {number}")

    def _take(self, piece: bytes, flags: int, number: int) -> bytes | None:
        """Return the payload that *piece* completes, if it does."""
        if number == 0:
            return piece
        if flags == ABORT:
            self._partial_bytes -= len(self._partial.pop(number, b""))
            return None
        buffer = self._partial.setdefault(number, bytearray())
        buffer += piece
        self._partial_bytes += len(piece)
        if self._partial_bytes > self._max_bytes or len(self._partial) > MAX_PARTIAL:
            raise WireError(f"more than {self._max_bytes} bytes or {MAX_PARTIAL} messages in pieces")
        if flags != LAST:
            return None
        del self._partial[number]
        self._partial_bytes -= len(buffer)
        return bytes(buffer)


class _Outgoing:
    """A payload and how far it was sent."""

    __slots__ = ("number", "payload", "sent")

    def __init__(self, payload: bytes, number: int) -> None:
        self.payload = payload
        self.number = number
        self.sent = 0

    def next_frame(self) -> bytes:
        piece = self.payload[self.sent : self.sent + PIECE_BYTES]
        self.sent += len(piece)
        flags = LAST if self.complete else 0
        return HEADER.pack(len(piece), flags, self.number) + piece

    @property
    def complete(self) -> bool:
        return self.sent >= len(self.payload)


class PieceQueue:
    """What waits to be written: urgent payloads first, then one piece of each lane in turn."""

    def __init__(self, *, max_message_bytes: int = MAX_MESSAGE_BYTES) -> None:
        self._urgent: deque[_Outgoing] = deque()
        self._aborts: deque[bytes] = deque()
        self._lanes: dict[str, deque[_Outgoing]] = {}
        self._turns: deque[str] = deque()
        self._numbers = 0
        self._max_bytes = max_message_bytes
        self.size_bytes = 0

    def __bool__(self) -> bool:
        return bool(self._urgent or self._turns or self._aborts)

    def check(self, payload: bytes) -> None:
        """Raise `WireError` if *payload* is larger than the reader would take."""
        if len(payload) > self._max_bytes:
            raise WireError(f"a message of {len(payload)} bytes is over the limit of {self._max_bytes}")

    def put(self, payload: bytes, lane: str, *, urgent: bool = False) -> None:
        """Queue *payload*, which passed `check`."""
        outgoing = _Outgoing(payload, self._next_number() if len(payload) > PIECE_BYTES else 0)
        self.size_bytes += len(payload)
        if urgent:
            self._urgent.append(outgoing)
            return
        waiting = self._lanes.get(lane)
        if waiting is None:
            self._lanes[lane] = deque((outgoing,))
            self._turns.append(lane)
        else:
            waiting.append(outgoing)

    def pop(self) -> bytes | None:
        """Return the next frame, None when nothing waits."""
        if self._aborts:
            return self._aborts.popleft()
        if self._urgent:
            return self._advance(self._urgent)
        if not self._turns:
            return None
        lane = self._turns.popleft()
        waiting = self._lanes[lane]
        data = self._advance(waiting)
        if waiting:
            self._turns.append(lane)
        else:
            del self._lanes[lane]
        return data

    def withdraw(self, lane: str) -> bool:
        """Forget what of *lane* is not yet written; False if nothing was waiting."""
        waiting = self._lanes.pop(lane, None)
        if waiting is None:
            return False
        self._turns.remove(lane)
        for outgoing in waiting:
            self.size_bytes -= len(outgoing.payload) - outgoing.sent
            if outgoing.sent:
                self._aborts.append(HEADER.pack(0, ABORT, outgoing.number))
        return True

    def _advance(self, waiting: deque[_Outgoing]) -> bytes:
        data = waiting[0].next_frame()
        self.size_bytes -= len(data) - HEADER.size
        if waiting[0].complete:
            waiting.popleft()
        return data

    def _next_number(self) -> int:
        self._numbers = self._numbers % 0xFFFF_FFFF + 1
        return self._numbers
