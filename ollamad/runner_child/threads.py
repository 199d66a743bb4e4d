"""How many threads a model runs with when nobody said: one per physical core that this process may use."""

from __future__ import annotations

import os
from pathlib import Path

#: More ends the process. Source: ggml.h, GGML_MAX_N_THREADS.
MOST_THREADS = 512


def usable_threads(asked: int) -> int:
    """What was asked for, as far as there are CPUs; 0 and below ask for nothing.

    Threads beyond the CPUs only wait for each other, actively: a request that asks for thousands slows everybody.
    """
    return min(asked, os.cpu_count() or 1, MOST_THREADS) if asked > 0 else default_threads()


def default_threads(root: Path = Path("/")) -> int:
    """Return at least 1. Two threads of one core share its arithmetic units, so siblings count once."""
    allowed = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set(range(os.cpu_count() or 1))
    cores = {_core(root, cpu) for cpu in allowed}
    quota = _quota(root)
    return max(1, min(len(cores), quota) if quota else len(cores))


def _core(root: Path, cpu: int) -> str:
    """Names the physical core of a CPU by the list of its siblings. Source: sysfs, cpu topology."""
    path = root / f"sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list"
    return path.read_text().strip() if path.is_file() else str(cpu)


def _quota(root: Path) -> int:
    """CPUs that the cgroup grants, rounded up; 0 if it does not limit. Source: cgroup v2 ``cpu.max``."""
    path = root / "sys/fs/cgroup/cpu.max"
    if not path.is_file():
        return 0
    quota, _, period = path.read_text().partition(" ")
    return -(-int(quota) // int(period)) if quota.isdigit() and period.strip().isdigit() else 0
