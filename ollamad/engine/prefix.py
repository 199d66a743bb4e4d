"""How far two lists of prefix keys agree."""

from __future__ import annotations

from collections.abc import Sequence

_BLOCK = 64


def common_length(left: Sequence[int], right: Sequence[int], limit: int) -> int:
    """The number of leading keys, at most *limit*, in which *left* and *right* are equal.

    Whole blocks are compared at once, in C; only the block with the difference is walked.
    """
    limit = min(limit, len(left), len(right))
    if limit <= 0 or left[0] != right[0]:
        return 0
    if left[:limit] == right[:limit]:
        return limit
    start = 0
    while left[start : start + _BLOCK] == right[start : start + _BLOCK]:
        start += _BLOCK
    while start < limit and left[start] == right[start]:
        start += 1
    return min(start, limit)
