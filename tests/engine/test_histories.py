"""Random histories of an engine, against a naive model of what each sequence may see.

The suite plays short ones. A campaign of long ones:

    ENGINE_EXAMPLES=50 ENGINE_EVENTS=10000 python -m pytest tests/engine/test_histories.py
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from collections.abc import Sequence as ReadOnly
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ollamad.engine.engine import Work
from ollamad.engine.sequence import Sequence
from ollamad.engine.speculation import CostCurve, Guess, Speculation
from ollamad.plugin.backend import Batch, KVCacheFull
from ollamad.testing.fake_context import Cell, FakeSampler, Logits, extend_digest
from ollamad.testing.fake_options import EOS, FakeOptions
from ollamad.types import SamplingParameters

GREEDY = SamplingParameters(temperature=0.0, repeat_last_n=0)


@dataclass
class Expected:
    """What a piece of work gives when it is alone, by the rules alone."""

    tokens: list[int]
    reason: str


def alone(work: Work, ctx_len: int, options: FakeOptions) -> Expected:
    """Generate naively: recompute everything that is visible for every token."""
    sampler = FakeSampler(GREEDY, options, 1)
    visible = list(work.tokens)
    tokens: list[int] = []
    while True:
        digest = options.seed
        for token in visible:
            digest = extend_digest(digest, token)
        token = sampler.choose(Logits(digest, visible[-1]))
        if token == EOS:
            return Expected(tokens, "stop")
        tokens.append(token)
        if 0 <= work.max_tokens <= len(tokens):
            return Expected(tokens, "length")
        if len(visible) + 1 >= ctx_len:
            keep = len(work.tokens) if work.num_keep < 0 else work.num_keep
            keep = max(0, min(keep, ctx_len - 4))
            discard = (len(visible) - keep) // 2
            if not (work.shift and options.can_shift and discard > 0):
                return Expected(tokens, "length")
            visible = visible[:keep] + visible[keep + discard :]
        visible.append(token)


class Oracle:
    """A `Guesser` that knows the answers and gives some of them, with a lie now and then."""

    def __init__(self, rng: random.Random, options: FakeOptions) -> None:
        self._rng = rng
        self._options = options
        self._answers: dict[Sequence, list[int]] = {}

    def guess(self, wanted: ReadOnly[tuple[Sequence, int]]) -> list[Guess]:
        return [self._guess(sequence, self._rng.randint(0, most)) for sequence, most in wanted]

    def took(self, sequence: Sequence, token: int) -> None:
        pass

    def forget(self, sequence: Sequence) -> None:
        self._answers.pop(sequence, None)

    def _guess(self, sequence: Sequence, count: int) -> Guess:
        if sequence not in self._answers:
            self._answers[sequence] = alone(sequence.work, sequence.ctx_len, self._options).tokens
        tokens = self._answers[sequence][sequence.generated :][:count]
        if self._rng.random() < 0.5:
            tokens += [self._rng.randint(1, 9) for _ in range(count - len(tokens))]
        if tokens and self._rng.random() < 0.4:
            tokens[self._rng.randrange(len(tokens))] ^= 1
        return Guess(tokens, [1.0] * len(tokens))


class Free(CostCurve):
    """Rows that cost nothing: every guess is worth it."""

    def trusted(self, rows: int) -> bool:
        return True

    def costs(self, base: int, most: int) -> list[float]:
        return [1.0] * (most + 1)


class History:
    """Drives one engine with random events and checks everything after each step."""

    def __init__(self, driver: Callable[..., Any], recorder: Any, rng: random.Random) -> None:
        self.rng = rng
        self.slots = rng.randint(1, 4)
        self.ctx_len = rng.choice((4, 5, 9, 16, 24))
        n_sequences = self.slots + rng.choice((0, 0, 1, 3, 8))
        end_every = rng.choice((0, 7, 30))
        oracle = Oracle(rng, FakeOptions(end_every=end_every))
        speculation = Speculation(oracle, Free()) if rng.random() < 0.7 else None
        self.driver = driver(
            speculation=speculation,
            slots=self.slots,
            ctx_len=self.ctx_len,
            n_ctx=self.slots * self.ctx_len + rng.choice((0, 0, 3, 40)),
            n_batch=rng.choice((1, 2, 3, 8, 64)),
            n_sequences=n_sequences,
            can_share=rng.random() < 0.7,
            can_cut=rng.random() < 0.8,
            can_shift=rng.random() < 0.8,
            end_every=end_every,
        )
        oracle._options = self.driver.options
        self.context = self.driver.context
        self.engine = self.driver.engine
        self.batcher = self.engine._batcher
        self.batcher._worth_waiting = rng.choice((1, 2, 5))
        self.cache = self.engine._cache
        self.cache._kept_for = rng.choice((5, 50, 10_000))
        self.cache._kept_freely = rng.choice((0, 8))
        self.recorder = recorder
        self.live: dict[str, tuple[Work, Any]] = {}
        self.cancelled: set[str] = set()
        self.asked: list[tuple[tuple[int, ...], Any]] = []
        self.keys: dict[Cell, str] = {}
        self.count = 0
        self.faulty = False
        decode = self.context.decode

        def checked(batch: Batch) -> None:
            ids = set(batch.sequence_ids)
            keys = {s.work.key for s in self.batcher.running if s.holding and s.holding.id in ids}
            assert len(keys) == 1
            assert not any(s.paused for s in self.batcher.running if s.holding and s.holding.id in ids)
            for sequence in self.batcher._following:
                leader = sequence.leader
                assert leader in self.batcher.running
                assert leader.tokens[: sequence.awaited] == sequence.tokens[: sequence.awaited]
                assert len(leader.holding.cells) < sequence.awaited
                assert not leader.paused
            decode(batch)
            for sequence_id in ids:
                for cell in self.context.cells[sequence_id]:
                    self.keys.setdefault(cell, *keys)

        self.context.decode = checked

    def event(self) -> None:
        choice = self.rng.random()
        if choice < 0.2 and len(self.live) < 12:
            self.submit()
        elif choice < 0.25 and self.live:
            work_id = self.rng.choice(list(self.live))
            self.engine.cancel(work_id)
            self.cancelled.add(work_id)
        elif choice < 0.33 and self.live:
            self.engine.pause(self.rng.choice(list(self.live)), self.rng.random() < 0.4)
        elif choice < 0.35:
            self.context.refuse_cuts = self.rng.random() < 0.3
        elif choice < 0.36 and self.faulty:
            self.driver.gates.raise_next("decode", *([KVCacheFull()] * self.rng.randint(1, 3)))
        else:
            self.engine.turn()
            self.check()

    def submit(self) -> None:
        tokens = self.prompt()
        self.count += 1
        shift = self.rng.random() < 0.7
        work = Work(
            id=f"w{self.count}",
            tokens=tokens,
            parameters=GREEDY,
            max_tokens=self.rng.randint(0, 60) if shift else -1,  # shifting, an answer may go round in circles
            ctx_len=self.rng.choice((0, 4, self.ctx_len, self.ctx_len)),
            shift=shift,
            num_keep=self.rng.choice((-1, 0, 1, 4)),
            key=self.rng.choice(("", "", "", "adapter")),
        )
        listener = self.recorder()
        self.live[work.id] = (work, listener)
        self.asked.append((tokens, listener))
        self.engine.submit(work, listener)

    def prompt(self) -> tuple[int, ...]:
        """A prompt that was asked before, a conversation that goes on, or one with a beginning that others have."""
        if self.asked and self.rng.random() < 0.5:
            earlier, listener = self.rng.choice(self.asked[-6:])
            if self.rng.random() < 0.6:
                return earlier
            tokens = (*earlier, *listener.tokens[:-1], self.rng.randint(1, 3))
        else:
            beginning = self.rng.choice((tuple(range(1, self.ctx_len - 1)), (1, 2, 9, 9, 9, 9), (5,)))
            tokens = beginning[: self.rng.randint(1, len(beginning))]
            tokens += tuple(self.rng.choices((1, 2, 3), k=self.rng.randint(0, 2)))
        return tokens[: self.ctx_len - self.rng.choice((0, 1, 1, 1, 2))]

    def check(self) -> None:
        context, cache = self.context, self.cache
        while cache.operations:  # what the next step would do first
            operations, cache.operations = cache.operations, []
            self.engine._perform(operations)
        assert context.used == cache.used <= context.n_ctx
        assert len(self.batcher.running) <= self.slots
        held = {cell for cells in context.cells for cell in cells}
        assert len(held) == context.used
        running = {s.holding.id for s in self.batcher.running if s.holding}
        kept_only = sum(not cell.owners & running for cell in held)
        assert kept_only == cache.kept_cells
        for holding in [*cache._running.values(), *cache._kept.values()]:
            cells = context.cells[holding.id]
            assert [cell.token for cell in cells] == holding.tokens[: len(holding.cells)]
            assert [cell.position for cell in cells] == list(range(len(cells)))
            assert len(cells) <= self.ctx_len
            assert all(self.keys[cell] == holding.key for cell in cells)
            assert holding.running or len(holding.tokens) == len(cells)
            digest = context._options.seed
            for cell in cells[: holding.reusable]:
                digest = extend_digest(digest, cell.token)
                assert cell.history == digest, "a reusable cell remembers other tokens"
        used_ids = {h.id for h in [*cache._running.values(), *cache._kept.values()]}
        assert all(not cells for i, cells in enumerate(context.cells) if i not in used_ids)
        for work_id, (work, listener) in list(self.live.items()):
            if listener.done:
                del self.live[work_id]
                self.judge(work, listener)

    def judge(self, work: Work, listener: Any) -> None:
        ctx_len = min(work.ctx_len, self.ctx_len) if work.ctx_len else self.ctx_len
        outcome = listener.outcome
        if len(work.tokens) >= ctx_len:
            assert outcome.reason == ("cancelled" if outcome.reason == "cancelled" else "failed")
            assert outcome.too_long
            return
        expected = alone(work, ctx_len, self.driver.options)
        assert listener.tokens == expected.tokens[: len(listener.tokens)], "a sequence saw what it must not see"
        if outcome.reason in ("stop", "length"):
            assert (listener.tokens, outcome.reason) == (expected.tokens, expected.reason)
            assert outcome.generated == len(listener.tokens) + (outcome.reason == "stop")
        elif outcome.reason == "cancelled":
            assert work.id in self.cancelled
        else:
            assert self.faulty, outcome.error
        assert outcome.timings.prompt_tokens == len(work.tokens)
        assert outcome.timings.cached_tokens < len(work.tokens)

    def finish(self) -> None:
        for work_id in self.live:
            self.engine.pause(work_id, False)
        self.driver.run(100_000)
        self.check()
        assert not self.live
        assert not self.batcher.running
        assert not self.batcher.waiting
        assert self.cache.kept_cells == self.cache.used


def play(driver: Callable[..., Any], recorder: Any, seed: int, events: int, *, faulty: bool) -> None:
    history = History(driver, recorder, random.Random(seed))
    history.faulty = faulty
    for _ in range(events):
        history.event()
    history.finish()
    counters = history.engine.counters()
    assert counters.accepted <= counters.guessed


@pytest.mark.parametrize("faulty", [False, True])
@settings(
    max_examples=int(os.environ.get("ENGINE_EXAMPLES", "60")),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(seed=st.integers(0, 2**32))
def test_no_sequence_ever_sees_what_it_must_not(
    driver: Callable[..., Any], recorder: Any, faulty: bool, seed: int
) -> None:
    """Whatever is submitted, cancelled, paused, shifted, shared, guessed and evicted, each answer is as alone."""
    play(driver, recorder, seed, int(os.environ.get("ENGINE_EVENTS", "150")), faulty=faulty)
