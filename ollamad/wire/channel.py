"""Messages over a socket: `MessageStream` for the daemon's event loop, `SocketChannel` for a child's threads."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import cast

from ollamad.errors import WireError
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
#: One buffer per connection, used again for each read: asyncio's own protocol allocates 256 KiB a time, which cost
#: 0.4 ms here, ten times the rest of a step's work.
_RECEIVE_BYTES = 64 * 1024
#: A sender of the child waits while this much is unsent: the daemon always reads, unless it is stopped.
_UNSENT_LIMIT_BYTES = 8 * 1024 * 1024


def _put(queue: PieceQueue, messages: Iterable[Down | Up]) -> None:
    """Queue all *messages* in their lanes, or none. A `Cancel` takes back a `Submit` that has not left."""
    payloads = [(message, encode(message)) for message in messages]
    for _, payload in payloads:
        queue.check(payload)
    for message, payload in payloads:
        if type(message) is Cancel and queue.withdraw(message.request_id):
            continue
        lane = message.request_id if type(message) in _OF_A_REQUEST else ""  # type: ignore[union-attr]
        queue.put(payload, lane, urgent=type(message) in _URGENT)


class MessageStream(asyncio.BufferedProtocol):
    """The daemon's end. Give it to ``loop.create_connection(lambda: stream, sock=...)``.

    `on_messages` is called once per read with all messages that it completed; `on_closed` once, with the
    reason ("" when the peer closed). Neither may raise. `send` never waits: what the socket does not
    take at once is queued in pieces.
    """

    def __init__(self, on_messages: Callable[[list[Up]], None], on_closed: Callable[[str], None]) -> None:
        self._on_messages = on_messages
        self._on_closed = on_closed
        self._decoder = FrameDecoder()
        self._buffer = memoryview(bytearray(_RECEIVE_BYTES))
        self._queue = PieceQueue()
        self._transport: asyncio.Transport | None = None
        self._blocked = False
        self._greeted = False
        self._reason: str | None = None

    @property
    def unsent_bytes(self) -> int:
        """Bytes that wait to be written, without those that the transport holds."""
        return self._queue.size_bytes

    def send(self, message: Down) -> None:
        """Write *message* or queue it; after the end it is dropped.

        Raises:
            WireError: It is over the size limit; nothing was sent.
        """
        if self._transport is None or self._reason is not None:
            return
        _put(self._queue, (message,))
        self._pump()

    def close(self) -> None:
        """Close without waiting for what is unsent; `on_closed` follows, with "" as for a peer that closed."""
        self.fail("")

    def fail(self, reason: str) -> None:
        """Close because the peer broke a rule; the first reason stays."""
        if self._reason is None:
            self._reason = reason
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(high=PIECE_BYTES)
        self.send(Hello(PROTOCOL_VERSION))

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        if self._reason is not None:
            return
        messages: list[Up] = []
        error = ""
        try:
            for payload in self._decoder.feed(bytes(self._buffer[:nbytes])):
                message = cast(Up, decode(payload, down=False))
                if self._greeted:
                    messages.append(message)
                else:
                    check_version(message)
                    self._greeted = True
        except WireError as raised:
            error = str(raised)
        if messages:
            self._on_messages(messages)
        if error:
            self.fail(error)

    def pause_writing(self) -> None:
        self._blocked = True

    def resume_writing(self) -> None:
        self._blocked = False
        self._pump()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._reason is None:
            self._reason = "" if exc is None or isinstance(exc, ConnectionError) else str(exc)
        self._on_closed(self._reason)

    def _pump(self) -> None:
        assert self._transport is not None
        while not self._blocked and (data := self._queue.pop()) is not None:
            self._transport.write(data)


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
            _put(self._queue, messages)
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
