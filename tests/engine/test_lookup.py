"""Guesses from the text itself."""

from __future__ import annotations

import random

import pytest

from ollamad.engine.lookup import Lookup, LookupGuesser
from ollamad.engine.sequence import Sequence
from ollamad.engine.speculation import Guess
from ollamad.engine.work import Work
from ollamad.types import SamplingParameters

END = 0


def told(prompt: list[int], output: list[int]) -> Lookup:
    lookup = Lookup(prompt)
    for token in output:
        lookup.took(token)
    return lookup


def test_what_followed_before_is_guessed() -> None:
    """After three tokens that stood in the prompt, what followed them there is guessed."""
    assert told([1, 2, 3, 4, 5, 6, 9], [1, 2, 3]).guess(2)[0] == [4, 5]


def test_an_output_repeats_itself() -> None:
    """The output is searched like the prompt."""
    assert told([9], [1, 2, 3, 4, 1, 2, 3]).guess(1)[0] == [4]


def test_the_prompt_may_end_within_a_repetition() -> None:
    """The first token already continues what the end of the prompt repeats."""
    assert told([1, 2, 3, 4, 5, 1, 2, 3], [4]).guess(1)[0] == [5]


def test_a_loop_is_guessed_on() -> None:
    """Where the repeated text is shorter than what is asked for, it is repeated again."""
    assert told([], [1, 2, 3, 1, 2, 3]).guess(7)[0] == [1, 2, 3, 1, 2, 3, 1]


@pytest.mark.parametrize("output", [[], [1], [7, 8, 9], [1, 2, 4]])
def test_without_agreement_nothing_is_guessed(output: list[int]) -> None:
    """Two tokens that agree may be chance."""
    assert told([1, 2, 3, 4, 5], output).guess(5)[0] == []


def test_the_longer_agreement_wins() -> None:
    """Of several places, the one with more in common before it is taken, not the last."""
    prompt = [5, 6, 1, 2, 3, 40, 8, 7, 1, 2, 3, 50, 8]
    assert told(prompt, [5, 6, 1, 2, 3]).guess(1)[0] == [40]


def test_after_a_change_the_copy_goes_on_nearby() -> None:
    """Where a repeated text was changed, it is taken up again near to where it was left."""
    line = [1, 2, 3]
    prompt = [*line, 10, 20, 30, *line, 11, 21, 31, *line, 12]
    lookup = told(prompt, [10, 20, 30, *line, 11, 99, 98, *line])
    assert lookup.guess(1)[0] == [12]


def test_chances_follow_what_came_true() -> None:
    """A text that repeats itself is guessed with ever more confidence, one that only seems to with less."""
    copied = list(range(100, 200))
    lookup = told([*copied, 1], copied[:60])
    assert min(lookup.guess(5)[1]) > 0.9
    rng = random.Random(1)
    deceiving = Lookup([1, 2, 3, 4])
    for _ in range(30):
        for token in (1, 2, 3, rng.randint(10, 10**6)):
            deceiving.took(token)
    for token in (1, 2, 3):
        deceiving.took(token)
    assert deceiving.guess(1)[1][0] < 0.1


def test_a_long_prompt_is_searched_from_its_end() -> None:
    """The beginning of a very long prompt is left out: an index of it all would take too long."""
    assert told([*range(1, 9), *range(10, 40_000)], [1, 2, 3]).guess(1)[0] == []
    assert told([*range(1, 9), *range(10, 40_000)], [39_990, 39_991, 39_992]).guess(1)[0] == [39_993]


@pytest.mark.parametrize("seed", range(20))
def test_guesses_are_those_of_a_plain_search(seed: int) -> None:
    """Over random texts: what is guessed did follow the same three tokens somewhere before."""
    rng = random.Random(seed)
    prompt = [rng.randint(1, 4) for _ in range(rng.randint(0, 40))]
    lookup, text = Lookup(prompt), list(prompt)
    for _ in range(200):
        token = rng.randint(1, 4)
        lookup.took(token)
        text.append(token)
        followers = {text[i] for i in range(3, len(text)) if text[i - 3 : i] == text[-3:]}
        (tokens, chances) = lookup.guess(4)
        assert bool(tokens) == bool(followers)
        assert len(tokens) == len(chances) == (4 if followers else 0)
        assert not tokens or tokens[0] in followers


def test_an_end_is_never_guessed() -> None:
    """Guesses stop before a token that ends the answer: what follows it follows nothing."""
    guesser = LookupGuesser(lambda token: token == END)
    sequence = Sequence(Work("w", (1, 2, 3, 4, END, 5), SamplingParameters(), -1, 0), 99, None, None)  # type: ignore[arg-type]
    for token in (1, 2, 3):
        guesser.took(sequence, token)
    assert list(guesser.guess([(sequence, 5)])[0].tokens) == [4]
    guesser.forget(sequence)
    assert guesser.guess([(sequence, 5)]) == [Guess()]


def test_what_was_said_before_the_first_guess_counts() -> None:
    """A guesser that is asked late guesses what one that was asked all along does."""
    early, late = LookupGuesser(lambda token: False), LookupGuesser(lambda token: False)
    sequence = Sequence(Work("w", (1, 2, 3, 4, 5, 6), SamplingParameters(), -1, 0), 99, None, None)  # type: ignore[arg-type]
    for token in (7, 1, 2, 3, 4):
        early.took(sequence, token)
        late.took(sequence, token)
        early.guess([(sequence, 3)])
    assert early.guess([(sequence, 2)]) == late.guess([(sequence, 2)])
    assert list(late.guess([(sequence, 2)])[0].tokens) == [5, 6]
