"""Main memory as the system, or our control group, tells it."""

from __future__ import annotations

import pytest

from ollamad.scheduler.host_memory import read_host_memory
from ollamad.scheduler.placement import HostMemory

MEMINFO = "MemTotal:  1000 kB\nMemFree: 100 kB\nMemAvailable: 600 kB\nBuffers: 20 kB\nCached: 30 kB\n"


@pytest.fixture
def system(tmp_path):
    proc, cgroups = tmp_path / "proc", tmp_path / "cgroup"
    (proc / "self").mkdir(parents=True)
    (proc / "self" / "cgroup").write_text("0::/ours\n")
    (cgroups / "ours").mkdir(parents=True)
    (proc / "meminfo").write_text(MEMINFO)
    return proc, cgroups


def limit(cgroups, most, current, stat=""):
    (cgroups / "ours" / "memory.max").write_text(most)
    (cgroups / "ours" / "memory.current").write_text(current)
    (cgroups / "ours" / "memory.stat").write_text(stat)


def test_machine(system):
    """Without a limit the machine's numbers hold, also under a group that is not limited."""
    assert read_host_memory(*system) == HostMemory(1000 * 1024, 600 * 1024)
    limit(system[1], "max", "5")
    assert read_host_memory(*system) == HostMemory(1000 * 1024, 600 * 1024)


def test_old_kernel(system):
    """Without MemAvailable free, buffers and cache are added up."""
    (system[0] / "meminfo").write_text(MEMINFO.replace("MemAvailable", "Other"))
    assert read_host_memory(*system).free_bytes == 150 * 1024


def test_control_group(system):
    """A limit of our group replaces the total; cached files in it count as free."""
    limit(system[1], "500000", "400000", "anon 1\ninactive_file 100000\n")
    assert read_host_memory(*system) == HostMemory(500000, 200000)


def test_unknown_system(tmp_path):
    """Where nothing can be read nothing is known."""
    assert read_host_memory(tmp_path, tmp_path) == HostMemory(0, 0)
