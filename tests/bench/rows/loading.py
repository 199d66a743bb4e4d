"""From nothing loaded to the first token."""

from __future__ import annotations

import sys
import time

from tests.bench.bench import OURS, Bench
from tests.bench.servers import Contender, Ollamad, Setting
from tests.bench.table import Line


def load(bench: Bench) -> list[Line]:
    """q05: our daemon loads it for a request; llama-server is started and asked. The file is in the page cache."""
    setting = Setting(threads=bench.threads)
    samples: dict[str, list[float]] = {}
    for number in range(bench.pairs + 1):
        for contender in bench.contenders():
            peer = contender.name != OURS
            took = _peer(bench, contender, setting) if peer else _ours(bench, setting)
            print(f"  {number}/{bench.pairs} {contender.name}: {took:.3f} s", file=sys.stderr, flush=True)
            if number:  # the first round reads the file from the disk
                samples.setdefault(contender.name, []).append(took)
    return [Line("q05, load to first token", "s", samples, ratio=1.1, more=False)]


def demo(bench: Bench) -> list[Line]:
    """The built-in model."""
    values = [_ours(bench, Setting(model="demo", threads=bench.threads)) for _ in range(bench.pairs)]
    return [Line("demo, load to first token", "s", {OURS: values}, limit=0.8, more=False)]


def _ours(bench: Bench, setting: Setting) -> float:
    with bench.alone(Ollamad(), setting) as daemon:
        return daemon.ask_once()


def _peer(bench: Bench, contender: Contender, setting: Setting) -> float:
    with bench.alone(contender, setting) as server:
        server.ask_once()
        return time.monotonic() - server.launched
