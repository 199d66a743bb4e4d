"""One running or waiting piece of work: its tokens, how far they are computed, what was measured."""

from __future__ import annotations

from ollamad.engine.kvcache import Holding
from ollamad.engine.work import Listener, Reason, Work
from ollamad.plugin.backend import Sampler
from ollamad.types import Timings

#: llama-server counts at least a microsecond of generation, so that the figure never vanishes from the wire.
_LEAST_NS = 1000

#: llama-server leaves at least this many tokens to discard in a shift.
_SHIFTED_AT_LEAST = 4


class Sequence:
    """A prompt with its output. ``listener`` and ``sampler`` are carried for the engine, never called here.

    ``tokens`` is prompt and answer as the cache is to hold them: a shift takes tokens out of the middle.
    ``holding`` is None before it begins to compute and after its end. Until then it may wait for ``leader`` to have
    computed the first ``awaited`` tokens, which are the same as its own.
    """

    __slots__ = (
        "awaited",
        "cached",
        "ctx_len",
        "first_ns",
        "generated",
        "holding",
        "last_ns",
        "leader",
        "listener",
        "paused",
        "sampler",
        "shifts",
        "started_ns",
        "tokens",
        "work",
    )

    def __init__(self, work: Work, ctx_len: int, listener: Listener, sampler: Sampler) -> None:
        self.work = work
        self.ctx_len = ctx_len
        self.listener = listener
        self.sampler = sampler
        self.tokens = list(work.tokens)
        self.holding: Holding | None = None
        self.leader: Sequence | None = None
        self.awaited = 0
        self.cached = 0
        self.generated = 0
        self.shifts = 0
        self.paused = False
        self.started_ns = 0
        self.first_ns = 0
        self.last_ns = 0

    def took(self, token: int, now: int) -> None:
        """*token* was sampled."""
        if not self.generated:
            self.first_ns = now
        self.last_ns = now
        self.generated += 1
        self.tokens.append(token)

    def limit_reached(self, can_shift: bool) -> Reason | None:
        """``length`` if the last token was the last that may be generated."""
        if 0 <= self.work.max_tokens <= self.generated:
            return "length"
        if len(self.tokens) >= self.ctx_len and not (can_shift and self.work.shift and self.shift_range()[1]):
            return "length"
        return None

    def pending(self) -> int:
        """Tokens that are not computed yet."""
        assert self.holding is not None
        return len(self.tokens) - len(self.holding.cells)

    @property
    def repeatable(self) -> bool:
        """Whether the text has to be the same when the request comes again: it draws with a seed.

        The numbers of rows and of threads in a step move the last bits of the logits, with quantised weights enough
        to change a draw now and then. So it gets no guesses and no fewer threads, which depend on measured times,
        and the last token of its prompt has a row of its own, whether the tokens before it were kept or not.
        """
        parameters = self.work.parameters
        return parameters.seed >= 0 and parameters.temperature > 0

    def most_guesses(self) -> int:
        """Guesses that may be right without passing a limit: each makes room for one more token in the end."""
        room = self.ctx_len - 1 - len(self.tokens)
        if self.work.max_tokens >= 0:
            room = min(room, self.work.max_tokens - self.generated - 1)
        return max(room, 0)

    def shift_range(self) -> tuple[int, int]:
        """``(keep, discard)`` of a shift now: half of what may go, as llama-server does it."""
        computed = len(self.tokens) - 1
        keep = len(self.work.tokens) if self.work.num_keep < 0 else self.work.num_keep
        keep = max(0, min(keep, self.ctx_len - _SHIFTED_AT_LEAST))
        return keep, max(0, computed - keep) // 2

    def timings(self) -> Timings:
        """What was measured, also of an unfinished sequence."""
        return Timings(
            prompt_tokens=len(self.work.tokens),
            cached_tokens=self.cached,
            prompt_ns=max(0, self.first_ns - self.started_ns),
            generated_tokens=self.generated,
            generate_ns=max(_LEAST_NS, self.last_ns - self.first_ns) if self.generated else 0,
        )
