"""The events of one request on their way from a runner to whoever asked, however slowly that one reads.

The runner's reader never waits: what is not taken is kept here, then merged, then the runner is told to
pause the sequence, and a reader that takes nothing for 30 s loses its request.
"""

from __future__ import annotations

import asyncio
import io
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from ollamad.errors import OllamadError, RunnerFailed
from ollamad.wire.messages import Cancel, Delta, Done, Down, Pause


@dataclass(frozen=True, slots=True)
class Limits:
    """Pending bytes per request from which deltas are merged, the sequence paused, the request given up.

    The last one is for a runner that goes on although it was told to pause.
    """

    merge_bytes: int = 256 * 1024
    pause_bytes: int = 1024 * 1024
    give_up_bytes: int = 8 * 1024 * 1024
    patience_s: float = 30.0


#: What a delta costs beside its text: one that holds a letter is an object all the same.
_DELTA_BYTES = 128


class _Merged:
    """Several deltas of one kind and choice in one buffer."""

    __slots__ = ("buffer", "first", "size_bytes")

    def __init__(self, first: Delta) -> None:
        self.first = first
        self.buffer = io.StringIO(newline="")
        self.buffer.write(first.text)
        self.size_bytes = 0

    def delta(self) -> Delta:
        return Delta(self.first.request_id, self.buffer.getvalue(), self.first.kind, self.first.index)


def _size(text: str) -> int:
    """At least the bytes of *text* in UTF-8, without encoding it."""
    return len(text) if text.isascii() else 4 * len(text)


class RunnerStream:
    """An async iterator of `Delta`s and one `Done`; for one reader.

    After `Done` or an error nothing follows. `aclose` may come at any time and returns at once.
    """

    def __init__(
        self,
        request_id: str,
        *,
        send: Callable[[Down], None],
        forget: Callable[[str], None],
        on_slow: Callable[[str, int], None],
        limits: Limits,
    ) -> None:
        self.request_id = request_id
        self._send = send
        self._forget = forget
        self._on_slow = on_slow
        self._limits = limits
        self._loop = asyncio.get_running_loop()
        self._pending: deque[Delta | _Merged | Done] = deque()
        self._pending_bytes = 0
        self._state: Literal["open", "ended", "closed"] = "open"
        self._error: OllamadError | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._patience: asyncio.TimerHandle | None = None
        self._taken_at = 0.0

    @property
    def pending_bytes(self) -> int:
        """About how much memory waits for the reader."""
        return self._pending_bytes

    @property
    def paused(self) -> bool:
        """Whether the runner was told to pause this request."""
        return self._patience is not None

    def __aiter__(self) -> RunnerStream:
        return self

    async def __anext__(self) -> Delta | Done:
        """Return the next event.

        Raises:
            RunnerFailed: The runner refused or failed the request, or this reader was too slow.
            RunnerDied: The runner ended; what it sent before was returned first.
        """
        while not self._pending:
            if self._error is not None:
                raise self._error
            if self._state != "open":
                raise StopAsyncIteration
            assert self._waiter is None, "a stream has one reader"
            self._waiter = self._loop.create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        return self._take()

    async def aclose(self) -> None:
        """Give the request up if it has not ended: the runner is told, its late messages are dropped."""
        if self._state == "open":
            self._send(Cancel(self.request_id))
        self._close("closed")

    def deliver(self, event: Delta | Done) -> None:
        """Take an event from the runner. Never waits."""
        if type(event) is Delta:
            self._keep(event)
        else:
            self._pending.append(event)
            self._end()
        self._wake()

    def fail(self, error: OllamadError) -> None:
        """End with *error*, after what is pending."""
        if self._state == "open":
            self._error = error
            self._end()
            self._wake()

    def _keep(self, delta: Delta) -> None:
        last = self._pending[-1] if self._pending_bytes > self._limits.merge_bytes else None
        size = _size(delta.text)
        if isinstance(last, Delta) and (last.kind, last.index) == (delta.kind, delta.index):
            merged = _Merged(last)
            merged.size_bytes = _size(last.text) + _DELTA_BYTES
            self._pending[-1] = last = merged
        if isinstance(last, _Merged) and (last.first.kind, last.first.index) == (delta.kind, delta.index):
            last.buffer.write(delta.text)
            last.size_bytes += size
        else:
            size += _DELTA_BYTES
            self._pending.append(delta)
        self._pending_bytes += size
        if self._pending_bytes > self._limits.pause_bytes:
            self._press()

    def _press(self) -> None:
        """Slow the runner down, or give up when that did not help."""
        if self._pending_bytes > self._limits.give_up_bytes:
            self._give_up()
        elif self._patience is None:
            self._send(Pause(self.request_id, True))
            self._taken_at = self._loop.time()
            self._patience = self._loop.call_later(self._limits.patience_s, self._check_reader)

    def _check_reader(self) -> None:
        left = self._taken_at + self._limits.patience_s - self._loop.time()
        if left > 0:
            self._patience = self._loop.call_later(left, self._check_reader)
        else:
            self._give_up()

    def _give_up(self) -> None:
        self._send(Cancel(self.request_id))
        self._on_slow(self.request_id, self._pending_bytes)
        self._close("ended")
        self._error = RunnerFailed("the client reads too slowly", kind="slow_reader")
        self._wake()

    def _take(self) -> Delta | Done:
        event = self._pending.popleft()
        if isinstance(event, Done):
            return event
        if isinstance(event, _Merged):
            self._pending_bytes -= event.size_bytes
            event = event.delta()
        else:
            self._pending_bytes -= _size(event.text) + _DELTA_BYTES
        if self._patience is not None:
            self._taken_at = self._loop.time()
            if self._pending_bytes <= self._limits.merge_bytes:
                self._patience.cancel()
                self._patience = None
                self._send(Pause(self.request_id, False))
        return event

    def _end(self) -> None:
        """The runner has said its last word; what is pending stays readable."""
        self._state = "ended"
        self._forget(self.request_id)
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None

    def _close(self, state: Literal["ended", "closed"]) -> None:
        if self._state == "open":
            self._end()
        self._state = state
        self._pending.clear()
        self._pending_bytes = 0
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
