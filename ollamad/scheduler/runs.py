"""The rows of the scheduler's tables: a run, a waiting request, a load's second attempt."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from ollamad.scheduler.plan import LearnedKey, Limits, Plan
from ollamad.scheduler.wish import Loaded, Wish
from ollamad.types import FOREVER_NS
from ollamad.wire.messages import LoadSpec, Ready

RunState: TypeAlias = Literal["loading", "ready", "stopping"]


@dataclass(frozen=True, slots=True)
class Waiting:
    """A request without a slot. ``sequence`` numbers arrivals over all models."""

    request_id: str
    wish: Wish
    sequence: int
    keep_alive_ns: int | None = None
    default_keep_alive_ns: int | None = None


@dataclass(frozen=True, slots=True)
class Attempt:
    """How the next load of a model differs from the plain one. ``alone``: everything else goes first."""

    retried: bool = False
    limits: Limits = Limits()
    alone: bool = False


FIRST_ATTEMPT = Attempt()


@dataclass(slots=True)
class Run:
    """One start of a runner, from the decision to load until its process is gone.

    Attributes:
        expires_at: End of the time it is kept while idle; None while busy.
        closing_at: Arrival number up to which requests are still served; None while it is not closing.
        use: Bytes by device: expected while loading, reported once ready.
        reason: Why a loaded model was replaced by this run; "" if none was.
        ready_sequence: The last arrival number when it became ready: who came later did not wait for the load.
    """

    number: int
    key: str
    plan: Plan
    hold_ns: int
    reason: str = ""
    state: RunState = "loading"
    slots: int = 1
    leases: dict[str, None] = field(default_factory=dict)
    expires_at: int | None = None
    closing_at: int | None = None
    closing_reason: str = ""
    ready: Ready | None = None
    ready_sequence: int = 0
    use: dict[str, int] = field(default_factory=dict)
    loaded: Loaded = field(init=False)

    def __post_init__(self) -> None:
        self.loaded = self.plan.loaded
        self.slots = self.plan.spec.slots
        self.use = dict(self.plan.use)

    @property
    def spec(self) -> LoadSpec:
        """What the runner was started with."""
        return self.plan.spec

    @property
    def learned_key(self) -> LearnedKey:
        """Under which its real memory is remembered."""
        return self.plan.learned_key

    @property
    def is_idle(self) -> bool:
        """Ready, and nobody has a slot."""
        return self.state == "ready" and not self.leases

    @property
    def mapped_bytes(self) -> int:
        """Bytes of files that are mapped into memory rather than read."""
        return sum(ref.size_bytes for ref in self.spec.weights) if self.spec.use_mmap else 0

    def expires_at_or_estimate(self, now: int) -> int:
        """When it goes: at once when closing, and while busy as if it became idle now."""
        if self.closing_at is not None:
            return now
        return self.expires_at if self.expires_at is not None else now + self.hold_ns


def hold_time(keep_alive_ns: int) -> int:
    """A keep-alive as a hold time: negative is for ever."""
    return keep_alive_ns if 0 <= keep_alive_ns < FOREVER_NS else FOREVER_NS


def victim_order(runs: Iterable[Run]) -> list[Run]:
    """Who goes first: shortest hold time (for ever is the longest), then the key."""
    return sorted(runs, key=lambda run: (run.hold_ns, run.key))
