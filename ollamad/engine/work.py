"""What the engine is asked and what it answers: frozen values, and the listener that gets them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, Protocol

from ollamad.types import SamplingParameters, Timings

#: Why a piece of work ended. ``stop``: end-of-generation token, or the listener said so.
Reason = Literal["stop", "length", "cancelled", "failed"]


@dataclass(frozen=True, slots=True)
class Work:
    """One prompt to continue, as token ids.

    Attributes:
        id: Unique among work that has not ended.
        tokens: The whole prompt.
        max_tokens: Most tokens to generate; negative: until the context ends.
        ctx_len: Tokens that prompt and answer may hold together, whatever the context offers.
        shift: Drop old tokens when ``ctx_len`` is reached instead of ending.
        num_keep: First tokens that a shift leaves alone, BOS included; negative: the whole prompt.
        key: Compute key: cells are shared between equal keys only, and a step holds one key.
    """

    id: str
    tokens: tuple[int, ...]
    parameters: SamplingParameters
    max_tokens: int
    ctx_len: int
    shift: bool = True
    num_keep: int = 0
    grammar: str | None = None
    key: str = ""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a piece of work ended.

    ``generated`` counts every sampled token, the end-of-generation token included, as llama-server does
    (``predicted_n``). ``error`` is set for ``failed`` alone; ``too_long`` tells that the prompt does not fit.
    """

    reason: Reason
    timings: Timings = field(default_factory=Timings)
    generated: int = 0
    shifts: int = 0
    error: str = ""
    too_long: bool = False


class Listener(Protocol):
    """Gets the tokens of one piece of work; after `finished`, nothing follows.

    Runs in: runner, engine thread; every stream waits while a listener works.
    """

    def token(self, token: int) -> bool:
        """Take one generated token (never an end-of-generation token); False ends with reason ``stop``."""

    def finished(self, outcome: Outcome) -> None:
        """Take the end."""


@dataclass(frozen=True, slots=True)
class Counters:
    """Numbers since the engine started; ``cells_*``, ``running`` and ``waiting`` are of now.

    ``cells_kept`` are cells that only finished sequences hold. ``batch_tokens`` is the sum over all steps.
    ``accepted`` of the ``guessed`` tokens were right. ``threads`` are those of the last step (0: the backend's own
    choice), ``thread_changes`` how often a shape of step went on with another number.
    """

    step: int = 0
    prefilled: int = 0
    reused: int = 0
    decoded: int = 0
    batch_tokens: int = 0
    cells_used: int = 0
    cells_kept: int = 0
    cells_total: int = 0
    sampling_ns: int = 0
    running: int = 0
    waiting: int = 0
    guessed: int = 0
    accepted: int = 0
    threads: int = 0
    thread_changes: int = 0


class EngineStopped(RuntimeError):
    """The engine takes no more work: it was stopped, or its backend failed."""
