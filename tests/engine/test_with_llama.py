"""The engine over the demo model: the fake's promises hold for llama.cpp too."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
from ollamad_llama.cpu import CpuBackend

from ollamad.engine.engine import Engine, Work
from ollamad.engine.lookup import LookupGuesser
from ollamad.engine.speculation import CostCurve, Speculation
from ollamad.plugin.backend import Model
from ollamad.types import SamplingParameters, WeightsRef
from ollamad.wire.messages import LoadSpec

DEMO = Path(str(files("ollamad") / "_data" / "demo.gguf"))
SPEC = LoadSpec("llama-cpu", (WeightsRef("d", 1),), ctx_len=257, slots=4, n_batch=64, threads=1, threads_batch=1)
GREEDY = SamplingParameters(temperature=0.0)
QUESTIONS = ("Who are you?", "Ping", "Count from 1 to 20.", "Who made you?")


@pytest.fixture(scope="module")
def model() -> Iterator[Model]:
    model = CpuBackend().load(SPEC, {"d": DEMO}, lambda fraction: True)
    yield model
    model.close()


class Asker:
    """An engine that is driven by hand, and prompts for it."""

    def __init__(self, model: Model, recorder: Any, speculation: Speculation | None = None) -> None:
        self.model = model
        self.recorder = recorder
        self.context = model.context("generate", ctx_len=SPEC.ctx_len, slots=SPEC.slots, spec=SPEC)
        self.fatal: list[BaseException] = []
        self.engine = Engine(
            self.context,
            slots=SPEC.slots,
            ctx_len=SPEC.ctx_len,
            is_end=model.is_end,
            on_fatal=self.fatal.append,
            speculate=False,
            speculation=speculation,
        )
        self.count = 0

    def ask(self, question: str, **fields: Any) -> Any:
        text = f"<|im_start|>user\n{question}<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n"
        tokens = tuple(self.model.tokenize(text, add_special=True, parse_special=True))
        return self.submit(tokens, **fields)

    def submit(self, tokens: tuple[int, ...], max_tokens: int = 40, **fields: Any) -> Any:
        self.count += 1
        listener = self.recorder()
        usual = {"parameters": GREEDY, "ctx_len": 0}
        self.engine.submit(Work(str(self.count), tokens, max_tokens=max_tokens, **{**usual, **fields}), listener)
        return listener

    def run(self) -> None:
        while self.engine.turn():
            pass


@pytest.fixture
def asker(model: Model, recorder: Any) -> Iterator[Asker]:
    asker = Asker(model, recorder)
    yield asker
    asker.engine.stop()
    asker.context.close()


def test_answers_are_the_same_together_and_alone(asker: Asker) -> None:
    """Whether computed alone, side by side, or over kept cells, a greedy answer is the same."""
    alone = []
    for question in QUESTIONS:
        alone.append(asker.ask(question))
        asker.run()
    for _ in range(2):
        together = [asker.ask(question) for question in QUESTIONS]
        asker.run()
        assert [listener.tokens for listener in together] == [listener.tokens for listener in alone]
    assert asker.engine.counters().reused > 0


def test_the_end_token_is_counted(asker: Asker) -> None:
    """The counts are those that Ollama was recorded with: 14 tokens for the demo's name, 3 for pong."""
    name, pong = asker.ask("Who are you?"), asker.ask("Ping")
    asker.run()
    assert (name.outcome.reason, name.outcome.generated, len(name.tokens)) == ("stop", 14, 13)
    assert (pong.outcome.reason, pong.outcome.generated, len(pong.tokens)) == ("stop", 3, 2)


@pytest.mark.parametrize("ctx_len", [4, 5, 257])
def test_small_contexts_shift(asker: Asker, ctx_len: int) -> None:
    """However small the context, answers go on when shifting is allowed, beside others."""
    digits = asker.model.tokenize("1, 2, 3", add_special=False, parse_special=False)[:3]
    listeners = [asker.submit(tuple(digits), max_tokens=300 if ctx_len > 5 else 12, ctx_len=ctx_len)]
    listeners.append(asker.ask("Who are you?"))
    asker.run()
    assert listeners[0].outcome.reason in ("length", "stop")
    assert listeners[0].outcome.shifts > 0 or listeners[0].outcome.reason == "stop"
    assert listeners[1].outcome.generated == 14


def test_a_cache_that_fills_up_gives_up_the_oldest(asker: Asker) -> None:
    """Many different prompts never fill the context: kept cells make room."""
    for start in range(12):
        listener = asker.submit(tuple(range(start * 100, start * 100 + 200)), max_tokens=3)
        asker.run()
        assert listener.outcome.reason in ("length", "stop")
    counters = asker.engine.counters()
    assert counters.cells_kept <= counters.cells_total < 12 * 200


class Always(CostCurve):
    """Guesses wherever there is something to guess, though it may not pay."""

    def trusted(self, rows: int) -> bool:
        return True

    def costs(self, base: int, most: int) -> list[float]:
        return [1.0] * (most + 1)


REPEATING = (
    "Repeat this: penguin rocket noodles... Ophelia three Price saxtux order.",
    'Reply with "Leaf dusty was update of load." and nothing else.',
    "Copy this:\nduck and 444 bear Theodora a very small hen dog",
)


@pytest.mark.parametrize("fields", [{}, {"repeat_penalty": 1.2, "repeat_last_n": 32}, {"min_p": 0.1, "top_k": 0}])
def test_guesses_change_no_sampled_token(model: Model, recorder: Any, fields: dict[str, Any]) -> None:
    """With a seed, every token is the one that is drawn without guesses, penalties included."""
    told = []
    for speculation in (None, Speculation(LookupGuesser(model.is_end), Always(), repeatable=True)):
        asker = Asker(model, recorder, speculation)
        listeners = []
        for seed, question in enumerate(REPEATING):
            parameters = SamplingParameters(**{"temperature": 0.8, "seed": seed, **fields})
            listeners.append(asker.ask(question, parameters=parameters, max_tokens=60))
            asker.run()
        told.append([listener.tokens for listener in listeners])
        counters = asker.engine.counters()
        assert (counters.guessed > 0) == (speculation is not None)
        asker.engine.stop()
        asker.context.close()
    assert told[0] == told[1]
    assert counters.accepted > 0
