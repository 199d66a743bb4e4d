"""Plans of single steps, without clock or context."""

from __future__ import annotations

from typing import Any

import pytest

from ollamad.engine.batcher import Batcher, StepPlan
from ollamad.engine.kvcache import KVCache
from ollamad.engine.pace import Pace
from ollamad.engine.sequence import Sequence
from ollamad.engine.work import Work
from ollamad.types import SamplingParameters

END = 0


def make(*, slots: int = 2, n_batch: int = 8, n_cells: int = 100, n_sequences: int = 8) -> Batcher:
    cache = KVCache(n_cells, n_sequences, can_share=True, can_cut=True, can_shift=True)
    pace = Pace(200_000_000, n_batch)
    return Batcher(cache, pace, slots=slots, n_batch=n_batch, is_end=lambda token: token == END)


def submit(batcher: Batcher, name: str, tokens: Any, **fields: Any) -> Sequence:
    work = Work(name, tuple(tokens), SamplingParameters(), -1, 0, **fields)
    sequence = Sequence(work, 50, None, None)  # type: ignore[arg-type]
    batcher.submit(sequence)
    return sequence


def step(batcher: Batcher, now: int = 1) -> StepPlan:
    """Plan and apply one step in which every pick chooses token 7."""
    plan = batcher.plan(now)
    batcher.computed(plan)
    for sequence, _ in plan.picks:
        batcher.took(sequence, 7, now)
    return plan


def named(plan: StepPlan) -> list[tuple[str, int]]:
    return [(sequence.work.id, count) for sequence, count in plan.rows]


def test_prefill_fills_what_decoding_leaves() -> None:
    """A step has one token of every running answer, and prompt tokens in the rest of the batch."""
    batcher = make()
    submit(batcher, "a", [1, 2])
    step(batcher)
    submit(batcher, "b", range(10, 30))
    plan = step(batcher)
    assert named(plan) == [("a", 1), ("b", 7)]
    assert plan.prefill_tokens == 7
    assert [sequence.work.id for sequence, _ in plan.picks] == ["a"]


def test_the_last_prompt_token_asks_for_logits() -> None:
    """Only the row that ends a prompt has an output, and the pick names it."""
    batcher = make()
    submit(batcher, "a", [5, 6, 7])
    plan = batcher.plan(1)
    assert plan.batch.outputs == [False, False, True]
    assert plan.batch.positions == [0, 1, 2]
    assert [row for _, row in plan.picks] == [2]


def test_a_plan_may_be_dropped() -> None:
    """Planning twice gives the same step: nothing counts as computed before it was applied."""
    batcher = make()
    submit(batcher, "a", [5, 6, 7])
    first, second = batcher.plan(1), batcher.plan(2)
    assert first.batch == second.batch
    assert batcher.prefilled == 0


def test_slots_are_never_exceeded() -> None:
    """Those who find no slot wait, and start in order as slots become free."""
    batcher = make()
    sequences = [submit(batcher, name, [1]) for name in "abcd"]
    step(batcher)
    assert [sequence.work.id for sequence in batcher.running] == ["a", "b"]
    batcher.end(sequences[0], "stop")
    step(batcher)
    assert [sequence.work.id for sequence in batcher.running] == ["b", "c"]


def test_more_streams_than_a_batch_holds_take_turns() -> None:
    """When a step cannot hold every running answer, all of them advance alike."""
    batcher = make(slots=5, n_batch=2, n_cells=1000)
    sequences = [submit(batcher, str(i), [i + 1]) for i in range(5)]
    for _ in range(60):
        step(batcher)
    counts = [sequence.generated for sequence in sequences]
    assert max(counts) - min(counts) <= 2


def test_a_token_tells_who_ends() -> None:
    """An end token is ``stop``, even where the limit is reached by it."""
    batcher = make()
    submit(batcher, "a", [1])
    submit(batcher, "b", [2])
    plan = batcher.plan(1)
    batcher.computed(plan)
    assert [batcher.took(s, token, 2) for (s, _), token in zip(plan.picks, (END, 9), strict=True)] == ["stop", None]


@pytest.mark.parametrize("reason", ["stop", "length", "cancelled"])
def test_cells_of_the_finished_are_kept(reason: Any) -> None:
    """However a request ended, what was computed may be reused."""
    batcher = make()
    sequence = submit(batcher, "a", [1, 2, 3])
    step(batcher)
    batcher.end(sequence, reason)
    assert batcher.cache.kept_cells == 3


def test_cells_of_the_failed_are_not_kept() -> None:
    """After an error nothing of a request is trusted."""
    batcher = make()
    sequence = submit(batcher, "a", [1, 2, 3])
    step(batcher)
    batcher.end(sequence, "failed", "why")
    assert batcher.cache.used == 0


def test_room_is_made_before_the_context_is_full() -> None:
    """A step that needs cells evicts finished sequences first, as an operation of its plan."""
    batcher = make(n_cells=6)
    sequence = submit(batcher, "a", [1, 2, 3, 4])
    step(batcher)
    batcher.end(sequence, "stop")
    submit(batcher, "b", [9, 9, 9])
    plan = step(batcher)
    assert [operation.sequence_id for operation in plan.operations] == [0]
    assert named(plan) == [("b", 3)]


def test_when_no_cell_is_left_the_youngest_gives_way() -> None:
    """Two prompts that together exceed the context do not wait for each other for ever."""
    batcher = make(n_cells=6, n_batch=3)
    submit(batcher, "a", [1, 2, 3, 4])
    submit(batcher, "b", [5, 6, 7, 8])
    ended = [sequence.work.id for _ in range(4) for sequence, _ in step(batcher).ended]
    assert ended == ["b"]


def test_a_full_context_is_asked_for_less() -> None:
    """When the library finds no cells, half as many tokens are tried, down to one; that one's request fails."""
    batcher = make(n_batch=4)
    submit(batcher, "a", [1, 2, 3, 4])
    sizes = []
    ended: list[Any] = []
    while not ended:
        plan = batcher.plan(1)
        sizes.append(len(plan.batch))
        ended = batcher.full(plan)
    assert sizes == [4, 2, 1]
    assert ended[0][1].reason == "failed"
