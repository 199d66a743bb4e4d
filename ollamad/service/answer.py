"""A running answer: a runner's events in the words of the services, and the lease that it holds."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Protocol

from ollamad.errors import InvalidRequest, OllamadError, PromptTooLong, RequestCancelled, RunnerFailed, Unsupported
from ollamad.scheduler.lease import Lease
from ollamad.types import Event, Finished, Piece
from ollamad.wire.messages import Delta, Done

#: What clients know a runner's own failure by.
RUNNER_ERROR = "an error was encountered while running the model: "


class RunnerEvents(Protocol):
    """What `Connection.submit` returns: `Delta`s and one `Done`, or `RunnerFailed` or `RunnerDied`."""

    def __aiter__(self) -> AsyncIterator[Delta | Done]: ...
    async def aclose(self) -> None: ...


def translate(error: RunnerFailed) -> OllamadError:
    """Say whose fault a failed task is: the caller's input, or the runner (``kind`` is kept)."""
    text = str(error)
    match error.kind:
        case "invalid":
            return InvalidRequest(text)
        case "too_long":
            return PromptTooLong(text)
        case "unknown_task":
            return Unsupported(text)
        case "cancelled":
            return RequestCancelled()
        case "internal" | "memory" if not text.startswith(RUNNER_ERROR):
            return RunnerFailed(RUNNER_ERROR + text, error.kind)
    return error


class RunnerAnswer:
    """Iterate it for `Piece`s and one last `Finished`. The lease is given back at the end, an error, or `aclose`.

    Attributes:
        load_ns: From the request's arrival until the runner was handed over.
        queue_ns: The part of it spent waiting for a slot of a model that was loaded.
        reload_reason: Why a loaded model was replaced for this request; "" if none was.
    """

    def __init__(self, events: RunnerEvents, lease: Lease, release: AsyncExitStack, load_ns: int) -> None:
        self.load_ns = load_ns
        self.queue_ns = lease.slot_wait_ns
        self.reload_reason = lease.reload_reason
        self._events = events
        self._source = events.__aiter__()
        self._report_memory_failure = lease.report_memory_failure
        self._release = release
        self._ended = False

    def __aiter__(self) -> AsyncIterator[Event]:
        return self

    async def __anext__(self) -> Event:
        if self._ended:
            raise StopAsyncIteration
        try:
            event = await anext(self._source)
        except RunnerFailed as error:
            await self.aclose()
            if error.kind == "memory":
                self._report_memory_failure()
            raise translate(error) from error
        except BaseException:
            # Died, cancelled, or (never, by contract) ended without a last event: the slot is free all the same.
            await self.aclose()
            raise
        if isinstance(event, Delta):
            return Piece(event.text, event.kind, event.index)
        await self.aclose()
        return self._finished(event)

    def _finished(self, done: Done) -> Finished:
        return Finished(
            reason="length" if done.reason == "length" else "stop",
            timings=done.timings,
            load_ns=self.load_ns,
            context=done.tokens or None,
            prompt_cut_tokens=done.prompt_cut_tokens,
            messages_dropped=done.messages_dropped,
            context_shifts=done.context_shifts,
        )

    async def aclose(self) -> None:
        """Cancel what still runs and give the slot back. Safe to call twice."""
        self._ended = True
        try:
            await self._events.aclose()
        finally:
            await self._release.aclose()
