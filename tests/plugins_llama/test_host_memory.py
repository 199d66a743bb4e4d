"""Memory as /proc and cgroups tell it."""

from __future__ import annotations

from pathlib import Path

import pytest
from ollamad_llama.host_memory import host_memory

GIB = 1024**3
MEMINFO = "MemTotal:       16777216 kB\nMemFree:         1048576 kB\nMemAvailable:    8388608 kB\n"


def write(root: Path, **files: str) -> None:
    for name, text in files.items():
        path = root / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def test_without_a_limit_it_is_the_machine(tmp_path: Path) -> None:
    """Available memory counts, not only unused memory; "max" is no limit."""
    write(tmp_path, proc__meminfo=MEMINFO)
    (tmp_path / "proc/self").mkdir()
    (tmp_path / "proc/self/cgroup").write_text("0::/app\n")
    folder = tmp_path / "sys/fs/cgroup/app"
    folder.mkdir(parents=True)
    (folder / "memory.max").write_text("max\n")
    assert host_memory(tmp_path) == (16 * GIB, 8 * GIB)


@pytest.mark.parametrize(
    ("cgroup", "folder", "limit_file", "used_file"),
    [
        ("0::/app/inner\n", "sys/fs/cgroup/app", "memory.max", "memory.current"),
        (
            "4:memory:/app\n",
            "sys/fs/cgroup/memory/app",
            "memory.limit_in_bytes",
            "memory.usage_in_bytes",
        ),
    ],
    ids=["v2, of the parent", "v1"],
)
def test_a_cgroup_limits_it(tmp_path: Path, cgroup: str, folder: str, limit_file: str, used_file: str) -> None:
    """A cgroup's limit is the total, and what it has left is free."""
    write(tmp_path, proc__meminfo=MEMINFO)
    (tmp_path / "proc/self").mkdir()
    (tmp_path / "proc/self/cgroup").write_text(cgroup)
    (tmp_path / folder).mkdir(parents=True)
    (tmp_path / folder / limit_file).write_text(str(4 * GIB))
    (tmp_path / folder / used_file).write_text(str(3 * GIB))
    assert host_memory(tmp_path) == (4 * GIB, GIB)


def test_a_system_that_tells_nothing(tmp_path: Path) -> None:
    """Zeros stand for "not known"."""
    assert host_memory(tmp_path) == (0, 0)
