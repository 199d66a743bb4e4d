"""Limits, shifts and times of one sequence."""

from __future__ import annotations

from typing import Any

import pytest

from ollamad.engine.sequence import Sequence
from ollamad.engine.work import Work
from ollamad.types import SamplingParameters, Timings


def make(prompt: int, **fields: Any) -> Sequence:
    work = Work("w", tuple(range(prompt)), SamplingParameters(), fields.pop("max_tokens", -1), 0, **fields)
    return Sequence(work, fields.pop("ctx_len", 16), None, None)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("prompt", "generated", "num_keep", "expected"),
    [
        (10, 6, 0, (0, 7)),
        (10, 6, 4, (4, 5)),
        (10, 6, -1, (10, 2)),
        (14, 2, -1, (12, 1)),  # llama-server leaves four tokens to work with
        (10, 6, 99, (12, 1)),
    ],
)
def test_a_shift_discards_half_of_what_may_go(
    prompt: int, generated: int, num_keep: int, expected: tuple[int, int]
) -> None:
    """Keep and discard are llama-server's: half of the computed tokens behind those that are kept."""
    sequence = make(prompt, num_keep=num_keep)
    for token in range(generated):
        sequence.took(token, 1)
    assert sequence.shift_range() == expected


@pytest.mark.parametrize(("max_tokens", "ends_after"), [(0, 1), (1, 1), (3, 3), (-1, 6)])
def test_length_is_reached_by_count_or_context(max_tokens: int, ends_after: int) -> None:
    """A limit of 0 still gives one token, as llama-server does; without a limit the context is the end."""
    sequence = make(10, max_tokens=max_tokens, shift=False)
    count = 0
    while sequence.limit_reached(can_shift=True) is None or not count:
        sequence.took(1, 1)
        count += 1
    assert count == ends_after


def test_with_a_shift_the_context_is_no_limit() -> None:
    """A sequence that can be shifted goes on at its context's end."""
    sequence = make(15)
    sequence.took(1, 1)
    assert sequence.limit_reached(can_shift=True) is None
    assert sequence.limit_reached(can_shift=False) == "length"


def test_times_are_between_start_first_and_last_token() -> None:
    """Prompt time ends where generation time begins: at the first token."""
    sequence = make(5)
    sequence.started_ns, sequence.cached = 1000, 3
    for now in (51_000, 61_000, 91_000):
        sequence.took(1, now)
    assert sequence.timings() == Timings(5, 3, 50_000, 3, 40_000)


def test_one_token_takes_a_microsecond() -> None:
    """A single token still has a duration, so that the figure does not vanish from the wire."""
    sequence = make(5)
    sequence.took(1, 7)
    assert sequence.timings().generate_ns == 1000
