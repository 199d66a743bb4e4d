"""Who holds a TCP port, as far as ``/proc`` lets us see."""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterator
from pathlib import Path

#: State LISTEN in /proc/net/tcp. Source: Linux, include/net/tcp_states.h.
_LISTEN = "0A"


def holder_of_port(host: str, port: int, proc: Path = Path("/proc")) -> str:
    """``NAME (pid N)`` of the process that listens on *port* where it would clash with *host*, "" if unknown."""
    inodes = {inode for address, inode in _listening(proc, port) if _clashes(host, address)}
    return next((_described(pid) for pid in _pids(proc) if inodes & _socket_inodes(pid)), "")


def _listening(proc: Path, port: int) -> Iterator[tuple[str, str]]:
    """Address and inode of each listening socket on *port*."""
    for name in ("tcp", "tcp6"):
        try:
            lines = (proc / "net" / name).read_text().splitlines()[1:]
        except OSError:
            continue
        for line in lines:
            fields = line.split()
            address, _, port_hex = fields[1].rpartition(":")
            if fields[3] == _LISTEN and int(port_hex, 16) == port:
                yield _address(address), fields[9]


def _address(text: str) -> str:
    """The kernel prints addresses as 32-bit words in host order."""
    words = [int(text[at : at + 8], 16) for at in range(0, len(text), 8)]
    packed = struct.pack(f"={len(words)}I", *words)
    return socket.inet_ntop(socket.AF_INET if len(words) == 1 else socket.AF_INET6, packed)


def _clashes(host: str, address: str) -> bool:
    everywhere = ("", "0.0.0.0", "::")
    return host in everywhere or address in everywhere or host == address or host == "localhost"


def _pids(proc: Path) -> list[Path]:
    return [entry for entry in proc.iterdir() if entry.name.isdigit()]


def _socket_inodes(pid: Path) -> set[str]:
    found = set()
    try:
        for entry in (pid / "fd").iterdir():
            target = os.readlink(entry)
            if target.startswith("socket:["):
                found.add(target[8:-1])
    except OSError:  # another user's process, or one that has just ended
        return found
    return found


def _described(pid: Path) -> str:
    try:
        name = (pid / "comm").read_text().strip()
    except OSError:
        name = "a process"
    return f"{name} (pid {pid.name})"
