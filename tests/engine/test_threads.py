"""The number of threads follows what steps cost: over recorded series, and invented ones."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from statistics import median

import pytest

from ollamad.engine.engine import Engine, Outcome, Work
from ollamad.engine.threads import Change, ThreadRule, ladder
from ollamad.testing.fake_context import FakeContext
from ollamad.testing.fake_gates import Gates
from ollamad.testing.fake_options import FakeOptions
from ollamad.types import SamplingParameters

RECORDED = json.loads((Path(__file__).parent / "recorded_steps.json").read_text())["series"]

#: Milliseconds of step number s with t threads.
Cost = Callable[[int, int], float]


class Run:
    """A rule driven by a cost: what it chose, what it changed, and what that took."""

    def __init__(self, most: int, cost: Cost, steps: int, *, tokens: int = 1, prefill: bool = False) -> None:
        self.rule = ThreadRule(most, most)
        self.chosen: list[int] = []
        self.changes: list[tuple[int, Change]] = []
        self.took = 0.0
        for step in range(steps):
            threads = self.rule.choose(tokens, prefill)
            elapsed = cost(step, threads)
            change = self.rule.measured(tokens, prefill, threads, int(elapsed * 1e6))
            self.chosen.append(threads)
            self.took += elapsed
            if change is not None:
                self.changes.append((step, change))


def recorded(model: str, tokens: int, *, wait: str = "spin 1000", until: int, then: int = 0, last: int = 10**9) -> Cost:
    """Recorded steps with *then* busy neighbours from step *until* to *last*, none before and after."""
    series = {
        (one["busy"], one["threads"]): one["ms"]
        for one in RECORDED
        if (one["model"], one["tokens"], one["wait"]) == (model, tokens, wait)
    }

    def cost(step: int, threads: int) -> float:
        steps = series[then if until <= step < last else 0, threads]
        return float(steps[step % len(steps)])

    return cost


def table(seed: int, undisturbed: dict[int, float], disturbed: dict[int, float], first: int, last: int) -> Cost:
    """Noisy steps around means by number of threads, with a rare slow one."""
    noise = random.Random(seed)

    def cost(step: int, threads: int) -> float:
        mean = (disturbed if first <= step < last else undisturbed)[threads]
        return mean * (1 + abs(noise.gauss(0, 0.05))) * (3 if noise.random() < 0.01 else 1)

    return cost


@pytest.mark.parametrize(
    ("most", "numbers"), [(1, (1,)), (2, (2, 1)), (8, (8, 7, 6, 4, 2, 1)), (16, (16, 15, 14, 12, 8, 4, 2, 1))]
)
def test_near_the_top_the_numbers_are_close(most: int, numbers: tuple[int, ...]) -> None:
    """A neighbour or two cost one thread or two; beyond, halves are enough."""
    assert ladder(most) == numbers


@pytest.mark.parametrize(("model", "wait"), [("q05", "spin 1000"), ("q05", "spin"), ("demo", "spin 1000")])
def test_a_recorded_neighbour_is_met_within_20_steps(model: str, wait: str) -> None:
    """When a busy process takes a core, one thread is chosen within 20 steps and kept."""
    run = Run(2, recorded(model, 1, wait=wait, until=300, then=1, last=700), 1200)
    assert set(run.chosen[250:300]) == {2}
    assert set(run.chosen[320:450]) == {1}
    assert sum(run.chosen[320:700]) < 380 + 8


@pytest.mark.parametrize("wait", ["spin 1000", "spin"])
def test_a_recorded_neighbour_that_leaves_is_noticed_within_200_steps(wait: str) -> None:
    """Two threads run again, and there were two changes in all."""
    run = Run(2, recorded("q05", 1, wait=wait, until=300, then=1, last=790), 1400)
    assert run.chosen[990:].count(1) <= 5  # a look downwards
    assert [change.after for _, change in run.changes] == [1, 2]


@pytest.mark.parametrize("tokens", [1, 8])
@pytest.mark.parametrize("model", ["demo", "q05"])
@pytest.mark.parametrize("busy", [0, 1, 2])
def test_recorded_machines_lose_little_to_the_rule(model: str, tokens: int, busy: int) -> None:
    """Undisturbed at most 3 % more than with all threads; beside neighbours that stay, near the better number."""
    cost = recorded(model, tokens, until=0, then=busy)
    run = Run(2, cost, 1200, tokens=tokens)
    one, two = (sum(cost(step, threads) for step in range(1200)) for threads in (1, 2))
    assert run.took <= (1.12 * min(one, two) if busy else 1.03 * two)
    assert len(run.changes) <= 8


@pytest.mark.parametrize("seed", range(5))
def test_llama_cpps_own_pool_is_rescued(seed: int) -> None:
    """Threads that spin cost 24 times a step; 20 steps later one thread runs, 200 after the end two do."""
    run = Run(2, table(seed, {1: 49, 2: 28}, {1: 52, 2: 677}, 500, 1500), 2500)
    assert set(run.chosen[520:650]) == {1}
    assert run.chosen[1500:1700].count(2) > 1
    assert run.chosen[1700:].count(2) > 790
    assert [change.after for _, change in run.changes] == [1, 2]


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("most", [2, 4, 16, 64])
def test_undisturbed_it_costs_nothing_and_stays(most: int, seed: int) -> None:
    """Noise and a rare slow step move nothing, and the tries cost at most 3 %."""
    means = {threads: 100 / threads + 1 for threads in range(1, most + 1)}
    run = Run(most, table(seed, means, means, 0, 0), 3000)
    noise = table(seed, means, means, 0, 0)
    assert run.took <= 1.03 * sum(noise(step, most) for step in range(3000))
    assert run.rule.changes <= 2


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(("most", "busy"), [(4, 1), (16, 1), (16, 4), (64, 1), (64, 16)])
def test_on_many_cores_so_many_threads_go(most: int, busy: int, seed: int) -> None:
    """With some cores taken, the number falls to about what is left within 20 steps, and comes back within 200."""
    idle = {threads: 100 / threads + 0.3 for threads in range(1, most + 1)}
    taken = {threads: one * (2.2 if threads > most - busy else 1) for threads, one in idle.items()}
    run = Run(most, table(seed, idle, taken, 300, 800), 1400)
    assert max(taken[one] for one in run.chosen[320:440]) <= 1.12 * taken[most - busy]
    assert median(idle[one] for one in run.chosen[1000:]) <= 1.03 * idle[most]
    assert run.rule.changes <= 4


def test_a_tiny_model_runs_on_one_thread() -> None:
    """Where waking threads costs more than they do, one is found at once, and tries of two cost less than 3 %."""
    run = Run(2, table(1, {1: 0.31, 2: 1.35}, {}, 0, 0), 3000)
    assert set(run.chosen[12:150]) == {1}
    assert run.chosen[150:].count(2) < 3000 / 150


def test_long_steps_are_not_tried_on_fewer_threads_without_need() -> None:
    """A prompt's steps use all threads unless they become slow."""
    run = Run(2, table(1, {1: 400, 2: 200}, {1: 410, 2: 4000}, 30, 60), 60, tokens=400, prefill=True)
    assert set(run.chosen[:30]) == {2}
    assert set(run.chosen[40:]) == {1}


def test_one_shape_warns_the_others() -> None:
    """After one shape met a neighbour, another needs two slow steps; when one returns, the others try at once."""
    rule = ThreadRule(2, 2)
    idle, taken = {1: 200, 2: 100}, {1: 210, 2: 2000}

    def step(means: dict[int, int], tokens: int, prefill: bool) -> int:
        threads = rule.choose(tokens, prefill)
        rule.measured(tokens, prefill, threads, means[threads] * 1_000_000 * (8 if prefill else 1))
        return threads

    for _ in range(30):
        step(idle, 1, False)
        step(idle, 512, True)
    while rule.choose(1, False) == 2 or rule.changes == 0:
        step(taken, 1, False)
    assert [step(taken, 512, True) for _ in range(3)] == [2, 2, 1]
    for _ in range(20):
        step(taken, 512, True)
    while rule.choose(1, False) == 1 or rule.changes == 2:
        step(idle, 1, False)
    assert 2 in [step(idle, 512, True) for _ in range(20)]


def test_a_fixed_number_stays() -> None:
    """Without leave to adapt the largest numbers are used, whatever steps take."""
    rule = ThreadRule(4, 8, adapts=False)
    for elapsed in (1, 100, 1, 1000) * 20:
        assert (rule.choose(1, False), rule.choose(64, True)) == (4, 8)
        assert rule.measured(1, False, 4, elapsed) is None


def test_the_engine_obeys_counts_and_logs(caplog: pytest.LogCaptureFixture) -> None:
    """A step runs with the number that the rule chose; a change is counted and logged."""
    gates, now = Gates(), [0]
    context = FakeContext(FakeOptions(end_every=0), gates, n_ctx=4096, n_batch=64, n_sequences=4)

    def clock() -> int:
        now[0] += 1_000_000 * {0: 1, 1: 1, 2: 5}[context.threads[0]]
        return now[0]

    engine = Engine(
        context,
        slots=1,
        ctx_len=2048,
        is_end=lambda token: False,
        clock=clock,
        on_fatal=lambda error: None,
        speculate=False,
        threads=ThreadRule(2, 2),
    )
    engine.submit(Work("w", (5, 6, 7), SamplingParameters(temperature=0), 100, 0), _Listener())
    caplog.set_level("DEBUG", logger="ollamad.engine")
    engine.turn()
    assert context.threads == (2, 2)
    for _ in range(30):
        engine.turn()
    assert context.threads == (1, 1)
    counters = engine.counters()
    assert (counters.threads, counters.thread_changes) == (1, 1)
    assert "steps of up to 1 tokens go from 2 to 1 threads (first)" in caplog.text


class _Listener:
    def token(self, token: int) -> bool:
        return True

    def finished(self, outcome: Outcome) -> None:
        pass


def test_the_largest_number_can_be_had() -> None:
    """What must not depend on measured times asks for the largest number."""
    rule = ThreadRule(4, 6)
    assert (rule.most(prefill=False), rule.most(prefill=True)) == (4, 6)
