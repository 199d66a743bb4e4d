"""Main memory of this machine, or of the control group that limits us. Source: proc(5), cgroup v2."""

from __future__ import annotations

from pathlib import Path

from ollamad.scheduler.placement import HostMemory


def read_host_memory(proc: Path = Path("/proc"), cgroups: Path = Path("/sys/fs/cgroup")) -> HostMemory:
    """Total and free bytes; what cannot be read is 0, which means unknown."""
    fields = _numbers(proc / "meminfo")
    total = fields.get("MemTotal", 0) * 1024
    free = fields.get("MemAvailable")
    if free is None:
        free = sum(fields.get(name, 0) for name in ("MemFree", "Buffers", "Cached"))
    free *= 1024
    group = cgroups / _own_group(proc)
    limit, current = _number(group / "memory.max"), _number(group / "memory.current")
    if limit is None or current is None or (total and limit >= total):
        return HostMemory(total, free)
    # Cached files are counted as used, but are given up before anything fails.
    reclaimable = _numbers(group / "memory.stat").get("inactive_file", 0)
    return HostMemory(limit, min(free or limit, max(0, limit - max(0, current - reclaimable))))


def _own_group(proc: Path) -> str:
    """Our path in the unified hierarchy, relative; "" in a container that sees itself as the root."""
    for line in _read(proc / "self" / "cgroup").splitlines():
        if line.startswith("0::"):
            return line[3:].strip().lstrip("/")
    return ""


def _numbers(path: Path) -> dict[str, int]:
    fields = {}
    for line in _read(path).splitlines():
        words = line.replace(":", " ").split()
        if len(words) >= 2 and words[1].isdigit():
            fields[words[0]] = int(words[1])
    return fields


def _number(path: Path) -> int | None:
    text = _read(path).strip()
    return int(text) if text.isdigit() else None


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii", errors="replace")
    except OSError:  # this system has no such file: unknown
        return ""
