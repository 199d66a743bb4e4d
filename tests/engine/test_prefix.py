"""Common beginnings."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ollamad.engine.prefix import common_length

KEYS = st.lists(st.integers(0, 2), max_size=5)


@given(KEYS, KEYS, KEYS, st.integers(0, 300), st.integers(0, 3))
def test_it_is_what_a_loop_would_find(
    beginning: list[int], left: list[int], right: list[int], limit: int, repeat: int
) -> None:
    """The length is that of the longest equal beginning within the limit."""
    left, right = beginning * (30 * repeat) + left, beginning * (30 * repeat) + right
    expected = 0
    while expected < min(limit, len(left), len(right)) and left[expected] == right[expected]:
        expected += 1
    assert common_length(left, right, limit) == expected
