"""The scheduler's border: who asks, what a lease gives, what is loaded, and what a runner host must do."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from ollamad.types import LoadParameters, Memory, ResolvedModel
from ollamad.wire.messages import LoadSpec, Pong, Ready, Task


class RunnerConnection(Protocol):
    """What the scheduler and its clients use of `runner.connection.Connection`."""

    ready: Ready
    closed: asyncio.Event
    reason: str

    def submit(self, request_id: str, task: Task) -> Any: ...
    async def ping(self, timeout_s: float) -> Pong: ...
    async def stop(self, grace_s: float) -> None: ...


class Host(Protocol):
    """Where runners are started: `runner.host.RunnerHost`, or a fake."""

    async def start(self, spec: LoadSpec, *, stall_timeout_ns: int | None = None) -> RunnerConnection:
        """Start a runner and wait until it is ready; cancelling it leaves no process behind.

        ``stall_timeout_ns`` is the longest time without a sign of life; None, 0 or less means no limit.
        """


@dataclass(frozen=True, slots=True)
class LeaseRequest:
    """Who asks for which model, loaded how. ``keep_alive_ns`` as in `InferenceRequest`.

    ``default_keep_alive_ns`` is what the configuration says for this model, None if it says nothing.
    """

    context_id: str
    model: ResolvedModel
    load: LoadParameters
    keep_alive_ns: int | None = None
    shift: bool | None = None
    default_keep_alive_ns: int | None = None


@dataclass(slots=True)
class Lease:
    """The right to use a runner. Times are nanoseconds.

    Attributes:
        load_ns: From asking until the runner was handed over: queueing, eviction and loading.
        slot_wait_ns: The part of it in which the model was loaded, but had no free slot.
        reload_reason: Why a loaded model was replaced for this request; "" if none was.
        num_ctx: Tokens per slot as loaded.
    """

    connection: RunnerConnection
    ready: Ready
    load_ns: int
    slot_wait_ns: int
    reload_reason: str
    num_ctx: int
    load: LoadParameters
    report_memory_failure: Callable[[], None]


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A loaded model as others may see it. ``expires_at`` is Unix seconds, None for never."""

    key: str
    model: ResolvedModel
    memory: tuple[Memory, ...]
    size_bytes: int
    size_vram_bytes: int
    num_ctx: int
    slots: int
    busy: int
    expires_at: float | None
    closing: bool
