"""Guessing ahead against not doing so: where every guess is right, on a real model, and where nothing repeats."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from tests.bench import client
from tests.bench.bench import Bench, new_prompts
from tests.bench.client import Stream
from tests.bench.prompts import prompt
from tests.bench.rows.throughput import decode_rate
from tests.bench.servers import Ollamad, Setting
from tests.bench.table import Line

_ANSWER = 128
_CODE = """def area(shapes):
    total = 0
    for shape in shapes:
        if shape.kind == "square":
            total += shape.side * shape.side
        if shape.kind == "circle":
            total += 3.14 * shape.radius * shape.radius
    return total
"""
_REPEAT = f"Repeat this code, but call the function surface:\n\n{_CODE}\n"


def bound(bench: Bench) -> list[Line]:
    """A switch of the benchmark alone makes every guess right."""
    root = Path(__file__).resolve().parents[3]
    plugin = {"PYTHONPATH": str(root), "OLLAMAD_CONFIG": str(root / "tests" / "bench" / "accept_all.toml")}
    settings = [Setting(threads=bench.threads, environment=plugin | {"FAKE_GUESSES": on}) for on in "10"]
    values = _compare(bench, settings, lambda daemon: daemon.body(prompt(60, bench.fresh()), _ANSWER))
    return [Line("q05, 1 stream, every guess right: speculation / none", "tok/s", values, ratio=1.6)]


def real(bench: Bench) -> list[Line]:
    """The demo model repeats code; q05 (random weights) says nothing twice."""

    def settings(model: str, ctx_len: int) -> list[Setting]:
        plain = Setting(model=model, threads=bench.threads, ctx_len=ctx_len)
        config = Path(__file__).resolve().parents[1] / "no_guesses.toml"
        return [plain, replace(plain, environment={"OLLAMAD_CONFIG": str(config)})]

    def repeat(daemon: Ollamad) -> dict[str, Any]:
        body = {**daemon.body(_REPEAT, _ANSWER), "raw": False}
        return {**body, "options": {**body["options"], "temperature": 0}}

    repeated = _compare(bench, settings("demo", 2048), repeat)
    never = _compare(
        bench, settings("q05", 4096), lambda daemon: daemon.body(new_prompts(bench, 1, 1, 60)[0][0], _ANSWER)
    )
    return [
        Line("demo, 1 stream, repeat this code: speculation / none", "tok/s", repeated, ratio=1.0),
        Line("q05, 1 stream, nothing repeats: speculation / none", "tok/s", never, ratio=0.97),
    ]


def _compare(
    bench: Bench, settings: Sequence[Setting], body: Callable[[Ollamad], dict[str, Any]]
) -> dict[str, list[float]]:
    """Two daemons in turn, the first with guesses; decoding alone."""
    bench.stop()
    daemons = [Ollamad("with"), Ollamad("without")]
    values: dict[str, list[float]] = {daemon.name: [] for daemon in daemons}
    try:
        for daemon, setting in zip(daemons, settings, strict=True):
            daemon.start(setting)
        for number in range(bench.pairs + 1):
            for daemon in daemons:
                (answers,) = client.run(daemon.plan([Stream([body(daemon)])]))
                speed = decode_rate(answers)
                print(f"  {number}/{bench.pairs} {daemon.name}: {speed:.4g}", file=sys.stderr, flush=True)
                if number:  # the first round is for the cost curve
                    values[daemon.name].append(speed)
    finally:
        for daemon in daemons:
            daemon.stop()
    return values
