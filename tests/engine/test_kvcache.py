"""The bookkeeping of cells: by hand, and in random histories against a naive model of what may be seen."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ollamad.engine.engine import Work
from ollamad.engine.kvcache import Copy, Holding, KVCache, Remove, Shift
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


class History:
    """Drives one engine with random events and checks everything after each step."""

    def __init__(self, driver: Callable[..., Any], recorder: Any, rng: random.Random) -> None:
        self.rng = rng
        self.slots = rng.randint(1, 4)
        self.ctx_len = rng.choice((4, 5, 9, 16, 24))
        n_sequences = self.slots + rng.choice((0, 0, 1, 3, 8))
        self.driver = driver(
            slots=self.slots,
            ctx_len=self.ctx_len,
            n_ctx=self.slots * self.ctx_len + rng.choice((0, 0, 3, 40)),
            n_batch=rng.choice((1, 2, 3, 8, 64)),
            n_sequences=n_sequences,
            can_share=rng.random() < 0.7,
            can_cut=rng.random() < 0.8,
            can_shift=rng.random() < 0.8,
            end_every=rng.choice((0, 7, 30)),
        )
        self.context = self.driver.context
        self.engine = self.driver.engine
        self.batcher = self.engine._batcher
        self.cache = self.engine._cache
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
            keys = {s.work.key for s in self.batcher.running if s.holding.id in ids}
            assert len(keys) == 1
            assert not any(s.paused for s in self.batcher.running if s.holding.id in ids)
            decode(batch)
            for sequence_id in ids:
                for cell in self.context.cells[sequence_id]:
                    self.keys.setdefault(cell, *keys)

        self.context.decode = checked

    def event(self) -> None:
        choice = self.rng.random()
        if choice < 0.2:
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
        running = {s.holding.id for s in self.batcher.running}
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
        self.driver.run()
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
    """Whatever is submitted, cancelled, paused, shifted and evicted, each answer is the one it gives alone."""
    play(driver, recorder, seed, 150, faulty=faulty)


# --- by hand


def make_cache(n_cells: int = 32, n_sequences: int = 4, **can: bool) -> KVCache:
    return KVCache(n_cells, n_sequences, **{"can_share": True, "can_cut": True, "can_shift": True, **can})


def ran(cache: KVCache, tokens: list[int], key: str = "") -> Holding:
    """A sequence whose tokens are all computed."""
    holding = cache.begin(tokens, key)
    cache.extend(holding, len(tokens) - len(holding.cells))
    return holding


def test_a_running_sequence_shares_its_beginning() -> None:
    """A prompt that begins like a running one takes those cells and no new ones."""
    cache = make_cache()
    first = ran(cache, [1, 2, 3, 4])
    second = cache.begin([1, 2, 3, 9], "")
    assert cache.operations == [Copy(first.id, second.id, 3)]
    assert second.cells == first.cells[:3]
    assert cache.used == 4


def test_the_last_token_is_always_computed() -> None:
    """Of a prompt that is held completely, all but one token are reused: its logits are needed."""
    cache = make_cache()
    cache.finish(ran(cache, [1, 2, 3]))
    assert len(cache.begin([1, 2, 3], "").cells) == 2


def test_a_finished_sequence_is_continued_in_place() -> None:
    """A prompt that holds all of a finished sequence goes on under its id, without any operation."""
    cache = make_cache()
    first = ran(cache, [1, 2, 3])
    cache.finish(first)
    assert cache.begin([1, 2, 3, 4], "") is first
    assert not cache.operations


def test_without_sharing_a_finished_sequence_is_cut() -> None:
    """Where cells cannot be shared, the longest finished beginning is cut and continued."""
    cache = make_cache(can_share=False)
    first = ran(cache, [1, 2, 3, 4])
    cache.finish(first)
    assert cache.begin([1, 2, 3, 9, 9], "") is first
    assert cache.operations == [Remove(first.id, 3, -1)]


def test_without_sharing_a_short_beginning_spares_a_long_sequence() -> None:
    """A beginning of a few tokens is no reason to give up a long conversation while ids are free."""
    cache = make_cache(can_share=False)
    first = ran(cache, list(range(10)))
    cache.finish(first)
    assert cache.begin([0, 1, 99], "") is not first


def test_without_cuts_only_whole_sequences_are_reused() -> None:
    """Where nothing can be cut or shared, a sequence is reused if the prompt holds all of it."""
    cache = make_cache(can_share=False, can_cut=False)
    cache.finish(ran(cache, [1, 2, 3]))
    assert cache.begin([1, 2, 9], "").cells == []
    cache.finish(ran(cache, [5, 6, 7]))
    assert len(cache.begin([5, 6, 7, 8], "").cells) == 3


def test_prefixes_match_within_a_compute_key_only() -> None:
    """Cells that another adapter computed are never reused."""
    cache = make_cache()
    cache.finish(ran(cache, [1, 2, 3], key="adapter"))
    assert cache.begin([1, 2, 3, 4], "").cells == []


def test_the_least_recently_used_goes_first() -> None:
    """Room is made by giving up the finished sequence that was used longest ago."""
    cache = make_cache(n_cells=12)
    for start in (10, 20, 30):
        cache.finish(ran(cache, [start, start + 1, start + 2]))
    ran(cache, [10, 11, 12, 13])  # used again
    cache.operations.clear()
    assert cache.make_room(4)
    assert [operation.sequence_id for operation in cache.operations] == [1]


def test_running_sequences_are_never_evicted() -> None:
    """When only running sequences hold cells, there is no room to be made."""
    cache = make_cache(n_cells=4)
    ran(cache, [1, 2, 3])
    assert not cache.make_room(2)
    assert cache.used == 3


def test_what_the_new_one_says_too_is_dropped() -> None:
    """A finished sequence that is a beginning of a newer one is forgotten."""
    cache = make_cache()
    first, second = ran(cache, [1, 2, 3]), ran(cache, [1, 2, 3, 4])
    cache.finish(first)
    cache.finish(second)
    assert cache.used == cache.kept_cells == 4
    assert Remove(first.id, 0, -1) in cache.operations


def test_a_shift_discards_the_middle() -> None:
    """A shift removes behind what is kept and closes the gap."""
    cache = make_cache()
    holding = ran(cache, [0, 1, 2, 3, 4, 5, 6])
    assert cache.shift(holding, 1, 3)
    assert cache.operations == [Remove(0, 1, 4), Shift(0, 4, 7, -3)]
    assert holding.tokens == [0, 4, 5, 6]


def test_shifted_cells_are_reused_by_nobody() -> None:
    """Cells that were computed in sight of dropped tokens stay out of other answers."""
    cache = make_cache()
    holding = ran(cache, [0, 1, 2, 3, 4, 5, 6])
    cache.shift(holding, 1, 3)
    cache.finish(holding)
    assert cache.used == 1
    assert cache.begin([0, 4, 5, 6], "").cells == holding.cells[:1]


def test_a_shift_never_moves_a_running_neighbour() -> None:
    """llama.cpp moves a cell for all its owners, so shared cells are computed again instead."""
    cache = make_cache()
    first = ran(cache, [0, 1, 2, 3, 4, 5, 6])
    second = ran(cache, [0, 1, 2, 3, 4, 5, 9])
    cache.operations.clear()
    assert not cache.shift(first, 1, 2)
    assert cache.operations == [Remove(first.id, 1, -1)]
    assert first.tokens == [0, 3, 4, 5, 6]
    assert len(first.cells) == 1
    assert len(second.cells) == 7


def test_a_shift_cuts_finished_neighbours_back() -> None:
    """A finished sequence that shares cells to be moved keeps only what stays in place."""
    cache = make_cache()
    first = ran(cache, [0, 1, 2, 3, 4, 5, 6])
    second = ran(cache, [0, 1, 2, 3, 4, 5, 9])
    cache.finish(second)
    cache.operations.clear()
    assert cache.shift(first, 1, 2)
    assert cache.operations[0] == Remove(second.id, 3, -1)
    assert second.tokens == [0, 1, 2]


def test_a_source_outlives_the_search_for_an_id() -> None:
    """Where an id has to be freed for a new sequence, it is not that of the sequence it shares with."""
    cache = make_cache(n_sequences=3)
    first, second = ran(cache, [1, 2, 3, 4]), ran(cache, [5, 6])
    cache.finish(first)
    cache.finish(second)
    ran(cache, [7])
    cache.operations.clear()
    holding = cache.begin([1, 2, 3, 9], "")
    assert cache.operations == [Remove(second.id, 0, -1), Copy(first.id, holding.id, 3)]


def test_the_last_other_sequence_is_taken_over() -> None:
    """With no other way to an id, the shared sequence is cut and continued itself."""
    cache = make_cache(n_sequences=2)
    first = ran(cache, [1, 2, 3, 4])
    cache.finish(first)
    ran(cache, [7])
    assert cache.begin([1, 2, 3, 9], "") is first
    assert cache.operations == [Remove(first.id, 3, -1)]


def test_equal_tokens_of_another_key_say_something_else() -> None:
    """A finished sequence is only made needless by one of its own key."""
    cache = make_cache()
    for key in ("a", "b"):
        cache.finish(ran(cache, [1, 2, 3], key))
    assert cache.kept_cells == 6
