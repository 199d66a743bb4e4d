"""How many threads a runner takes by itself."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ollamad.runner_child.threads import MOST_THREADS, default_threads, usable_threads


@pytest.fixture
def four_cpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2, 3})


@pytest.mark.usefixtures("four_cpus")
def test_siblings_count_once(tmp_path: Path) -> None:
    """Two hardware threads of a core are one."""
    for cpu in range(4):
        folder = tmp_path / f"sys/devices/system/cpu/cpu{cpu}/topology"
        folder.mkdir(parents=True)
        (folder / "thread_siblings_list").write_text("0,2\n" if cpu % 2 == 0 else "1,3\n")
    assert default_threads(tmp_path) == 2


@pytest.mark.usefixtures("four_cpus")
@pytest.mark.parametrize(("quota", "threads"), [("max 100000", 4), ("150000 100000", 2), ("50000 100000", 1)])
def test_a_quota_is_the_limit(tmp_path: Path, quota: str, threads: int) -> None:
    """More threads than the cgroup lets run would wait for each other."""
    folder = tmp_path / "sys/fs/cgroup"
    folder.mkdir(parents=True)
    (folder / "cpu.max").write_text(quota + "\n")
    assert default_threads(tmp_path) == threads


@pytest.mark.usefixtures("four_cpus")
def test_without_any_facts_every_cpu_counts(tmp_path: Path) -> None:
    """A system that tells nothing gets a thread per CPU."""
    assert default_threads(tmp_path) == 4


def test_asked_for() -> None:
    """A number is taken as far as there are CPUs; nothing and less is the default."""
    assert usable_threads(1) == 1
    assert usable_threads(2**31) == min(os.cpu_count() or 1, MOST_THREADS)
    assert usable_threads(0) == usable_threads(-1) == default_threads()
