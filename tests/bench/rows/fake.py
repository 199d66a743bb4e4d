"""What the daemon and the engine cost by themselves: the fake backend takes no time to compute."""

from __future__ import annotations

import statistics
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ollamad.engine.engine import Engine, Outcome, Work
from ollamad.testing.fake_context import FakeContext
from ollamad.testing.fake_file import write_fake_model
from ollamad.testing.fake_gates import Gates
from ollamad.testing.fake_options import EOS, FakeOptions
from ollamad.types import SamplingParameters
from tests.bench import client
from tests.bench.bench import OURS, Bench
from tests.bench.client import Stream
from tests.bench.servers import Ollamad, Setting
from tests.bench.table import Line

_FAKE = {"OLLAMAD_CONFIG": str(Path(__file__).resolve().parents[1] / "fake.toml"), "FAKE_END_EVERY": "0"}


class _FakeOllamad(Ollamad):
    """Ours over the fake backend, with a store of its own and *count* models that are loaded."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self.count = count
        self._store = tempfile.TemporaryDirectory()

    def launch(self, setting: Setting) -> None:
        own = {**_FAKE, **setting.environment, "OLLAMA_MODELS": self._store.name}
        super().launch(Setting(setting.model, setting.slots, setting.ctx_len, environment=own))
        for number in range(self.count):
            self.create(f"fake{number}", write_fake_model(self.folder / f"{number}.gguf", seed=number).read_bytes())
            status, answer = self.request("POST", self.path, self.named(number, "hello", 1))
            assert status == 200, (status, answer, self.log()[-2000:])

    def prepare(self, name: str) -> None:
        """Nothing: `launch` does it."""

    def named(self, number: int, prompt: str, tokens: int) -> dict[str, Any]:
        return {**self.body(prompt, tokens), "model": f"fake{number}"}

    def stop(self) -> None:
        super().stop()
        self._store.cleanup()


class _Peak(threading.Thread):
    """The most memory that a daemon's processes had inside ``with``."""

    def __init__(self, daemon: Ollamad) -> None:
        super().__init__(daemon=True)
        self.kib = 0
        self._daemon = daemon
        self._over = threading.Event()

    def run(self) -> None:
        while not self._over.wait(0.2):
            self.kib = max(self.kib, self._daemon.resident_kib())

    def __enter__(self) -> _Peak:
        self.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._over.set()
        self.join()


def many(bench: Bench) -> list[Line]:
    """1,000 streams over 4 models at once."""
    values: dict[str, list[float]] = {"memory": [], "wait": [], "took": []}
    for _ in range(bench.pairs):
        for name, value in many_streams(models=4, each=250, tokens=60).items():
            values[name].append(value)
    title = "1,000 streams over the fake backend, 4 models"
    return [
        Line(f"{title}: memory of a stream, all processes", "KiB", {OURS: values["memory"]}, limit=100, more=False),
        Line(f"{title}: longest less shortest wait", "s", {OURS: values["wait"]}, limit=1.0, more=False),
        Line(f"{title}: all answered", "s", {OURS: values["took"]}, more=False),
    ]


def many_streams(*, models: int, each: int, tokens: int) -> dict[str, float]:
    """Run *models* × *each* streams that are open at once; raises if one fails or was not answered in full."""
    setting = Setting(
        "fake0", each, 512, environment={"OLLAMA_MAX_LOADED_MODELS": str(models), "FAKE_STEP_US": "100000"}
    )
    daemon = _FakeOllamad(models)
    daemon.launch(setting)
    try:
        before = daemon.resident_kib()
        streams = [Stream([daemon.named(n % models, f"stream {n}", tokens)]) for n in range(models * each)]
        with _Peak(daemon) as peak:
            answers = [answer for (answer,) in client.run(daemon.plan(streams))]
        assert all(answer.tokens == tokens for answer in answers), "a stream was not answered in full"
        opened, closed = max(a.stamps[0] for a in answers), min(a.ended for a in answers)
        assert opened < closed, "the streams were not all open at once"
        return {
            "memory": (peak.kib - before) / len(answers),
            "wait": max(a.first for a in answers) - min(a.first for a in answers),
            "took": max(a.ended for a in answers) - min(a.began for a in answers),
        }
    finally:
        daemon.stop()


def daemon_cpu(bench: Bench) -> list[Line]:
    """CPU time of the daemon for a streamed token: 8 streams of 2,000."""
    values = []
    daemon = _FakeOllamad(1)
    daemon.launch(Setting("fake0", 8, 4096, environment={"FAKE_STEP_US": "2000"}))
    try:
        for _ in range(bench.pairs):
            streams = [Stream([daemon.named(0, f"stream {n}", 2000)]) for n in range(8)]
            before = daemon.cpu_seconds()
            answers = [answer for (answer,) in client.run(daemon.plan(streams))]
            values.append(1e6 * (daemon.cpu_seconds() - before) / sum(answer.tokens for answer in answers))
    finally:
        daemon.stop()
    return [Line("CPU time of the daemon for a streamed token", "µs", {OURS: values}, limit=60, more=False)]


class _Silent:
    """A listener that takes every token."""

    def token(self, token: int) -> bool:
        return True

    def finished(self, outcome: Outcome) -> None:
        return


def step(bench: Bench) -> list[Line]:
    """Time of a decode step at 8 streams that is not the context's."""
    values = [_step_ms(8, 2000) for _ in range(bench.pairs)]
    return [Line("Python time of a decode step at 8 streams", "ms", {OURS: values}, limit=0.15, more=False)]


def _step_ms(streams: int, steps: int) -> float:
    context = FakeContext(FakeOptions(end_every=0), Gates(), n_ctx=streams * 4096, n_batch=512, n_sequences=64)
    inside = 0

    def timed(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            nonlocal inside
            began = time.perf_counter_ns()
            result = function(*arguments)
            inside += time.perf_counter_ns() - began
            return result

        return call

    context.decode = timed(context.decode)  # type: ignore[method-assign]
    context.sample = timed(context.sample)  # type: ignore[method-assign]
    context.verify = timed(context.verify)  # type: ignore[method-assign]
    engine = Engine(context, slots=streams, ctx_len=4096, is_end=lambda token: token == EOS, on_fatal=_raise)
    for number in range(streams):
        work = Work(str(number), tuple((number + i) % 256 for i in range(500)), SamplingParameters(), -1, 0)
        engine.submit(work, _Silent())
    times = []
    for _ in range(steps):
        inside = 0
        began = time.perf_counter_ns()
        engine.turn()
        times.append(time.perf_counter_ns() - began - inside)
    return statistics.median(times[100:]) / 1e6


def _raise(error: BaseException) -> None:
    raise error
