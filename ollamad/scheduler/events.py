"""What goes into the scheduler's core and what comes out.

Events are past tense and carry ``now`` (monotonic nanoseconds). Effects are imperative; the loop
carries them out and answers with events. A *run* is one start of a runner: its number is never used
again, so that a late event cannot be taken for one about a successor.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from ollamad.scheduler.placement import HostMemory
from ollamad.scheduler.plan import LearnedKey
from ollamad.scheduler.settings import SchedulerSettings
from ollamad.scheduler.wish import Wish
from ollamad.types import Device, Memory
from ollamad.wire.messages import LoadSpec, Ready


@dataclass(frozen=True, slots=True)
class RequestArrived:
    """A request wants a slot.

    ``keep_alive_ns`` None: as the loaded model has it; negative: for ever. ``default_keep_alive_ns`` is what
    a fresh load of this model gets; None: what the settings say.
    """

    now: int
    request_id: str
    wish: Wish
    keep_alive_ns: int | None = None
    default_keep_alive_ns: int | None = None


@dataclass(frozen=True, slots=True)
class RequestCancelled:
    """The client left: a waiting request is forgotten, a lease given back."""

    now: int
    request_id: str


@dataclass(frozen=True, slots=True)
class LeaseReleased:
    """A request has ended and gives its slot back."""

    now: int
    request_id: str


@dataclass(frozen=True, slots=True)
class LoadSucceeded:
    """A run is ready; ``ready`` has bytes, slots and context as loaded."""

    now: int
    run: int
    ready: Ready


@dataclass(frozen=True, slots=True)
class LoadFailed:
    """A run did not become ready; nothing of it is left. ``memory``: for lack of memory."""

    now: int
    run: int
    error: Exception
    memory: bool = False


@dataclass(frozen=True, slots=True)
class RunnerExited:
    """A ready runner ended by itself; its requests were told by their connection."""

    now: int
    run: int


@dataclass(frozen=True, slots=True)
class RunnerStopped:
    """What `StopRunner` or `AbortLoad` asked for is done: process and memory are gone."""

    now: int
    run: int


@dataclass(frozen=True, slots=True)
class MemoryFailed:
    """A request ran out of memory while running: everything loaded goes when idle."""

    now: int


@dataclass(frozen=True, slots=True)
class TimerFired:
    """The time of `SetTimer` has come (or any other time: a premature timer is harmless)."""

    now: int


@dataclass(frozen=True, slots=True)
class UnloadAsked:
    """A client wants this model gone as soon as it is idle."""

    now: int
    key: str


@dataclass(frozen=True, slots=True)
class DrainAsked:
    """Take no more requests; finish those that have a slot."""

    now: int


@dataclass(frozen=True, slots=True)
class StopAsked:
    """Let every runner go now, idle or not."""

    now: int


@dataclass(frozen=True, slots=True)
class DevicesFound:
    """The probe has answered, or was given up."""

    now: int
    devices: tuple[Device, ...]


@dataclass(frozen=True, slots=True)
class HostMemoryRead:
    """Main memory as it is now."""

    now: int
    memory: HostMemory


@dataclass(frozen=True, slots=True)
class SettingsChanged:
    """Other settings; they act on the next decision."""

    now: int
    settings: SchedulerSettings


Event: TypeAlias = (
    RequestArrived
    | RequestCancelled
    | LeaseReleased
    | LoadSucceeded
    | LoadFailed
    | RunnerExited
    | RunnerStopped
    | MemoryFailed
    | TimerFired
    | UnloadAsked
    | DrainAsked
    | StopAsked
    | DevicesFound
    | HostMemoryRead
    | SettingsChanged
)


@dataclass(frozen=True, slots=True)
class StartRunner:
    """Load this; answered by `LoadSucceeded` or `LoadFailed`. ``reason``: what it replaces and why, "" if nothing."""

    run: int
    key: str
    spec: LoadSpec
    reason: str = ""


@dataclass(frozen=True, slots=True)
class AbortLoad:
    """Nobody waits for this load any more; answered by `RunnerStopped`."""

    run: int


@dataclass(frozen=True, slots=True)
class StopRunner:
    """Let this ready runner go; answered by `RunnerStopped`. ``reason`` is for the log."""

    run: int
    reason: str


@dataclass(frozen=True, slots=True)
class GrantLease:
    """The request has a slot of this run. ``reason`` is why the model was loaded for it, "" if it was there."""

    request_id: str
    run: int
    reason: str = ""


@dataclass(frozen=True, slots=True)
class RefuseRequest:
    """The request gets no slot, and will hear why."""

    request_id: str
    error: Exception


@dataclass(frozen=True, slots=True)
class SetTimer:
    """Send `TimerFired` at this time; replaces the one before. None: no timer."""

    at: int | None


@dataclass(frozen=True, slots=True)
class RememberMemory:
    """What a load really took, worth keeping over a restart."""

    key: LearnedKey
    memory: tuple[Memory, ...]


Effect: TypeAlias = StartRunner | AbortLoad | StopRunner | GrantLease | RefuseRequest | SetTimer | RememberMemory
