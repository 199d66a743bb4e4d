"""One answer from its tokens to its end."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from ollamad.engine.engine import Outcome
from ollamad.prompt.render import ChatTemplate
from ollamad.runner_child.answer import Answer
from ollamad.runner_child.prompts import Prompt, PromptMaker
from ollamad.runner_child.text import REPEATS_MAX
from ollamad.testing.fake_backend import FakeModel
from ollamad.testing.fake_gates import Gates
from ollamad.testing.fake_options import FakeOptions
from ollamad.types import SamplingParameters, Timings
from ollamad.wire.messages import Chat, Delta, Done, Failed, Generate, Up


def answer(task: Generate | Chat) -> tuple[Answer, list[Up]]:
    model = FakeModel(FakeOptions(adds_bos=False), Gates())
    sent: list[Up] = []
    prompts = PromptMaker(model, ChatTemplate(None), 64)
    return Answer("a", task, Prompt("in", [*b"in"], 3, 2), model=model, prompts=prompts, send=sent.append), sent


def feed(one: Answer, tokens: Sequence[int]) -> int:
    """How many tokens were taken before it wanted no more."""
    for number, token in enumerate(tokens):
        if not one.token(token):
            return number
    return len(tokens)


def test_it_tells_all_facts_at_the_end() -> None:
    """Text by text, then one Done with timings, context, and what was cut."""
    one, sent = answer(Generate("in", wants_context=True))
    assert feed(one, b"out") == 3
    timings = Timings(2, 1, 10, 4, 20)
    one.finished(Outcome("stop", timings, 4, shifts=5))
    assert sent[:-1] == [Delta("a", letter) for letter in "out"]
    assert sent[-1] == Done(
        "a",
        reason="stop",
        timings=timings,
        tokens=tuple(b"inout"),
        prompt_cut_tokens=3,
        messages_dropped=2,
        context_shifts=5,
    )


def test_a_stop_string_ends_it_and_is_no_context() -> None:
    """The token that completes it is the last one taken."""
    one, sent = answer(Generate("in", parameters=SamplingParameters(stop=("ut",)), wants_context=True))
    assert feed(one, b"outer") == 2
    one.finished(Outcome("stop"))
    assert sent[0] == Delta("a", "o")
    assert isinstance(sent[-1], Done)
    assert sent[-1].tokens == tuple(b"ino")


@pytest.mark.parametrize(("task", "taken"), [(Generate("in"), REPEATS_MAX + 1), (Chat(()), 100)])
def test_a_loop_of_one_piece_ends_a_prompt(task: Generate | Chat, taken: int) -> None:
    """Q3: the guard of the completion path ends it, and here a final message follows."""
    one, sent = answer(task)
    assert feed(one, b"x" * 100) == taken
    one.finished(Outcome("stop"))
    assert len(sent) == taken + 1
    assert isinstance(sent[-1], Done)
    assert sent[-1].reason == ("length" if taken < 100 else "stop")


@pytest.mark.parametrize(
    ("outcome", "kind"),
    [
        (Outcome("cancelled"), "cancelled"),
        (Outcome("failed", error="why"), "internal"),
        (Outcome("failed", error="why", too_long=True), "too_long"),
    ],
)
def test_a_bad_end_is_a_failure(outcome: Outcome, kind: str) -> None:
    """The engine's words are passed on."""
    one, sent = answer(Chat(()))
    one.finished(outcome)
    (failed,) = sent
    assert isinstance(failed, Failed)
    assert failed.kind == kind
    assert failed.message == (outcome.error or "the request was cancelled")
