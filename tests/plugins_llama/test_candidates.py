"""The search for the few tokens that can win."""

from __future__ import annotations

import ctypes

import numpy as np
import pytest
from ollamad_llama.candidates import Candidates, row_at

N_VOCAB = 20_011  # no multiple of a group


def filled(finder: Candidates, count: int) -> list[int]:
    return [finder.id(index) for index in range(count)]


@pytest.mark.parametrize("k", [1, 40, 150])
def test_the_k_largest_are_found(k: int) -> None:
    """All of the k most likely tokens are candidates, in ascending order, and not many besides."""
    finder = Candidates(N_VOCAB)
    for seed in range(20):
        row = np.random.default_rng(seed).standard_normal(N_VOCAB, np.float32)
        found = filled(finder, finder.fill(row, k))
        assert found == sorted(found)
        assert set(np.argsort(row)[-k:].tolist()) <= set(found)
        assert len(found) < 3 * k + 8


def test_the_end_of_a_row_counts() -> None:
    """Tokens beyond the last whole group are found like others."""
    finder = Candidates(N_VOCAB)
    row = np.zeros(N_VOCAB, np.float32)
    row[-1], row[5], row[-2] = 3, 2, 1
    row += np.linspace(0, 0.1, N_VOCAB, dtype=np.float32)
    assert {5, N_VOCAB - 1, N_VOCAB - 2} <= set(filled(finder, finder.fill(row, 3)))


def test_tokens_that_change_come_on_top() -> None:
    """Those named are candidates, however small, and do not count among the k."""
    finder = Candidates(N_VOCAB)
    row = np.random.default_rng(3).standard_normal(N_VOCAB, np.float32)
    largest = np.argsort(row)[::-1].tolist()
    also = (*largest[:10], largest[-1], largest[-2])
    found = filled(finder, finder.fill(row, 20, also))
    assert found == sorted(set(found))
    assert {*largest[:30], *also} <= set(found)


def test_rows_that_cannot_be_thinned_are_told() -> None:
    """Equal logits everywhere, or logits that are no numbers, give no candidates."""
    finder = Candidates(N_VOCAB)
    assert finder.fill(np.zeros(N_VOCAB, np.float32), 40) == 0
    assert finder.fill(np.full(N_VOCAB, np.nan, np.float32), 40) == 0


def test_equal_logits_have_no_order() -> None:
    """An order is one only if the k largest and the next differ; those below may be equal."""
    finder = Candidates(N_VOCAB)
    row = np.full(N_VOCAB, -9, np.float32)
    row[:6] = 6, 5, 4, 3, 3, 1
    count = finder.fill(row, 5)
    assert finder.ordered(count, 3)
    assert not finder.ordered(count, 4)
    assert not finder.ordered(count, 5)


def test_a_row_is_seen_where_it_lies() -> None:
    """A view follows what the library writes, without a copy."""
    memory = (ctypes.c_float * 4)(1, 2, 3, 4)
    view = row_at(ctypes.addressof(memory), 4)
    memory[2] = 7
    assert view.tolist() == [1, 2, 7, 4]
