"""Total and free memory of this machine as far as this process may use it: /proc/meminfo under its cgroup."""

from __future__ import annotations

from pathlib import Path

_KIB = 1024


def host_memory(root: Path = Path("/")) -> tuple[int, int]:
    """Return ``(total_bytes, free_bytes)``; zeros where the system does not tell.

    Source: proc(5) ``MemAvailable``; cgroup v2 ``memory.max`` and ``memory.current``, v1
    ``memory.limit_in_bytes`` and ``memory.usage_in_bytes``.
    """
    total, free = _meminfo(root / "proc/meminfo")
    for limit, used in _cgroup_limits(root):
        if 0 < limit < total:
            total, free = limit, min(free, max(limit - used, 0))
    return total, free


def _meminfo(path: Path) -> tuple[int, int]:
    if not path.exists():
        return 0, 0
    values: dict[str, int] = {}
    for line in path.read_text().splitlines():
        name, _, rest = line.partition(":")
        if rest.split():
            values[name] = int(rest.split()[0]) * _KIB
    return values.get("MemTotal", 0), values.get("MemAvailable", values.get("MemFree", 0))


def _cgroup_limits(root: Path) -> list[tuple[int, int]]:
    """``(limit, used)`` of every cgroup around this process that has a limit."""
    found = []
    membership = root / "proc/self/cgroup"
    lines = membership.read_text().splitlines() if membership.exists() else []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            base, names = root / "sys/fs/cgroup", ("memory.max", "memory.current")
        elif "memory" in controllers.split(","):
            base, names = root / "sys/fs/cgroup/memory", ("memory.limit_in_bytes", "memory.usage_in_bytes")
        else:
            continue
        parts = [part for part in path.split("/") if part]
        for depth in range(len(parts) + 1):
            folder = base.joinpath(*parts[:depth])
            limit, used = (_number(folder / name) for name in names)
            if limit:
                found.append((limit, used))
    return found


def _number(path: Path) -> int:
    """The number in a file; 0 if there is none (``max`` means no limit)."""
    if not path.is_file():
        return 0
    text = path.read_text().strip()
    return int(text) if text.isdigit() else 0
