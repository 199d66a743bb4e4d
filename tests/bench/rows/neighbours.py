"""What is left while other processes are busy: one on the machine, and one per core."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from tests.bench.bench import Bench, ask, new_prompts, rate
from tests.bench.servers import Contender, Setting
from tests.bench.table import Line

_PROMPT, _ANSWER = 20, 24


@contextmanager
def neighbours(count: int) -> Iterator[None]:
    """*count* busy processes, each in a session of its own, as another user's would be."""
    command = [sys.executable, "-c", "while True: pass"]
    busy = [subprocess.Popen(command, start_new_session=True) for _ in range(count)]
    try:
        yield
    finally:
        for process in busy:
            process.kill()
            process.wait()


def busy(bench: Bench, streams: int) -> list[Line]:
    """Own speed against own idle, and against the peer beside the same neighbours."""
    cores = len(os.sched_getaffinity(0))
    counts = {"one": 1, "per core": cores} if cores > 1 else {"one": 1}

    def speed(contender: Contender) -> float:
        # The first requests are for whoever adapts, and the same for all.
        ask(contender, new_prompts(bench, streams, 1, _PROMPT), _ANSWER)
        return rate(ask(contender, new_prompts(bench, streams, 1, _PROMPT), _ANSWER))

    def measure(contender: Contender) -> Mapping[str, float]:
        found = {"idle": speed(contender)}
        for name, count in counts.items():
            with neighbours(count):
                found[name] = speed(contender)
            found[f"{name}/idle"] = found[name] / found["idle"]
        return found

    found = bench.alternate(Setting(threads=bench.threads), measure)
    title = f"q05, {streams} stream{'s' * (streams > 1)}"
    lines = [Line(f"{title}, no neighbour", "tok/s", found["idle"])]
    for name, share, ratio in (("one", 0.5, 3.0), ("per core", 0.4, 1.5)):
        if name in counts:
            where = "one busy neighbour" if name == "one" else "a busy neighbour per core"
            lines.append(Line(f"{title}, {where}", "tok/s", found[name], ratio=ratio))
            lines.append(Line(f"{title}, {where}: of idle", "", found[f"{name}/idle"], limit=share))
    return lines
