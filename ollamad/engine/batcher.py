"""Which tokens go into the next step. Pure: events and times come in, a `StepPlan` comes out.

Owns the queue, the slots and the cell bookkeeping. Knows neither clock nor context; `engine.py` does what a
plan says and reports what came of it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from collections.abc import Sequence as ReadOnly
from dataclasses import dataclass, field

from ollamad.engine.kvcache import KVCache, Operation
from ollamad.engine.pace import Pace
from ollamad.engine.sequence import Sequence
from ollamad.engine.work import Outcome, Reason
from ollamad.plugin.backend import Batch

NO_CELLS = "the context has no cell left for this request"


@dataclass(slots=True)
class StepPlan:
    """One step: first the operations, in order, then one decode of the batch, then one sample per pick.

    ``rows`` says how many tokens of which sequence are in the batch; ``picks`` names the row whose
    logits choose a sequence's next token. ``ended`` are sequences that no step can help any more.
    """

    operations: list[Operation] = field(default_factory=list)
    batch: Batch = field(default_factory=Batch)
    rows: list[tuple[Sequence, int]] = field(default_factory=list)
    picks: list[tuple[Sequence, int]] = field(default_factory=list)
    ended: list[tuple[Sequence, Outcome]] = field(default_factory=list)
    prefill_tokens: int = 0
    key: str = ""


class Batcher:
    """Continuous batching: every running sequence decodes in each step, prefill fills the rest.

    Holds: at most ``slots`` sequences run; they started in the order of submission; a step has at most
    ``n_batch`` tokens of one compute key; the cells never exceed the context.
    """

    def __init__(self, cache: KVCache, pace: Pace, *, slots: int, n_batch: int, is_end: Callable[[int], bool]) -> None:
        self.cache = cache
        self.running: list[Sequence] = []
        self.waiting: deque[Sequence] = deque()
        self._known: dict[str, Sequence] = {}
        self._pace = pace
        self._slots = slots
        self._n_batch = n_batch
        self._is_end = is_end
        self._row_limit = n_batch
        self._key = ""
        self._turn = 0
        self.prefilled = 0
        self.reused = 0
        self.decoded = 0

    # --- events

    def submit(self, sequence: Sequence) -> None:
        """Queue a sequence."""
        assert sequence.work.id not in self._known, f"{sequence.work.id} runs already"
        self._known[sequence.work.id] = sequence
        self.waiting.append(sequence)

    def find(self, work_id: str) -> Sequence | None:
        """The waiting or running sequence of this id."""
        return self._known.get(work_id)

    def pause(self, work_id: str, paused: bool) -> None:
        """Leave a sequence out of the steps (it keeps slot and cells), or go on with it."""
        sequence = self._known.get(work_id)
        if sequence is not None:
            sequence.paused = paused

    def end(self, sequence: Sequence, reason: Reason, error: str = "") -> Outcome:
        """Free the slot of a sequence, or take it from the queue. Its cells are kept unless it failed."""
        del self._known[sequence.work.id]
        holding = sequence.holding
        if holding is None:
            self.waiting.remove(sequence)
        else:
            self.running.remove(sequence)
            if reason == "failed":
                self.cache.drop(holding)
            else:
                self.cache.finish(holding)
        return Outcome(reason, sequence.timings(), sequence.generated, sequence.shifts, error)

    def unfinished(self) -> list[Sequence]:
        """All running and waiting sequences."""
        return list(self._known.values())

    # --- a step

    def plan(self, now: int) -> StepPlan:
        """Say what the next step does; empty ``rows`` if nothing can be computed now.

        The operations have to be done. The rest may be dropped for another plan: no token counts as
        computed before `apply`.
        """
        plan = StepPlan()
        self._admit(now)
        decoding, filling = self._choose(plan)
        self._place(plan, decoding, filling)
        while not plan.rows and (decoding or filling):
            # No cell for any of them, and nothing left to evict: the youngest gives way.
            youngest = max(decoding + filling, key=self.running.index)
            plan.ended.append((youngest, self.end(youngest, "failed", NO_CELLS)))
            decoding, filling = self._choose(plan)
            self._place(plan, decoding, filling)
        plan.operations = self.cache.operations
        self.cache.operations = []
        return plan

    def apply(self, plan: StepPlan, tokens: ReadOnly[int], now: int) -> list[Reason | None]:
        """The step was done and *tokens* were picked. Returns for each pick why its sequence ends, or None."""
        self._row_limit = self._n_batch
        extend = self.cache.extend
        for sequence, count in plan.rows:
            assert sequence.holding is not None
            extend(sequence.holding, count)
        self.prefilled += plan.prefill_tokens
        self.decoded += len(tokens)
        can_shift = self.cache.can_shift
        reasons: list[Reason | None] = []
        for (sequence, _), token in zip(plan.picks, tokens, strict=True):
            sequence.took(token, now)
            reasons.append("stop" if self._is_end(token) else sequence.limit_reached(can_shift))
        return reasons

    def full(self, plan: StepPlan) -> list[tuple[Sequence, Outcome]]:
        """The context found no cell although there should be one: give up what nobody runs, or try less.

        A sequence whose single token finds no cell alone has failed; the others never suffer for it.
        """
        if self.cache.has_kept:
            self.cache.evict_all()
        elif len(plan.batch) > 1:
            self._row_limit = len(plan.batch) // 2
        else:
            self._row_limit = self._n_batch
            sequence = plan.rows[0][0]
            return [(sequence, self.end(sequence, "failed", NO_CELLS))]
        return []

    def refused(self, sequence_id: int) -> None:
        """The context would not cut this sequence: what was to be reused of it is computed anew."""
        holding = self.cache.refused(sequence_id)
        for sequence in self.running:
            if sequence.holding is holding and not sequence.generated:
                self.reused -= sequence.cached
                sequence.cached = 0

    # --- how a plan comes about

    def _admit(self, now: int) -> None:
        while self.waiting and len(self.running) < self._slots:
            sequence = self.waiting.popleft()
            sequence.started_ns = now
            sequence.holding = self.cache.begin(sequence.tokens, sequence.work.key)
            sequence.cached = len(sequence.holding.cells)
            self.reused += sequence.cached
            self.running.append(sequence)

    def _choose(self, plan: StepPlan) -> tuple[list[Sequence], list[Sequence]]:
        """The sequences of this step's key: those that need one token computed, and those that need more."""
        ready = [sequence for sequence in self.running if not sequence.paused]
        keys = {sequence.work.key for sequence in ready}
        if len(keys) > 1:
            later = sorted(key for key in keys if key > self._key)
            self._key = later[0] if later else min(keys)
            ready = [sequence for sequence in ready if sequence.work.key == self._key]
        elif keys:
            self._key = keys.pop()
        plan.key = self._key
        decoding: list[Sequence] = []
        filling: list[Sequence] = []
        for sequence in ready:
            holding = sequence.holding
            assert holding is not None
            pending = len(sequence.tokens) - len(holding.cells)
            if sequence.generated and len(sequence.tokens) >= sequence.ctx_len:
                self._shift(sequence)
                pending = len(sequence.tokens) - len(holding.cells)
            (decoding if pending == 1 and sequence.generated else filling).append(sequence)
        return decoding, filling

    def _shift(self, sequence: Sequence) -> None:
        assert sequence.holding is not None
        keep, discard = sequence.shift_range()
        self.cache.shift(sequence.holding, keep, discard)
        sequence.shifts += 1

    def _place(self, plan: StepPlan, decoding: list[Sequence], filling: list[Sequence]) -> None:
        """Put tokens into the batch, as far as batch and cells reach."""
        limit = self._row_limit
        if filling and len(decoding) >= limit:
            decoding = self._rotate(decoding, limit - 1)
        elif len(decoding) > limit:
            decoding = self._rotate(decoding, limit)
        chunk = min(self._pace.chunk(bool(decoding)), limit - len(decoding)) if filling else 0
        wanted = len(decoding) + min(chunk, sum(len(s.tokens) - len(s.holding.cells) for s in filling if s.holding))
        self.cache.make_room(wanted)
        free = self.cache.free
        for sequence in decoding[:free]:
            self._add(plan, sequence, 1)
        left = min(chunk, free - len(plan.batch))
        for sequence in filling:
            if left <= 0:
                break
            before = len(plan.batch)
            self._add(plan, sequence, left)
            left -= len(plan.batch) - before
            plan.prefill_tokens += len(plan.batch) - before

    def _rotate(self, decoding: list[Sequence], count: int) -> list[Sequence]:
        """Of more sequences than a batch holds, *count* in turn; with room for one token, each second step."""
        if count <= 0:
            self._turn += 1
            count = self._turn % 2
        if not decoding or not count:
            return []
        start = self._turn % len(decoding)
        self._turn += count
        return (decoding + decoding)[start : start + count]

    @staticmethod
    def _add(plan: StepPlan, sequence: Sequence, most: int) -> None:
        """Add up to *most* uncomputed tokens; the last of all asks for logits."""
        holding = sequence.holding
        assert holding is not None
        start = len(holding.cells)
        total = len(sequence.tokens)
        end = min(total, start + most)
        count = end - start
        batch = plan.batch
        if count == 1:
            row = batch.add(sequence.tokens[start], start, holding.id, end == total)
        else:
            batch.tokens += sequence.tokens[start:end]
            batch.positions += range(start, end)
            batch.sequence_ids += [holding.id] * count
            batch.outputs += [False] * count
            row = len(batch.tokens) - 1
            batch.outputs[row] = end == total
        plan.rows.append((sequence, count))
        if end == total:
            plan.picks.append((sequence, row))
