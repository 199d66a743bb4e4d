"""A child's end of a connection. Apart from `channel`, because asyncio takes 20 ms of a runner's start."""

from __future__ import annotations

import socket
import threading
from collections import deque
from collections.abc import Iterable
from contextlib import suppress
from typing import cast

from ollamad.wire.codec import check_version, decode, encode
from ollamad.wire.framing import PIECE_BYTES, FrameDecoder, PieceQueue
from ollamad.wire.messages import (
    PROTOCOL_VERSION,
    Cancel,
    Delta,
    Done,
    Down,
    Failed,
    Hello,
    Pause,
    Ping,
    Pong,
    Stop,
    Submit,
    Up,
)

_URGENT = frozenset({Hello, Cancel, Pause, Ping, Pong, Stop})
_OF_A_REQUEST = frozenset({Submit, Delta, Done, Failed})
_RECEIVE_BYTES = 64 * 1024
#: A sender of the child waits while this much is unsent: the daemon always reads, unless it is stopped.
_UNSENT_LIMIT_BYTES = 8 * 1024 * 1024


def put(queue: PieceQueue, messages: Iterable[Down | Up]) -> None:
    """Queue all *messages* in their lanes, or none. A `Cancel` takes back a `Submit` that has not left."""
    payloads = [(message, encode(message)) for message in messages]
    for _, payload in payloads:
        queue.check(payload)
    for message, payload in payloads:
        if type(message) is Cancel and queue.withdraw(message.request_id):
            continue
        lane = message.request_id if type(message) in _OF_A_REQUEST else ""  # type: ignore[union-attr]
        queue.put(payload, lane, urgent=type(message) in _URGENT)


class SocketChannel:
    """A child's end: blocking, `send` from any thread, `receive` from one.

    Call `handshake` first. A sender writes what others queued meanwhile; nobody waits for the peer, unless
    more than 8 MiB are unsent.
    """

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(True)
        self._sock = sock
        self._decoder = FrameDecoder()
        self._buffer = memoryview(bytearray(_RECEIVE_BYTES))
        self._received: deque[Down] = deque()
        self._queue = PieceQueue()
        self._changed = threading.Condition()
        self._writing = False
        self._gone = False

    def handshake(self, pid: int = 0) -> Hello:
        """Exchange `Hello`s and return the peer's.

        Raises:
            WireError: The peer closed, or began with something else.
            VersionMismatch: The versions differ.
        """
        try:
            self.send(Hello(PROTOCOL_VERSION, pid))
        except ConnectionError:
            return check_version(None)
        return check_version(self.receive())

    def send(self, message: Up) -> None:
        """Send *message*; see `send_all`."""
        self.send_all((message,))

    def send_all(self, messages: Iterable[Up]) -> None:
        """Send messages in order, small ones in one write.

        Raises:
            ConnectionError: The peer is gone.
            WireError: A message is over the size limit; none of them was sent.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._gone or self._queue.size_bytes < _UNSENT_LIMIT_BYTES)
            if self._gone:
                raise ConnectionResetError("the peer of the channel is gone")
            put(self._queue, messages)
            if self._writing:
                return
            self._writing = True
        self._write_queued()

    def receive(self) -> Down | None:
        """Return the next message; None when the peer has closed.

        Raises:
            WireError: The peer sent what is no message; the channel is of no further use.
        """
        while not self._received:
            try:
                size = self._sock.recv_into(self._buffer)
            except ConnectionError:
                return None
            if not size:
                return None
            data = bytes(self._buffer[:size])
            self._received.extend(cast(Down, decode(payload, down=True)) for payload in self._decoder.feed(data))
        return self._received.popleft()

    def close(self) -> None:
        """Close the socket; a `receive` in another thread returns None."""
        with self._changed:
            self._gone = True
            self._changed.notify_all()
        with suppress(OSError):  # the peer was first
            self._sock.shutdown(socket.SHUT_RDWR)
        self._sock.close()

    def _write_queued(self) -> None:
        """Write until nothing is queued; the caller has set `_writing`."""
        try:
            while (data := self._next_frames()) is not None:
                self._sock.sendall(data)
        except OSError as error:
            with self._changed:
                self._gone = True
                self._writing = False
                self._changed.notify_all()
            raise ConnectionResetError("the peer of the channel is gone") from error

    def _next_frames(self) -> bytes | None:
        """Return frames of up to about one piece in one buffer, None (and the writer's role given up) at the end."""
        with self._changed:
            frames: list[bytes] = []
            size = 0
            while size < PIECE_BYTES and (data := self._queue.pop()) is not None:
                frames.append(data)
                size += len(data)
            self._changed.notify_all()
            if not frames:
                self._writing = False
                return None
            return b"".join(frames)
