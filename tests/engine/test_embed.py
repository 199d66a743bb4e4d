"""Packing of whole inputs."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest

from ollamad.engine.embed import EmbedEngine, EmbedOutcome
from ollamad.engine.engine import EngineStopped
from ollamad.plugin.backend import BackendError
from ollamad.testing.fake_context import FakeContext
from ollamad.testing.fake_gates import Gates
from ollamad.testing.fake_options import FakeOptions


class Embedder:
    def __init__(self, *, n_batch: int = 10, n_sequences: int = 3) -> None:
        self.gates = Gates()
        self.context = FakeContext(FakeOptions(), self.gates, n_ctx=64, n_batch=n_batch, n_sequences=n_sequences)
        self.steps: list[list[tuple[int, ...]]] = []
        self.fatal: list[BaseException] = []
        clock = itertools.count(1, 1000).__next__
        self.engine = EmbedEngine(self.context, on_fatal=self.fatal.append, clock=clock)
        embed = self.context.embed
        self.context.embed = lambda inputs: (self.steps.append([tuple(i) for i in inputs]), embed(inputs))[1]  # type: ignore[method-assign]

    def submit(self, name: str, *inputs: tuple[int, ...]) -> list[EmbedOutcome]:
        outcomes: list[EmbedOutcome] = []
        self.engine.submit(name, inputs, outcomes.append)
        return outcomes

    def run(self) -> None:
        while self.engine.turn():
            pass


@pytest.fixture
def embedder() -> Callable[..., Embedder]:
    return Embedder


def test_inputs_of_several_requests_share_a_step(embedder: Any) -> None:
    """Inputs are packed in order, whole, as far as tokens and sequences reach."""
    fake = embedder()
    first = fake.submit("a", (1,) * 4, (2,) * 4)
    second = fake.submit("b", (3,) * 4, (4,), (5,), (6,))
    fake.run()
    assert fake.steps == [[(1,) * 4, (2,) * 4], [(3,) * 4, (4,), (5,)], [(6,)]]
    assert (len(first[0].vectors), len(second[0].vectors)) == (2, 4)
    assert (first[0].prompt_tokens, second[0].prompt_tokens) == (8, 7)
    assert first[0].elapsed_ns > 0
    assert fake.engine.counters().prefilled == 15


def test_a_long_input_goes_alone(embedder: Any) -> None:
    """Steps are shared up to the size from which the native library rounds otherwise; a longer input has its own."""
    fake = embedder(n_batch=200, n_sequences=64)
    fake.submit("a", (1,) * 32, (2,) * 31, (3,), (4,) * 100, (5,))
    fake.run()
    assert [[len(one) for one in step] for step in fake.steps] == [[32, 31], [1], [100], [1]]


def test_each_vector_is_its_inputs(embedder: Any) -> None:
    """Packed or alone, an input has the same vector, in the place of its input."""
    inputs = [(1, 2), (3,), (4, 5, 6)]
    fake = embedder()
    together = fake.submit("a", *inputs)
    alone = [fake.submit(str(tokens), tokens) for tokens in inputs]
    fake.run()
    assert list(together[0].vectors) == [outcome[0].vectors[0] for outcome in alone]


def test_an_input_larger_than_a_step_is_refused(embedder: Any) -> None:
    """An encoder takes inputs whole; the words are llama-server's."""
    fake = embedder()
    outcomes = fake.submit("a", (1,), (2,) * 11)
    fake.run()
    assert outcomes[0].too_long
    assert outcomes[0].error.startswith("input (11 tokens) is too large to process. increase the physical batch size")
    assert not fake.steps


@pytest.mark.parametrize(("inputs", "reason"), [((), "done"), (((),), "failed")])
def test_nothing_is_never_given_to_the_context(embedder: Any, inputs: Any, reason: str) -> None:
    """No inputs give no vectors, and an input without tokens is an error."""
    fake = embedder()
    outcomes = fake.submit("a", *inputs)
    fake.run()
    assert outcomes[0].reason == reason
    assert not fake.steps


def test_a_cancelled_request_is_embedded_no_further(embedder: Any) -> None:
    """Between two steps a request can end; the next one goes on."""
    fake = embedder()
    outcomes, others = fake.submit("a", *[(1,) * 10] * 5), fake.submit("b", (2,))
    fake.engine.turn()
    fake.engine.cancel("a")
    fake.engine.cancel("unknown")
    fake.run()
    assert [outcome.reason for outcome in outcomes] == ["cancelled"]
    assert [outcome.reason for outcome in others] == ["done"]
    assert len(fake.steps) == 2


def test_a_raising_listener_harms_nobody_else(embedder: Any) -> None:
    """A callback's exception ends nothing."""
    fake = embedder()
    fake.engine.submit("a", [(1,)], lambda outcome: 1 // 0)
    outcomes = fake.submit("b", (2,))
    fake.run()
    assert outcomes[0].reason == "done"


def test_a_fatal_error_fails_everything(embedder: Any) -> None:
    """When the library fails, all requests get its words and the runner is told."""
    fake = embedder()
    outcomes = fake.submit("a", (1,)) + fake.submit("b", *[(2,) * 10] * 2)
    both = [fake.submit("c", (1,)), fake.submit("d", (2,))]
    assert not outcomes
    fake.gates.raise_next("embed", BackendError("lost"))
    fake.engine.start()
    fake.engine._thread.join(5)
    assert [outcome.error for (outcome,) in both] == ["lost", "lost"]
    assert len(fake.fatal) == 1
    with pytest.raises(EngineStopped):
        fake.submit("e", (1,))


def test_stopping_cancels(embedder: Any) -> None:
    """What was not begun when the engine stops is cancelled."""
    fake = embedder()
    outcomes = fake.submit("a", (1,))
    fake.engine.stop()
    fake.engine.stop()
    assert [outcome.reason for outcome in outcomes] == ["cancelled"]
