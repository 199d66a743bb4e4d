"""Inputs of embeddings cut, their vectors shaped."""

from __future__ import annotations

import math
from array import array
from dataclasses import replace
from typing import cast

import pytest

from ollamad.plugin.backend import Model, ModelDescription
from ollamad.runner_child.vectors import (
    CANNOT_CUT,
    INPUT_TOO_LONG,
    NOTHING_LEFT,
    InputTooLong,
    fit_input,
    is_raw,
    normalized,
    shape_vector,
)
from ollamad.wire.messages import Embed

FACTS = ModelDescription("bert", 100, 512, 4, 1, 2, True, True, None)
TASK = Embed(("x",))


class Words:
    """A token per word, 1 in front and 2 behind; ``swells`` makes each rebuilt text longer."""

    def __init__(self, trained: int = 512, *, swells: int = 0) -> None:
        self.description = replace(FACTS, n_ctx_train=trained)
        self._swells = swells

    def tokenize(self, text: str, *, add_special: bool, parse_special: bool) -> list[int]:
        words = [int(word) for word in text.split()]
        return [1, *words, 2] if add_special else words

    def detokenize(self, tokens: list[int]) -> str:
        return " ".join(map(str, [*tokens, *[9] * self._swells]))


def words(count: int) -> str:
    return " ".join(str(number) for number in range(10, 10 + count))


def fit(
    text: str, *, truncate: bool = True, ctx_len: int = 64, n_batch: int = 64, model: Words | None = None
) -> list[int]:
    task = Embed((text,), truncate=truncate)
    return fit_input(cast(Model, model or Words()), text, task, ctx_len=ctx_len, n_batch=n_batch)


def test_what_fits_is_left_alone() -> None:
    """Special tokens count."""
    assert fit(words(62)) == [1, *range(10, 72), 2]
    assert fit(words(62), truncate=False) == fit(words(62))


def test_what_is_too_long_is_cut_to_the_limit() -> None:
    """EM-13: the result is that of the shorter text, marks included; the trained context counts too."""
    assert fit(words(200)) == fit(words(62))
    assert fit(words(200), model=Words(16), n_batch=512, ctx_len=512) == fit(words(14))
    assert fit(f"1 {words(200)}") == fit(f"1 {words(61)}")


def test_without_truncate_it_is_refused() -> None:
    """EM-14."""
    with pytest.raises(InputTooLong, match=INPUT_TOO_LONG):
        fit(words(63), truncate=False)


def test_nothing_left_is_an_error() -> None:
    """EM-15: the marks alone fill the context."""
    with pytest.raises(InputTooLong, match=NOTHING_LEFT):
        fit(words(5), ctx_len=2)


def test_the_physical_batch_limits_once_more() -> None:
    """An input over the batch is cut to it; one that will not get shorter is refused."""
    assert fit(words(200), n_batch=32) == fit(words(30))
    with pytest.raises(InputTooLong, match=CANNOT_CUT):
        fit(words(200), n_batch=32, model=Words(swells=5))


@pytest.mark.parametrize("vector", [[1.0], [0.0, 1, 2, 3], [0.1, 0.2, 0.3], [-0.1, 0.2, 0.3, -0.4]])
def test_vectors_get_length_one(vector: list[float]) -> None:
    """EM-05."""
    assert math.hypot(*normalized(vector)) == pytest.approx(1)


def test_a_zero_vector_stays() -> None:
    """EM-06: there is no direction to keep."""
    assert normalized([0.0, 0.0, 0.0]) == [0.0, 0.0, 0.0]


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_numbers_that_are_none_are_refused(bad: float) -> None:
    """EM-07."""
    with pytest.raises(ValueError, match="NaN or Inf"):
        shape_vector([1.0, bad], TASK, raw=False)


def test_dimensions_cut_and_normalise_again() -> None:
    """EM-08: fewer are a unit vector of the first; as many or more change nothing."""
    vector = [3.0, 4.0, 12.0]
    assert array("f", shape_vector(vector, replace(TASK, dimensions=2), raw=False)).tolist() == pytest.approx(
        [0.6, 0.8]
    )
    for same in (0, 3, 9):
        shaped = array("f", shape_vector(vector, replace(TASK, dimensions=same), raw=False))
        assert shaped.tolist() == pytest.approx([3 / 13, 4 / 13, 12 / 13])


def test_the_older_form_gives_the_runner_s_values() -> None:
    """EM-18: what llama-server would return: of length 1, but for models that were always left raw."""
    older = replace(TASK, normalize=False, dimensions=1)
    assert array("f", shape_vector([3.0, 4.0], older, raw=True)).tolist() == [3.0, 4.0]
    assert array("f", shape_vector([3.0, 4.0], older, raw=False)).tolist() == pytest.approx([0.6, 0.8])


@pytest.mark.parametrize(
    ("architecture", "metadata", "raw"),
    [
        ("bert", {"tokenizer.ggml.model": "t5"}, True),
        ("nomic-bert", {"tokenizer.ggml.model": "bert"}, True),
        ("qwen3", {}, False),
        ("bert", {"tokenizer.ggml.model": "bert"}, False),
        ("bert", {"tokenizer.ggml.model": "bert", "bert.normalize_embeddings": "false"}, True),
        ("nomic-bert-moe", {"nomic-bert-moe.normalize_embeddings": "true"}, False),
    ],
    ids=["EMB-04", "EMB-05", "EMB-06", "bert", "bert told", "nomic told"],
)
def test_which_models_are_raw(architecture: str, metadata: dict[str, str], raw: bool) -> None:
    """The rule of the runtime contract, by architecture and tokenizer."""
    assert is_raw(replace(FACTS, architecture=architecture, metadata=metadata)) is raw
