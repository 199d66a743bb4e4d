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
from ollamad.engine.prefix import common_length
from ollamad.engine.sequence import Sequence
from ollamad.engine.speculation import Speculation
from ollamad.engine.work import Outcome, Reason
from ollamad.plugin.backend import Batch

NO_CELLS = "the context has no cell left for this request"

#: A beginning is worth waiting for if it saves this many tokens; less is a small part of the step that it delays.
WORTH_WAITING = 32


@dataclass(slots=True)
class StepPlan:
    """One step: first the operations, in order, then one decode of the batch, then one sample per pick.

    ``rows`` says how many tokens of which sequence are in the batch; ``picks`` names the row whose
    logits choose a sequence's next token. ``guesses`` is empty, or says for each pick which guessed tokens stand
    in the rows after it. ``ended`` are sequences that no step can help any more.
    """

    operations: list[Operation] = field(default_factory=list)
    batch: Batch = field(default_factory=Batch)
    rows: list[tuple[Sequence, int]] = field(default_factory=list)
    picks: list[tuple[Sequence, int]] = field(default_factory=list)
    guesses: list[ReadOnly[int]] = field(default_factory=list)
    ended: list[tuple[Sequence, Outcome]] = field(default_factory=list)
    prefill_tokens: int = 0
    key: str = ""


class Batcher:
    """Continuous batching: every running sequence decodes in each step, prefill fills the rest.

    Holds: at most ``slots`` sequences run; they got their slots in the order of submission; a step has at most
    ``n_batch`` tokens of one compute key and ``n_outputs`` outputs; the cells never exceed the context.

    A sequence whose beginning a running one is about to compute waits for it in its slot (`_follow`). A step with
    prompt tokens has no guesses: there, a row costs what it costs in a prompt.
    """

    def __init__(
        self,
        cache: KVCache,
        pace: Pace,
        *,
        slots: int,
        n_batch: int,
        is_end: Callable[[int], bool],
        n_outputs: int = 0,
        speculation: Speculation | None = None,
        worth_waiting: int = WORTH_WAITING,
    ) -> None:
        self.cache = cache
        self.running: list[Sequence] = []
        self.waiting: deque[Sequence] = deque()
        self.speculation = speculation
        self._worth_waiting = worth_waiting
        self._following: list[Sequence] = []
        self._known: dict[str, Sequence] = {}
        self._pace = pace
        self._slots = slots
        self._n_batch = n_batch
        self._n_outputs = n_outputs or slots
        self._is_end = is_end
        self._row_limit = n_batch
        self._may_guess = True
        self._cuts_refused = False  # then no guess can be taken back
        self._key = ""
        self._turn = 0
        self._odd = 0
        self._decodes = False
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
        holding, sequence.holding = sequence.holding, None
        if holding is not None:
            self.running.remove(sequence)
            if reason == "failed":
                self.cache.drop(holding)
            else:
                self.cache.finish(holding)
        elif sequence in self._following:
            self._following.remove(sequence)
            self.running.remove(sequence)
        else:
            self.waiting.remove(sequence)
        if self.speculation is not None:
            self.speculation.guesser.forget(sequence)
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
        self.cache.expire()
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

    def computed(self, plan: StepPlan) -> None:
        """The step was done: its tokens are in the cells, guesses included."""
        self._row_limit = self._n_batch
        self._may_guess = not self._cuts_refused
        extend = self.cache.extend
        for sequence, count in plan.rows:
            assert sequence.holding is not None
            extend(sequence.holding, count)
        self.prefilled += plan.prefill_tokens

    def took(self, sequence: Sequence, token: int, now: int) -> Reason | None:
        """*token* was chosen for a pick of the last step. Returns why its sequence ends, or None."""
        sequence.took(token, now)
        self.decoded += 1
        if self.speculation is not None:
            self.speculation.guesser.took(sequence, token)
        return "stop" if self._is_end(token) else sequence.limit_reached(self.cache.can_shift)

    def settle(self, sequence: Sequence, guesses: int, accepted: int) -> None:
        """The sequence took all tokens that it gets of this step: the cells of other guesses are given back."""
        assert self.speculation is not None
        self.speculation.guessed += guesses
        self.speculation.accepted += accepted
        holding = sequence.holding
        assert holding is not None
        if len(holding.cells) >= len(sequence.tokens):
            self.cache.take_back(holding, len(sequence.tokens) - 1)

    def full(self, plan: StepPlan) -> list[tuple[Sequence, Outcome]]:
        """The context found no cell although there should be one: give up what nobody runs, or try less.

        A sequence whose single token finds no cell alone has failed; the others never suffer for it.
        """
        if self.cache.has_kept:
            self.cache.evict_all()
        elif plan.guesses:
            self._may_guess = False
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
        self._cuts_refused = True
        for sequence in self.running:
            if holding is not None and sequence.holding is holding and not sequence.generated:
                self.reused -= sequence.cached
                sequence.cached = 0

    # --- how a plan comes about

    def _admit(self, now: int) -> None:
        while self.waiting and len(self.running) < self._slots:
            sequence = self.waiting.popleft()
            self.running.append(sequence)
            self._following.append(sequence)
        if self._following:
            self._following = [sequence for sequence in self._following if not self._begin(sequence, now)]

    def _begin(self, sequence: Sequence, now: int) -> bool:
        """Give a sequence that has a slot its cells; False while a beginning for it is being computed."""
        if self._follow(sequence):
            return False
        sequence.leader = None
        sequence.started_ns = now
        sequence.holding = self.cache.begin(sequence.tokens, sequence.work.key)
        sequence.cached = len(sequence.holding.cells)
        self.reused += sequence.cached
        return True

    def _follow(self, sequence: Sequence) -> bool:
        """Whether *sequence* waits for another to compute a beginning that they share.

        Who waits has no cells, so nobody waits for it. When its leader is done with the beginning, ends, fails or
        is paused, it looks around again: it begins with what is there, or finds the next leader, which may be
        the first of those who waited with it. So a beginning is computed once, and nobody waits for nothing.
        """
        if sequence.leader is not None and _leads(sequence.leader, sequence.awaited):
            return True
        sequence.leader = None
        if not self.cache.can_share:
            return False
        tokens, key = sequence.tokens, sequence.work.key
        there: int | None = None
        for other in self.running:
            most = min(len(other.tokens), len(tokens) - 1)
            if other.work.key != key or most < self._worth_waiting or not _leads(other, most):
                continue
            if there is None:
                there = self.cache.longest(tokens, key)[1]
                sequence.awaited = there + self._worth_waiting - 1
            length = common_length(other.tokens, tokens, most) if most > sequence.awaited else 0
            if length > sequence.awaited and _leads(other, length):
                sequence.leader, sequence.awaited = other, length
        return sequence.leader is not None

    def _choose(self, plan: StepPlan) -> tuple[list[Sequence], list[Sequence]]:
        """The sequences of this step's key: those that need one token computed, and those that need more."""
        ready = [sequence for sequence in self.running if not sequence.paused and sequence.holding is not None]
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
            if sequence.generated and len(sequence.tokens) >= sequence.ctx_len:
                self._shift(sequence)
            (decoding if sequence.generated and sequence.pending() == 1 else filling).append(sequence)
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
        wanted = len(decoding) + min(chunk, sum(sequence.pending() for sequence in filling))
        self.cache.make_room(wanted)
        free = self.cache.free
        decoding = decoding[:free]
        if not filling and self.speculation is not None and self._may_guess and decoding:
            # Guesses take what is free anyway: nothing is evicted for them.
            room = min(free, limit, self._n_outputs) - len(decoding)
            plan.guesses = self.speculation.choose(decoding, room)
        for number, sequence in enumerate(decoding):
            self._add(plan, sequence, 1)
            if plan.guesses:
                self._add_guesses(plan, sequence, plan.guesses[number])
        for sequence, count in self._portions(filling, min(chunk, free - len(decoding))):
            self._add(plan, sequence, count)
            plan.prefill_tokens += count

    def _portions(self, filling: list[Sequence], chunk: int) -> list[tuple[Sequence, int]]:
        """Who gets how many of *chunk* prompt tokens.

        One half goes to those who need least, so that a short prompt does not wait for a long one; the other to
        those who came first, so that a long one is done after twice its time at most, whoever comes.
        """
        if len(filling) == 1:
            return [(filling[0], min(chunk, filling[0].pending()))] if chunk > 0 else []
        self._odd ^= chunk & 1  # a single token goes to either side in turn
        half = (chunk + self._odd) // 2
        portions = dict.fromkeys(filling, 0)
        left = chunk
        for order, stop_at in ((sorted(filling, key=Sequence.pending), chunk - half), (filling, 0)):
            for sequence in order:
                count = min(left - stop_at, sequence.pending() - portions[sequence])
                portions[sequence] += count
                left -= count
        return [(sequence, count) for sequence, count in portions.items() if count > 0]

    def _rotate(self, decoding: list[Sequence], count: int) -> list[Sequence]:
        """Of more sequences than a batch holds, *count* in turn; with room for one token, each second step."""
        if count <= 0:
            self._decodes = not self._decodes
            count = int(self._decodes)
        if not decoding or not count:
            return []
        start = self._turn % len(decoding)
        self._turn += count
        return (decoding + decoding)[start : start + count]

    @staticmethod
    def _add_guesses(plan: StepPlan, sequence: Sequence, guesses: ReadOnly[int]) -> None:
        """Add guessed tokens behind the last one of a sequence."""
        if not guesses:
            return
        assert sequence.holding is not None
        for position, token in enumerate(guesses, len(sequence.tokens)):
            plan.batch.add(token, position, sequence.holding.id, True)
        plan.rows.append((sequence, len(guesses)))

    @staticmethod
    def _add(plan: StepPlan, sequence: Sequence, most: int) -> None:
        """Add up to *most* uncomputed tokens; the last of all asks for logits. See `Sequence.repeatable`."""
        holding = sequence.holding
        assert holding is not None
        start = len(holding.cells)
        total = len(sequence.tokens)
        end = min(total, start + most)
        if sequence.repeatable and end == total and end - start > 1:
            end -= 1
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


def _leads(sequence: Sequence, length: int) -> bool:
    """Whether a running sequence is about to compute the first *length* tokens of its prompt."""
    holding = sequence.holding
    return holding is not None and not sequence.paused and not sequence.generated and len(holding.cells) < length
