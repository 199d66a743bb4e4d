"""One connection: bytes in, one request at a time, time-outs, and the client's leaving."""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from ollamad.http.access import AccessRecord
from ollamad.http.authorize import Authorize
from ollamad.http.body import Body, ChunkedDecoder, PlainDecoder
from ollamad.http.exchange import Exchange
from ollamad.http.limits import Limits
from ollamad.http.middleware import Gate
from ollamad.http.parse import Head, HeadError, head_end, parse_head
from ollamad.http.peer import client_of, principal_of
from ollamad.http.turnstile import Turnstile
from ollamad.plugin.frontend import Listener, RequestContext
from ollamad.types import Spawn

log = logging.getLogger("ollamad.http")

#: Bytes of later requests that are taken while one is being answered.
_PIPELINE = 64 * 1024
#: A client that closed only its sending side (``nc -N``) still gets what is answered within this time.
#: The kernel cannot tell it from one that left, whose slot must be free soon.
_HALF_CLOSED_S = 0.05
#: How long a connection that is given up still listens, so that a client in the middle of sending
#: reads our answer and not a reset. Source: net/http, rstAvoidanceDelay.
_LINGER_S = 0.5

_FULL = (
    b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: text/plain; charset=utf-8\r\nRetry-After: 1\r\n"
    b"Content-Length: 20\r\nConnection: close\r\n\r\ntoo many connections"
)


@dataclass(slots=True)
class Shared:
    """What the connections of all listeners have in common."""

    gate: Gate
    limits: Limits
    authorize: Authorize
    access_log: Callable[[AccessRecord], None]
    spawn: Spawn
    draining: bool = False
    turnstile: Turnstile = field(default_factory=Turnstile)


@dataclass(slots=True)
class Place:
    """One listener with its connections. ``idle`` keeps the order in which they became so."""

    listener: Listener
    guard_host: bool
    connections: set[Connection] = field(default_factory=set)
    idle: dict[Connection, None] = field(default_factory=dict)


def new_request_id() -> str:
    """Sorts by time (milliseconds in hexadecimal), then random."""
    return f"{time.time_ns() // 1_000_000:011x}{secrets.token_hex(3)}"


class Connection(asyncio.Protocol):
    """Exactly one of these is under way: waiting for a head, answering one request, or ending."""

    def __init__(self, shared: Shared, place: Place) -> None:
        self._shared = shared
        self._place = place
        self._limits = shared.limits
        self._loop = asyncio.get_running_loop()
        self._transport: Any = None
        self._buffer = bytearray()
        self._searched = 0
        self._timer: asyncio.TimerHandle | None = None
        self._body: Body | None = None
        self._task: asyncio.Task[Any] | None = None
        self._in_line = False  # waits for its turn to begin a request
        self._ended = False  # the peer sends no more
        self._deaf = False  # we read no more requests
        self._writable: asyncio.Future[None] | None = None

    # --- callbacks of the transport ---------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self._principal = principal_of(transport.get_extra_info("socket"))
        self._client = client_of(transport, self._principal)
        if not self._make_room():
            self._finish(_FULL)
            return
        self._place.connections.add(self)
        self._rest()

    def _make_room(self) -> bool:
        """Room for one more; the connection that has been idle longest gives way."""
        if len(self._place.connections) < self._limits.connections:
            return not self._shared.draining
        if not self._place.idle:
            return False
        next(iter(self._place.idle)).close()
        return True

    def data_received(self, data: bytes) -> None:
        if self._deaf:
            return
        self._buffer += data
        if self._body is not None and not self._body.done:
            self._body.feed(self._buffer)
        if self._task is None and not self._in_line:
            self._line_up()
        elif len(self._buffer) > _PIPELINE:
            self._transport.pause_reading()

    def eof_received(self) -> bool:
        self._ended = True
        if self._in_line:
            return True
        if self._task is None:
            return False
        self._expect_no_more()
        return True

    def _expect_no_more(self) -> None:
        """The sender is done while its request runs: cut the body, or give a quick answer its time."""
        if self._body is not None and not self._body.done:
            self._body.cut()
        else:
            self._arm(_HALF_CLOSED_S, self._leave)

    def connection_lost(self, exc: Exception | None) -> None:
        self._deaf = self._ended = True
        self._disarm()
        self._place.connections.discard(self)
        self._place.idle.pop(self, None)
        self.resume_writing()
        self._leave()

    def pause_writing(self) -> None:
        if self._writable is None:
            self._writable = self._loop.create_future()

    def resume_writing(self) -> None:
        if self._writable is not None and not self._writable.done():
            self._writable.set_result(None)
        self._writable = None

    # --- requests ---------------------------------------------------------------------------

    def _rest(self) -> None:
        """Nothing to do until the next request's first byte."""
        self._place.idle[self] = None
        self._arm(self._limits.idle_s, self.close)

    def _line_up(self) -> None:
        """Begin on what came as soon as it is this connection's turn."""
        if self in self._place.idle:
            del self._place.idle[self]
            self._arm(self._limits.header_s, self.close)
        self._in_line = True
        self._shared.turnstile.enter(self._take_turn)

    def _take_turn(self) -> None:
        self._in_line = False
        if self._deaf or self._transport.is_closing():
            return
        self._transport.resume_reading()
        self._next()
        if self._ended and self._task is None:
            self._finish(b"")

    def _next(self) -> None:
        """Start on the next request, if its head is there."""
        if not self._buffer:
            return
        try:
            head = self._take_head()
        except HeadError as error:
            self._finish(error.page())
            return
        if head is not None:
            self._start(head)

    def _take_head(self) -> Head | None:
        end = head_end(self._buffer, self._searched)
        # Go's server reads 4096 bytes more than its limit before it gives up.
        if max(end, len(self._buffer) if end < 0 else 0) > self._limits.header_bytes + 4096:
            raise HeadError(431)
        if end < 0:
            self._searched = len(self._buffer)
            return None
        data = bytes(self._buffer[:end])
        del self._buffer[:end]
        self._searched = 0
        return parse_head(data)

    def _start(self, head: Head) -> None:
        self._disarm()
        decoder = ChunkedDecoder() if head.length is None else PlainDecoder(head.length)
        self._body = Body(decoder, self._hold, self._ask if head.expects_continue else _nothing, self._await_body)
        self._body.feed(self._buffer)
        listener = self._place.listener
        context = RequestContext(
            id=new_request_id(),
            received_ns=time.monotonic_ns(),
            listener=listener.name,
            profile=listener.profile,
            client=self._client,
            principal=self._principal,
        )
        exchange = Exchange(
            head,
            self._body,
            context,
            self._shared.gate.decide(head, listener.profile, self._place.guard_host),
            self,
            authorize=self._shared.authorize,
            access_log=self._shared.access_log,
            body_limit=self._limits.body_bytes,
        )
        self._task = self._shared.spawn(self._serve(exchange), f"http {context.id}")
        if self._ended:
            self._expect_no_more()

    async def _serve(self, exchange: Exchange) -> None:
        try:
            await exchange.run()
        finally:
            self._task = None
            self._disarm()
            self._after(exchange.reusable)

    def _after(self, reusable: bool) -> None:
        body, self._body = self._body, None
        if self._transport.is_closing():
            return
        if not reusable or self._shared.draining:
            self._finish(b"", unread=body is not None and not body.done)
            return
        self._transport.resume_reading()
        if self._buffer:
            self._arm(self._limits.header_s, self.close)
            self._next()
        else:
            self._rest()
        if self._ended and self._task is None:
            self._finish(b"")

    def _leave(self) -> None:
        """The client is gone: whoever works for it stops."""
        if self._task is not None:
            self._task.cancel()

    # --- the body's wishes ------------------------------------------------------------------

    def _hold(self, held: bool) -> None:
        if self._transport.is_closing():
            return
        if held:
            self._transport.pause_reading()
        else:
            self._transport.resume_reading()

    def _ask(self) -> None:
        self.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def _await_body(self, waiting: bool) -> None:
        if waiting:
            self._arm(self._limits.body_s, self.abort)
        else:
            self._disarm()

    # --- writing ----------------------------------------------------------------------------

    @property
    def closing(self) -> bool:
        """Whether this is the last answer here."""
        return self._shared.draining or self._transport.is_closing()

    def write(self, data: bytes) -> None:
        """Send, or drop what a client that left will not read."""
        if data and not self._transport.is_closing():
            self._transport.write(data)

    async def drain(self) -> None:
        """Wait until the client has read enough; one that does not is dropped after ``write_s``."""
        waiter = self._writable
        if waiter is None:
            return
        timer = self._loop.call_later(self._limits.write_s, self._too_slow)
        try:
            await asyncio.shield(waiter)
        finally:
            timer.cancel()

    def _too_slow(self) -> None:
        log.warning("%s stopped reading its answer: connection dropped", self._client)
        self.abort()

    # --- ending -----------------------------------------------------------------------------

    def _finish(self, last: bytes, *, unread: bool = True) -> None:
        """Send *last* and close; with *unread* input first only the sending side, or the answer gets lost."""
        self._deaf = True
        self._buffer.clear()
        self._place.idle.pop(self, None)
        self.write(last)
        if not unread or self._ended or not self._transport.can_write_eof():
            self._end()
            return
        self._transport.write_eof()
        self._transport.resume_reading()
        self._arm(_LINGER_S, self._end)

    def close(self) -> None:
        """Close between two requests, or in the middle of a head."""
        self._deaf = True
        self._disarm()
        self._place.idle.pop(self, None)
        self._end()

    def _end(self) -> None:
        """Close once all is sent; a client that does not read keeps nothing open longer than ``write_s``."""
        self._transport.close()
        if self._transport.get_write_buffer_size():
            self._arm(self._limits.write_s, self.abort)

    def abort(self) -> None:
        """Drop the connection at once; `connection_lost` stops the work for it."""
        self._transport.abort()

    @property
    def busy(self) -> asyncio.Task[Any] | None:
        """The task that answers a request just now."""
        return self._task

    def _arm(self, delay_s: float, action: Callable[[], None]) -> None:
        self._disarm()
        self._timer = self._loop.call_later(delay_s, action)

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def _nothing() -> None:
    """A sender that did not ask sends its body anyway."""
