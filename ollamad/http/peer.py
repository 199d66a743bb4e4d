"""Who is at the other end of a connection, as far as the kernel proves it."""

from __future__ import annotations

import socket
import struct
import sys
from typing import Any

from ollamad.plugin.frontend import Principal

#: Linux, include/uapi/asm-generic/socket.h; the socket module has no name for it. SO_PEERCRED tells the
#: primary group only: whoever was added to a group by usermod is seen here alone.
_SO_PEERGROUPS = 59
#: `socket.getsockopt` gives no more than 1024 bytes; of more than 256 groups none is seen.
_GROUP_BYTES = 1024


def principal_of(sock: Any) -> Principal:
    """The principal behind a connected socket; an empty one for TCP."""
    if sock is None or sock.family != socket.AF_UNIX or not sys.platform.startswith("linux"):
        return Principal()
    pid, uid, gid = struct.unpack("3i", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    return Principal(uid=uid, gid=gid, pid=pid, groups=_groups(sock))


def _groups(sock: Any) -> tuple[int, ...]:
    try:
        data = sock.getsockopt(socket.SOL_SOCKET, _SO_PEERGROUPS, _GROUP_BYTES)
    except OSError:  # a kernel before 4.13, or more groups than fit
        return ()
    return struct.unpack(f"{len(data) // 4}I", data)


def client_of(transport: Any, principal: Principal) -> str:
    """A short text for logs: the address without its port, or the process at a Unix socket."""
    if principal.uid is not None:
        return f"unix:{principal.pid}"
    peer = transport.get_extra_info("peername")
    return str(peer[0]) if isinstance(peer, tuple) and peer else "unix"
