"""The daemon's end of one runner: submit, cancel, events, signs of life.

Knows requests and messages; what a process is, and how it is made to end, is `process`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeAlias

from ollamad.errors import RunnerDied, RunnerFailed
from ollamad.runner.stream import Limits, RunnerStream
from ollamad.wire.channel import MessageStream
from ollamad.wire.messages import (
    Delta,
    Done,
    Down,
    Failed,
    Hello,
    Ping,
    Pong,
    Progress,
    Ready,
    Submit,
    Task,
    Up,
)

#: What a runner says of its load; with `Failed`, the request id is "".
LoadEvent: TypeAlias = Ready | Progress | Failed

#: While requests run, a runner is asked for a sign of life this often, and is taken for hung after so many
#: silent times. Times are counted, not seconds, so that a daemon which was itself stopped blames nobody.
BEAT_S = 5.0
SILENT_BEATS = 6


class Connection:
    """A runner as the scheduler and the services see it.

    `ready` is what it reported when it had loaded. `closed` is set once it has ended and is reaped; `reason`
    then says why, fit for a client. After `closed` no stream is left open.
    """

    ready: Ready

    def __init__(
        self,
        *,
        stop: Callable[[float], Awaitable[None]],
        on_load: Callable[[LoadEvent], None],
        on_wire_closed: Callable[[str], None],
        on_silent: Callable[[], None],
        on_slow: Callable[[str, int], None],
        limits: Limits | None = None,
        beat_s: float = BEAT_S,
    ) -> None:
        self.closed = asyncio.Event()
        self.reason = ""
        self.wire = MessageStream(self._on_messages, on_wire_closed)
        self._stop = stop
        self._on_load = on_load
        self._on_silent = on_silent
        self._on_slow = on_slow
        self._limits = limits or Limits()
        self._streams: dict[str, RunnerStream] = {}
        self._pongs: dict[int, asyncio.Future[Pong]] = {}
        self._pings = 0
        self._loop = asyncio.get_running_loop()
        self._beat_s = beat_s
        self._beat: asyncio.TimerHandle | None = None
        self._heard = True
        self._silent_beats = 0

    @property
    def running(self) -> int:
        """Requests that have been submitted and have neither ended nor been given up."""
        return len(self._streams)

    def submit(self, request_id: str, task: Task, client: str = "") -> RunnerStream:
        """Send one task down and return the stream of its events; close it with `aclose`.

        Raises:
            RunnerDied: The runner has ended.
            WireError: The task is over the size limit of a message; nothing was sent.
        """
        if self.closed.is_set():
            raise RunnerDied(self.reason)
        assert request_id, "an empty id stands for the load"
        assert request_id not in self._streams, "request ids are unique"
        stream = RunnerStream(
            request_id,
            send=self.wire.send,
            forget=self._forget,
            on_slow=self._on_slow,
            limits=self._limits,
        )
        self.send(Submit(request_id, task, client))
        self._streams[request_id] = stream
        if self._beat is None:
            self._heard = True
            self._silent_beats = 0
            self._beat = self._loop.call_later(self._beat_s, self._on_beat)
        return stream

    async def ping(self, timeout_s: float = 3.0) -> Pong:
        """Ask for the runner's counters.

        Raises:
            RunnerDied: It has ended, or did so meanwhile.
            TimeoutError: No answer within *timeout_s*.
        """
        if self.closed.is_set():
            raise RunnerDied(self.reason)
        self._pings += 1
        number = self._pings
        answer: asyncio.Future[Pong] = self._loop.create_future()
        self._pongs[number] = answer
        try:
            self.send(Ping(number))
            async with asyncio.timeout(timeout_s):
                return await answer
        finally:
            del self._pongs[number]

    async def stop(self, grace_s: float = 0.0) -> None:
        """End the runner and wait until it is reaped: it is asked to, and killed after *grace_s* (0: at once).

        Its open streams fail with `RunnerDied`. Safe to call twice; goes on if the caller is cancelled.
        """
        await self._stop(grace_s)

    def send(self, message: Down) -> None:
        """Send a message without waiting."""
        self.wire.send(message)

    def end(self, reason: str) -> None:
        """The process is gone: fail what is open, then set `closed`. Called once, by `process`."""
        self.reason = reason
        if self._beat is not None:
            self._beat.cancel()
        for stream in list(self._streams.values()):
            stream.fail(RunnerDied(reason))
        for answer in self._pongs.values():
            if not answer.done():
                answer.set_exception(RunnerDied(reason))
        self.closed.set()

    def _on_messages(self, messages: list[Up]) -> None:
        self._heard = True
        streams = self._streams
        for message in messages:
            if type(message) is Delta or type(message) is Done:
                stream = streams.get(message.request_id)
                if stream is not None:  # else it was given up, and this is late
                    stream.deliver(message)
            else:
                self._on_other(message)

    def _on_other(self, message: Up) -> None:
        match message:
            case Failed(request_id=""):
                self._on_load(message)
            case Failed():
                stream = self._streams.get(message.request_id)
                if stream is not None:
                    stream.fail(RunnerFailed(message.message, message.kind))
            case Ready() | Progress():
                self._on_load(message)
            case Pong():
                answer = self._pongs.get(message.number)
                if answer is not None and not answer.done():
                    answer.set_result(message)
            case Hello():
                self.wire.fail("a second Hello")

    def _forget(self, request_id: str) -> None:
        self._streams.pop(request_id, None)

    def _on_beat(self) -> None:
        """Look whether the runner lives, as long as requests run."""
        self._beat = None
        if not self._streams:
            return
        self._silent_beats = 0 if self._heard else self._silent_beats + 1
        self._heard = False
        if self._silent_beats >= SILENT_BEATS:
            self._on_silent()
            return
        self.send(Ping(0))
        self._beat = self._loop.call_later(self._beat_s, self._on_beat)
