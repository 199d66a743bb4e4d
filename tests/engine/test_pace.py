"""Chunk sizes follow measured time."""

from __future__ import annotations

import pytest

from ollamad.engine.pace import Pace

MS = 1_000_000


def settled(pace: Pace, token_ns: int, *, decoding: bool, decode_ns: int = 0) -> int:
    """The chunk after a machine of this speed was measured for a while."""
    for _ in range(20):
        if decoding:
            pace.decoded(decode_ns)
        size = pace.chunk(decoding)
        pace.prefilled(size, decoding, size * token_ns + (decode_ns if decoding else 0))
    return pace.chunk(decoding)


def test_the_first_guess_is_small() -> None:
    """Before anything was measured, a slow machine must not be stuck for seconds."""
    assert Pace(200 * MS, 512).chunk(decoding=False) <= 40
    assert Pace(200 * MS, 512, weights=8_000_000_000).chunk(decoding=False) <= 40


def test_a_small_model_needs_no_small_chunk() -> None:
    """A model whose batch takes no time on any machine begins with a whole batch."""
    assert Pace(200 * MS, 512, weights=4_000_000).chunk(decoding=True) == 500
    assert Pace(200 * MS, 512, weights=4_000_000).chunk(decoding=False) == 512


@pytest.mark.parametrize(("token_ns", "chunk"), [(7 * MS, 28), (100 * MS, 2), (1, 512), (900 * MS, 1)])
def test_a_step_takes_the_time_it_may(token_ns: int, chunk: int) -> None:
    """Beside decoding streams a chunk fills 200 ms, but at least a token and at most the batch."""
    assert settled(Pace(200 * MS, 512), token_ns, decoding=True) == pytest.approx(chunk, abs=1)


def test_alone_a_step_may_take_a_quarter_more() -> None:
    """With no other stream to stall, the time is 250 ms."""
    assert settled(Pace(200 * MS, 512), 10 * MS, decoding=False) == pytest.approx(25, abs=1)


def test_the_time_of_decoding_counts() -> None:
    """What the other streams' tokens take is not there for the prompt."""
    assert settled(Pace(200 * MS, 512), 10 * MS, decoding=True, decode_ns=100 * MS) == pytest.approx(10, abs=1)


def test_the_short_end_of_a_prompt_tells_nothing_good() -> None:
    """A chunk of a few tokens does not make the next one larger."""
    pace = Pace(200 * MS, 512)
    settled(pace, 2 * MS, decoding=True)
    before = pace.chunk(decoding=True)
    pace.prefilled(2, True, 1 * MS)
    assert pace.chunk(decoding=True) == before


def test_prompts_are_not_starved_by_steps_that_are_never_without_one() -> None:
    """Where the time of decoding was never measured alone, a chunk of one token still grows to what fits."""
    pace = Pace(200 * MS, 512)
    pace.prefilled(pace.chunk(decoding=True), True, 20_000 * MS)
    pace.prefilled(pace.chunk(decoding=True), True, 20_000 * MS)
    assert pace.chunk(decoding=True) == 1
    for _ in range(40):
        size = pace.chunk(decoding=True)
        pace.prefilled(size, True, 120 * MS + size * MS)
    assert pace.chunk(decoding=True) == pytest.approx(80, abs=10)


def test_one_slow_step_does_not_stop_everything() -> None:
    """A hiccup of a hundred times the usual step makes chunks four times smaller, not a hundred."""
    pace = Pace(200 * MS, 512)
    before = settled(pace, 1 * MS, decoding=True)
    pace.prefilled(before, True, 20_000 * MS)
    assert pace.chunk(decoding=True) >= before // 4
