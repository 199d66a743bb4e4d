"""Beginnings that several requests share are computed once, and nobody waits for nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from ollamad.plugin.backend import KVCacheFull

Make = Callable[..., Any]
SHARED = tuple(range(1, 201)) * 5  # 1,000 tokens


def tailed(number: int) -> tuple[int, ...]:
    """The shared beginning with a tail of 20 tokens of its own."""
    return (*SHARED, *(201 + (number + i * i) % 50 for i in range(20)))


def fake_of(driver: Make, **options: Any) -> Any:
    return driver(**{"slots": 8, "ctx_len": 2048, "n_batch": 64, **options})


def computed(fake: Any) -> int:
    return int(fake.engine.counters().prefilled)


@pytest.mark.parametrize("slots", [8, 16])
@pytest.mark.parametrize("speculate", [False, True])
def test_sixteen_clients_compute_a_beginning_once(driver: Make, slots: int, speculate: bool) -> None:
    """Of 16 requests at once the shared 1,000 tokens are prefilled once, also if half of them get a slot later."""
    fake = fake_of(driver, slots=slots)
    if not speculate:
        fake.engine._batcher.speculation = None
    listeners = [fake.submit(tailed(number), max_tokens=16) for number in range(16)]
    fake.run()
    assert computed(fake) <= 1.1 * (1000 + 16 * 20)
    assert fake.engine.counters().reused >= 15 * 1000
    alone = fake_of(driver)
    assert [listener.tokens for listener in listeners] == [
        alone.answer(tailed(number), max_tokens=16).tokens for number in range(16)
    ]


def test_reused_tokens_are_counted_and_take_no_time(driver: Make) -> None:
    """Who waited for a beginning reports it as reused, and its prompt time begins after the wait."""
    fake = fake_of(driver)
    first, second = fake.submit(tailed(1), max_tokens=2), fake.submit(tailed(2), max_tokens=2)
    fake.run()
    assert first.outcome.timings.cached_tokens == 0
    assert second.outcome.timings.prompt_tokens == 1020
    assert second.outcome.timings.cached_tokens >= 1000
    assert second.outcome.timings.prompt_ns < first.outcome.timings.prompt_ns / 4


@pytest.mark.parametrize("fate", ["cancelled", "failed", "paused"])
def test_those_who_wait_go_on_without_their_leader(driver: Make, recorder: Any, fate: str) -> None:
    """When who computes a beginning is gone, the next computes the rest and the others wait for it."""
    fake = fake_of(driver)
    leader = fake.submit(tailed(1), id="leader")
    others = [fake.submit(tailed(number), max_tokens=3) for number in (2, 3, 4)]
    while computed(fake) < 500:
        fake.turns(1)
    batcher = fake.engine._batcher
    assert len(batcher._following) == 3
    done = computed(fake)
    if fate == "cancelled":
        fake.engine.cancel("leader")
    elif fate == "failed":
        fake.engine._end(batcher.find("leader"), "failed", "why")
    else:
        fake.engine.pause("leader", True)
    fake.turns(1)
    assert len(batcher._following) == 2
    fake.run()
    assert all(other.outcome.reason == "length" for other in others)
    # What the first had computed is used, unless it failed: then it is not trusted.
    assert computed(fake) <= done + (1020 if fate == "failed" else 1020 - done) + 3 * 60
    if fate == "paused":
        fake.engine.pause("leader", False)
        fake.run()
    assert leader.done


def test_every_leader_may_be_cancelled(driver: Make) -> None:
    """However many leaders go one after the other, the last of those who wait is served."""
    fake = fake_of(driver)
    for number in range(8):
        fake.submit(tailed(number), id=f"r{number}", max_tokens=3)
    last = fake.submit(tailed(9), max_tokens=3)
    for number in range(8):
        fake.turns(2)
        fake.engine.cancel(f"r{number}")
    fake.run()
    assert last.outcome.reason == "length"
    assert last.tokens == fake_of(driver).answer(tailed(9), max_tokens=3).tokens


@pytest.mark.parametrize("phase", ["following", "queued"])
def test_who_waits_can_be_cancelled(driver: Make, phase: str) -> None:
    """A request that waits for a beginning ends at once when it is cancelled, and its slot is free."""
    fake = fake_of(driver, slots=2 if phase == "following" else 1)
    fake.submit(tailed(1))
    victim, next_one = fake.submit(tailed(2), id="victim"), fake.submit(b"next", max_tokens=2)
    fake.turns(2)
    fake.engine.cancel("victim")
    fake.turns(1)
    assert victim.outcome.reason == "cancelled"
    fake.run()
    assert next_one.outcome.reason == "length"


def test_a_full_cache_loses_nobody_who_waits(driver: Make) -> None:
    """When the library finds no cell in the middle of a beginning, those who wait for it are served all the same."""
    fake = fake_of(driver)
    listeners = [fake.submit(tailed(number), max_tokens=3) for number in range(4)]
    fake.turns(5)
    fake.gates.raise_next("decode", KVCacheFull(), KVCacheFull(), KVCacheFull())
    fake.run()
    assert all(listener.outcome.reason == "length" for listener in listeners)


def test_nobody_waits_for_another_compute_key(driver: Make) -> None:
    """A beginning that another adapter computes is no use."""
    fake = fake_of(driver)
    for key in ("a", "b"):
        fake.submit(tailed(1), key=key, max_tokens=2)
    fake.turns(1)
    assert not fake.engine._batcher._following
    fake.run()
    assert computed(fake) == 2 * 1020


@pytest.mark.parametrize("options", [{"can_share": False}, {"can_share": False, "can_cut": False}])
def test_nobody_waits_where_nothing_can_be_shared(driver: Make, options: dict[str, bool]) -> None:
    """With a context that cannot share, everybody computes at once."""
    fake = fake_of(driver, **options)
    listeners = [fake.submit(tailed(number), max_tokens=2) for number in range(3)]
    fake.turns(1)
    assert not fake.engine._batcher._following
    fake.run()
    assert all(listener.outcome.reason == "length" for listener in listeners)


def test_a_few_tokens_are_not_waited_for(driver: Make) -> None:
    """Prompts that share only the beginning of a template are computed side by side, in one step."""
    fake = fake_of(driver, n_batch=512)
    fake.engine._pace._chunk = 512
    listeners = [fake.submit((*range(1, 11), 50 + number, 60, 61), max_tokens=2) for number in range(4)]
    fake.turns(1)
    assert all(listener.tokens for listener in listeners)


def test_tails_that_share_more_wait_again(driver: Make) -> None:
    """Among those who share a beginning, some share more: that too is computed once."""
    fake = fake_of(driver)
    more = tuple(range(100, 0, -1))
    listeners = [fake.submit((*SHARED, *more, number), max_tokens=2) for number in (1, 2, 3)]
    other = fake.submit((*SHARED, 7, 8, 9), max_tokens=2)
    fake.run()
    assert computed(fake) <= 1000 + 100 + 3 + 3
    assert all(listener.done for listener in [*listeners, other])


def test_a_shift_beside_those_who_share(driver: Make) -> None:
    """Streams that began together and shift at their context's end answer as if they were alone."""
    begin = tuple(range(1, 51))
    fake = driver(slots=3, ctx_len=80, n_batch=16)
    listeners = [fake.submit((*begin, 60 + number), max_tokens=200, num_keep=10) for number in range(3)]
    fake.run()
    for number, listener in enumerate(listeners):
        alone = driver(slots=3, ctx_len=80).answer((*begin, 60 + number), max_tokens=200, num_keep=10)
        assert listener.outcome.shifts > 0
        assert listener.tokens == alone.tokens


# --- fair steps


def test_a_short_prompt_does_not_wait_for_a_long_one(driver: Make) -> None:
    """A prompt of 20 tokens behind one of 1,800 gets its first token in a few steps."""
    fake = fake_of(driver, n_batch=32)
    long = fake.submit(tuple(range(1, 201)) * 9, max_tokens=2)
    fake.turns(3)
    short = fake.submit(tuple(range(210, 230)), max_tokens=2)
    fake.turns(3)
    assert short.tokens
    assert not long.tokens


def test_short_prompts_do_not_starve_a_long_one(driver: Make) -> None:
    """However many short prompts come, the first come gets half of every chunk."""
    fake = fake_of(driver, slots=4, n_batch=32)
    long = fake.submit(tuple(range(1, 201)) * 4, max_tokens=2)
    steps = 0
    while not long.tokens:
        if len(fake.engine._batcher.waiting) < 3:
            for number in range(4):
                fake.submit(tuple(100 + (number + steps + i * i) % 99 for i in range(30)), max_tokens=1)
        fake.turns(1)
        steps += 1
    assert steps <= 2 * 800 // (32 - 4) + 10


def test_equal_prompts_are_done_one_after_the_other(driver: Make) -> None:
    """Side by side all would be done at the end; in turn, the first is done after its own time."""
    fake = fake_of(driver, slots=2, n_batch=32)
    first = fake.submit(tuple(range(1, 201)), max_tokens=2)
    second = fake.submit(tuple(range(250, 50, -1)), max_tokens=2)
    while not first.tokens:
        fake.turns(1)
    assert fake.engine.counters().prefilled < 232
    assert not second.tokens


@pytest.mark.parametrize("n_batch", [1, 2, 3])
def test_the_smallest_steps_are_fair_too(driver: Make, n_batch: int) -> None:
    """With a token or two per step, a short and a long prompt and a stream all get on."""
    fake = fake_of(driver, slots=3, n_batch=n_batch)
    stream = fake.submit(b"s", max_tokens=2000)
    fake.turns(5)
    long, short = fake.submit(tuple(range(1, 101)), max_tokens=2), fake.submit(b"short", max_tokens=2)
    before = len(stream.tokens)
    steps = 0
    while not short.tokens:
        fake.turns(1)
        steps += 1
    assert steps <= 4 * 5 + 4
    assert len(stream.tokens) - before >= steps // 2 - 1
    while not long.tokens:
        fake.turns(1)
        steps += 1
    assert steps <= 4 * 105
