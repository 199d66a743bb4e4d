"""How far two lists of prefix keys agree."""

from __future__ import annotations

from collections.abc import Sequence

_FIRST_BLOCK = 32


def common_length(left: Sequence[int], right: Sequence[int], limit: int, start: int = 0) -> int:
    """The number of leading keys, at most *limit*, in which *left* and *right* are equal; *start* are known to be.

    Slices are compared, in C: ever longer ones until one differs, then halves of that one.
    """
    limit = min(limit, len(left), len(right))
    block = _FIRST_BLOCK
    while start < limit:
        end = min(start + block, limit)
        if left[start:end] != right[start:end]:
            return _first_difference(left, right, start, end)
        start, block = end, 2 * block
    return max(limit, start)


def _first_difference(left: Sequence[int], right: Sequence[int], start: int, end: int) -> int:
    while end - start > 1:
        middle = (start + end) // 2
        if left[start:middle] == right[start:middle]:
            start = middle
        else:
            end = middle
    return start
