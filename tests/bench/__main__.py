"""`python -m tests.bench`: ollamad against llama-server on this machine, figure by figure.

Ends with 1 if a figure is missed. The first run builds llama-server (minutes) and makes the models, into
``$XDG_CACHE_HOME/ollamad-bench``. The machine should be doing nothing else.
"""

from __future__ import annotations

import argparse
import os
import platform
import signal
import statistics
import subprocess
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from ollamad.runner_child.threads import default_threads
from tests.bench.bench import Bench
from tests.bench.build import BUILDS, build
from tests.bench.cache import llama_version
from tests.bench.rows import fake, loading, neighbours, overhead, sampling, sharing, speculation, throughput
from tests.bench.table import Line, render

ROWS: dict[str, Callable[[Bench], list[Line]]] = {
    "q05-1": partial(throughput.rates, name="q05", streams=1, required=1.0),
    "q05-8": partial(throughput.rates, name="q05", streams=8, required=1.0),
    "decode": throughput.decode,
    "shared": sharing.shared,
    "tiny-1": partial(throughput.rates, name="tiny", streams=1, required=1.0),
    "tiny-8": partial(throughput.rates, name="tiny", streams=8, required=1.2),
    "long": sharing.long_prompt,
    "busy-1": partial(neighbours.busy, streams=1),
    "busy-8": partial(neighbours.busy, streams=8),
    "speculation-bound": speculation.bound,
    "speculation": speculation.real,
    "load": loading.load,
    "load-demo": loading.demo,
    "first-token": overhead.first_token,
    "sampling": sampling.sampling,
    "step": fake.step,
    "daemon-cpu": fake.daemon_cpu,
    "many": fake.many,
}


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("rows", nargs="*", metavar="ROW", help=f"of {', '.join(ROWS)}; all if none is named")
    parser.add_argument("--pairs", type=int, default=5, help="rounds; contenders are asked in turn (5)")
    parser.add_argument("--builds", nargs="*", choices=BUILDS, default=BUILDS, help="builds of llama-server (both)")
    parser.add_argument("--threads", type=int, default=default_threads(), help="threads of both sides (cores)")
    parser.add_argument("--patience", type=float, default=0.0, help="seconds that a round waits for quiet (0)")
    asked = parser.parse_args(arguments)
    unknown = set(asked.rows) - ROWS.keys()
    if unknown:
        parser.error(f"no row {', '.join(sorted(unknown))}; there are {', '.join(ROWS)}")
    bench = Bench(asked.pairs, asked.builds, asked.threads, asked.patience)
    lines = []
    try:
        for row in asked.rows or ROWS:
            print(f"{row}:", file=sys.stderr, flush=True)
            lines += ROWS[row](bench)
    finally:
        bench.stop()
    print(f"`python -m tests.bench {' '.join(arguments)}`\n")
    print(render(lines), "\n")
    print(machine(bench))
    missed = [line for line in lines if line.misses]
    for line in missed:
        print(f"missed: {line.figure}: {'; '.join(line.misses)}", file=sys.stderr)
    return 1 if missed else 0


def machine(bench: Bench) -> str:
    """What the numbers stand on: processor, versions, flags and the peer's command lines."""
    cpu = next((line.partition(":")[2].strip() for line in Path("/proc/cpuinfo").read_text().splitlines()
                if line.startswith("model name")), platform.processor())  # fmt: skip
    git = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--abbrev=10"]
    commit = subprocess.run(git, capture_output=True, text=True, check=False).stdout.strip()
    others = []
    if bench.disturbed:
        middle, most = statistics.median(bench.disturbed), max(bench.disturbed)
        others.append(
            f"other processes had {middle:.0%} of the processors in the middle round, {most:.0%} in the worst"
        )
    facts = [
        f"CPU: {cpu}, {len(os.sched_getaffinity(0))} CPUs, {bench.threads} threads",
        *others,
        f"ollamad {commit or 'unknown'}, Python {platform.python_version()}, llama-cpp-python {llama_version()}",
        *(f"build {name}: `{' '.join(build(name).flags)}`" for name in bench.builds),
        *(f"{name}: `{command}`" for name, command in sorted(bench.commands.items())),
    ]
    return "\n".join(f"- {fact}" for fact in facts)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that no server is left running
    sys.exit(main(sys.argv[1:]))
