"""Bind one listener: TCP, Unix, or a socket that was inherited."""

from __future__ import annotations

import asyncio
import errno
import grp
import ipaddress
import os
import socket
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from ollamad.plugin.frontend import Listener

#: Connections that the kernel keeps for us before they are accepted.
BACKLOG = 4096

Address: TypeAlias = tuple[str, int] | str


@dataclass(frozen=True, slots=True)
class Bound:
    """A listener and where it really listens (the port it got, the path)."""

    listener: Listener
    address: Address


async def bind(listener: Listener) -> list[socket.socket]:
    """Open the sockets of a listener, not yet listening.

    Raises:
        OSError: EADDRINUSE and the like (EINVAL: no such group); nothing is left open.
    """
    if listener.tcp is not None:
        return await _bind_tcp(*listener.tcp)
    if listener.unix is not None:
        return [_bind_unix(Path(listener.unix), listener.unix_mode, _group_of(listener))]
    if listener.fd is not None:
        return [socket.socket(fileno=os.dup(listener.fd))]
    raise ValueError(f"listener {listener.name} has no address")


async def _bind_tcp(host: str, port: int) -> list[socket.socket]:
    """One socket per address of *host*; with port 0 all get the first one's."""
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    sockets: list[socket.socket] = []
    try:
        for family, kind, protocol, _, address in dict.fromkeys(found):
            sock = _open(family, kind, protocol, (*address[:1], port, *address[2:]), first=not sockets)
            if sock is not None:
                sockets.append(sock)
                port = sock.getsockname()[1]
    except OSError:
        for sock in sockets:
            sock.close()
        raise
    return sockets


def _open(family: int, kind: int, protocol: int, address: tuple[object, ...], *, first: bool) -> socket.socket | None:
    """A bound socket; None for a second address that this machine does not have (``::1`` without IPv6)."""
    missing = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)
    try:
        sock = socket.socket(family, kind, protocol)
    except OSError as error:
        if first or error.errno not in missing:
            raise
        return None
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind(address)
    except OSError as error:
        sock.close()
        if first or error.errno not in missing:
            raise
        return None
    return sock


def _bind_unix(path: Path, mode: int, group: int | None) -> socket.socket:
    """A bound socket with its final owner and mode; nobody can connect before, for it does not listen yet."""
    _remove_stale(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.bind(str(path))
        if group is not None:
            os.chown(path, -1, group)
        path.chmod(mode)
    except OSError:
        sock.close()
        raise
    return sock


def _group_of(listener: Listener) -> int | None:
    """The number of a Unix listener's group, None if it has none. Raises OSError: no such group."""
    if not listener.unix_group:
        return None
    try:
        return grp.getgrnam(listener.unix_group).gr_gid
    except KeyError:
        raise OSError(errno.EINVAL, f"no group {listener.unix_group!r}") from None


def _remove_stale(path: Path) -> None:
    """Remove a socket that nobody listens on any more; one that answers is another daemon's."""
    try:
        if not stat.S_ISSOCK(path.stat().st_mode):
            raise OSError(errno.EADDRINUSE, f"{path} is no socket")
    except FileNotFoundError:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink()
            return
    raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE), str(path))


def address_of(sock: socket.socket) -> Address:
    """Where a bound socket listens."""
    name = sock.getsockname()
    return name if isinstance(name, str) else (name[0], name[1])


def is_loopback(address: Address) -> bool:
    """Whether only this machine can reach a TCP *address*: such listeners guard the `Host` header."""
    if isinstance(address, str):
        return False
    return ipaddress.ip_address(address[0].partition("%")[0]).is_loopback
