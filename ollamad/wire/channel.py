"""Messages over a socket: the daemon's end, for its event loop; `socket_channel` is the other."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import cast

from ollamad.errors import WireError
from ollamad.wire.codec import check_version, decode
from ollamad.wire.framing import PIECE_BYTES, FrameDecoder, PieceQueue
from ollamad.wire.messages import (
    PROTOCOL_VERSION,
    Down,
    Hello,
    Up,
)
from ollamad.wire.socket_channel import put

#: One buffer per connection, used again for each read: asyncio's own protocol allocates 256 KiB a time, which cost
#: 0.4 ms here, ten times the rest of a step's work.
_RECEIVE_BYTES = 64 * 1024


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
        put(self._queue, (message,))
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
