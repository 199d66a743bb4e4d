"""Engines over a fake context that are driven step by step, in the thread of the test."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest

from ollamad.engine.engine import Engine, Outcome, Work
from ollamad.engine.speculation import Speculation
from ollamad.testing.fake_context import FakeContext
from ollamad.testing.fake_gates import Gates
from ollamad.testing.fake_options import EOS, FakeOptions
from ollamad.types import SamplingParameters

GREEDY = SamplingParameters(temperature=0.0, repeat_last_n=0)


class Recorder:
    """A listener that remembers; ``stop_after`` ends the answer as a stop string would."""

    def __init__(self, stop_after: int = -1) -> None:
        self.tokens: list[int] = []
        self.outcomes: list[Outcome] = []
        self.stop_after = stop_after

    def token(self, token: int) -> bool:
        assert not self.outcomes
        self.tokens.append(token)
        return len(self.tokens) != self.stop_after

    def finished(self, outcome: Outcome) -> None:
        self.outcomes.append(outcome)

    @property
    def outcome(self) -> Outcome:
        (outcome,) = self.outcomes
        return outcome

    @property
    def done(self) -> bool:
        return bool(self.outcomes)


class Driver:
    """An engine that was not started, its context, and a clock that ticks a microsecond per reading."""

    def __init__(
        self,
        *,
        slots: int = 2,
        ctx_len: int = 64,
        step_ms: int = 200,
        speculation: Speculation | None = None,
        **options: Any,
    ) -> None:
        self.gates = Gates()
        self.options = FakeOptions(**{"end_every": 0, **options})
        self.context = FakeContext(
            self.options,
            self.gates,
            n_ctx=self.options.n_ctx or slots * ctx_len,
            n_batch=self.options.n_batch or 64,
            n_sequences=self.options.n_sequences or slots + 4,
        )
        self.fatal: list[BaseException] = []
        self.engine = Engine(
            self.context,
            slots=slots,
            ctx_len=ctx_len,
            is_end=lambda token: token == EOS,
            step_ms=step_ms,
            clock=itertools.count(1, 1000).__next__,
            on_fatal=self.fatal.append,
            speculation=speculation,
        )
        self._ids = itertools.count(1)

    def submit(self, tokens: Any, *, listener: Recorder | None = None, **fields: Any) -> Recorder:
        """Submit a prompt: 8 tokens, greedy, unless *fields* say otherwise."""
        listener = listener or Recorder()
        usual = Work(f"w{next(self._ids)}", tuple(tokens), GREEDY, 8, 0)
        self.engine.submit(replace(usual, **fields), listener)
        return listener

    def turns(self, count: int) -> None:
        for _ in range(count):
            self.engine.turn()

    def run(self, limit: int = 10_000) -> None:
        """Step until there is nothing left to do."""
        for _ in range(limit):
            if not self.engine.turn():
                return
        raise AssertionError("the engine never rests")

    def answer(self, tokens: Any, **fields: Any) -> Recorder:
        """What a prompt gives, run to its end."""
        listener = self.submit(tokens, **fields)
        self.run()
        return listener


@pytest.fixture
def driver() -> Callable[..., Driver]:
    return Driver


@pytest.fixture
def recorder() -> type[Recorder]:
    return Recorder


@pytest.fixture
def started() -> Iterator[Callable[[Driver], Engine]]:
    """Start an engine's thread; it is stopped at the end."""
    engines: list[Engine] = []

    def start(driver: Driver) -> Engine:
        driver.engine.start()
        engines.append(driver.engine)
        return driver.engine

    yield start
    for engine in engines:
        engine.stop()
