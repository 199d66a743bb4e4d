"""Fitting prompts into a context, case by case from the contracts."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from ollamad.runner_child.fitting import (
    TOO_LONG,
    PromptTooLong,
    cut_tokens,
    fit_messages,
    kept_tokens,
    predict_limit,
    shift_limit,
)
from ollamad.types import Message

U1 = Message("user", "You're a test, Harry!")
A = Message("assistant", "I-I'm a what?")
U2 = Message("user", "A test. And a thumping good one at that, I'd wager.")
S = Message("system", "You are the Test Who Lived.")


def fit(messages: Sequence[Message], limit: int) -> tuple[str, int, int]:
    """Text, messages dropped, and how often it was tokenized; one token per word."""
    calls = 0

    def tokenize(text: str) -> list[int]:
        nonlocal calls
        calls += 1
        return [0] * len(text.split())

    fitted = fit_messages(messages, limit, lambda kept: "".join(f"{one.content} " for one in kept), tokenize)
    return fitted.text, fitted.dropped, calls


@pytest.mark.parametrize(
    ("messages", "limit", "kept"),
    [
        ((U1, A, U2), 64, (U1, A, U2)),
        ((U1, A, U2), 1, (U2,)),
        ((S, U1, A, U2), 64, (S, U1, A, U2)),
        ((U1, A, S, U2), 64, (U1, A, S, U2)),
        ((S, U1, A, U2), 17, (S, U2)),
        ((U1, A, S, U2), 17, (S, U2)),
        ((S,), 1, (S,)),
    ],
    ids=["PT-01", "PT-02", "PT-09", "PT-10", "system stays", "system in the middle stays", "system alone"],
)
def test_oldest_messages_go_first(messages: tuple[Message, ...], limit: int, kept: tuple[Message, ...]) -> None:
    """What is left is the newest that fits, with every system message, and always the last."""
    text, dropped, _ = fit(messages, limit)
    assert text == "".join(f"{one.content} " for one in kept)
    assert dropped == len(messages) - len(kept)


@pytest.mark.parametrize(("limit", "calls"), [(2048, 1), (5, 5)], ids=["PT-13", "PT-14"])
def test_it_counts_no_more_than_needed(limit: int, calls: int) -> None:
    """Once if everything fits, at most once per message otherwise."""
    messages = [Message("user", f"word{number} two three") for number in range(5)]
    assert fit(messages, limit)[2] <= calls


@pytest.mark.parametrize(
    ("num_ctx", "keep", "limit"),
    [(8, 3, 6), (4096, 4, 2050), (4096, 5, 2051), (8, 99, 7), (8, -1, 4), (1, 0, 0)],
    ids=[f"SHL-0{number}" for number in range(1, 7)],
)
def test_shift_limit(num_ctx: int, keep: int, limit: int) -> None:
    """Half of what is not kept stays free, one token at least."""
    assert shift_limit(num_ctx, keep) == limit


def test_a_prompt_is_refused_without_shift() -> None:
    """OVF-01, PT-17: the words are the contract's."""
    with pytest.raises(PromptTooLong) as caught:
        cut_tokens(range(10), 8, 4, adds_bos=False, shift=False)
    assert str(caught.value) == TOO_LONG


@pytest.mark.parametrize(
    ("count", "num_ctx", "num_keep", "adds_bos", "expected"),
    [
        (10, 8, 3, False, [0, 1, 2, 7, 8, 9]),
        (5000, 4096, 4, True, [0, 1, 2, 3, 4, *range(2954, 5000)]),
        (7, 8, 4, False, list(range(7))),
        (10, 8, -1, False, [0, 1, 2, 3, 4, 5, 6]),
        (10, 8, 99, False, [0, 1, 2, 3, 4, 5, 6]),
        (10, 1, 0, False, list(range(10))),
    ],
    ids=["OVF-02 PT-18", "OVF-03 PT-19", "PT-20", "num_keep -1", "num_keep over", "num_ctx 1"],
)
def test_the_middle_is_cut_out(count: int, num_ctx: int, num_keep: int, adds_bos: bool, expected: list[int]) -> None:
    """The first tokens and the tail are left, or the head alone when everything is to be kept."""
    assert cut_tokens(range(count), num_ctx, num_keep, adds_bos=adds_bos, shift=True) == expected


def test_bos_is_kept_beside_num_keep() -> None:
    """A model that adds BOS keeps one token more."""
    assert kept_tokens(4, 4096, adds_bos=True, prompt_tokens=5000) == 5
    assert kept_tokens(4, 4096, adds_bos=False, prompt_tokens=5000) == 4
    assert kept_tokens(-1, 4096, adds_bos=True, prompt_tokens=5000) == 4095


@pytest.mark.parametrize(
    ("num_predict", "num_ctx", "expected"),
    [(-1, 2048, 20480), (100, 2048, 100), (30000, 2048, 20480), (-1, 0, -1)],
    ids=["NPR-01", "NPR-02", "NPR-03", "NPR-04"],
)
def test_predict_limit(num_predict: int, num_ctx: int, expected: int) -> None:
    """Nothing generates for ever: ten contexts are the most."""
    assert predict_limit(num_predict, num_ctx) == expected
