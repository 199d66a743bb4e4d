"""How much of the machine others took while something was measured: what a number is worth."""

from __future__ import annotations

import os
import resource
import sys
import time
from collections.abc import Iterable
from pathlib import Path

_TICK_S = 1 / os.sysconf("SC_CLK_TCK")
#: Others may take this share of the processors before a round counts as disturbed.
QUIET = 0.05


class Foreign:
    """Reads processor time around a measurement.

    Args:
        pids: Processes that are ours, with their children; this process and what it has waited for is as well.
    """

    def __init__(self, pids: Iterable[int]) -> None:
        self._pids = tuple(pids)
        self._began = time.monotonic()
        self._all, self._own = _busy_s(), self._own_s()

    def share(self) -> float:
        """The part of all processors that others had since this was made, 0 to 1."""
        elapsed = (time.monotonic() - self._began) * (os.cpu_count() or 1)
        others = _busy_s() - self._all - (self._own_s() - self._own)
        return max(0.0, others / elapsed) if elapsed else 0.0

    def _own_s(self) -> float:
        used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
        return sum(one.ru_utime + one.ru_stime for one in used) + sum(map(_process_s, self._pids))


def wait(pids: Iterable[int], patience_s: float) -> None:
    """Wait until others leave the machine alone for a second, *patience_s* at most."""
    deadline = time.monotonic() + patience_s
    while time.monotonic() < deadline:
        foreign = Foreign(pids)
        time.sleep(1)
        if foreign.share() <= QUIET:
            return
    if patience_s > 0.1:
        print("  the machine does not become quiet", file=sys.stderr, flush=True)


def _busy_s() -> float:
    """Time that all processors have worked. Source: proc(5), /proc/stat: user nice system idle iowait irq softirq."""
    fields = [int(field) for field in Path("/proc/stat").read_text().splitlines()[0].split()[1:8]]
    return (sum(fields) - fields[3] - fields[4]) * _TICK_S


def _process_s(pid: int) -> float:
    """Time of a process and its children, those that it has waited for included."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        children = [task.read_text().split() for task in Path(f"/proc/{pid}/task").glob("*/children")]
    except OSError:  # it has just ended
        return 0.0
    own = sum(int(field) for field in fields[11:15]) * _TICK_S
    return own + sum(_process_s(int(child)) for part in children for child in part)
