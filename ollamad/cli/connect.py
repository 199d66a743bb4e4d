"""Which daemon `ollamactl` talks to: ``OLLAMA_HOST`` when set, else the socket, else 127.0.0.1:11434."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from ollamad.cli.client import Client, NotRunning
from ollamad.config.host import Host, parse_host
from ollamad.config.load import find_places, inherited_environment
from ollamad.config.values import trim

SOCKET_NAME = "ollamad.sock"

#: Where the system's daemon has its socket, whoever asks.
SYSTEM_SOCKET = Path("/run/ollamad") / SOCKET_NAME


def socket_candidates(environ: Mapping[str, str]) -> list[Path]:
    """Sockets to try, the caller's own daemon first."""
    named = trim(environ.get("OLLAMAD_SOCKET", ""))
    own = Path(named) if named else find_places(environ).runtime / SOCKET_NAME
    return [own] if own == SYSTEM_SOCKET else [own, SYSTEM_SOCKET]


def usable(paths: Iterable[Path]) -> Path | None:
    """The first socket that exists and that this user may write to."""
    return next((path for path in paths if path.exists() and os.access(path, os.W_OK)), None)


def user_client(socket: str | None = None) -> Client:
    """The client for everyday commands."""
    environ = inherited_environment()
    if socket:
        return Client(unix_path=socket)
    if text := trim(environ.get("OLLAMA_HOST", "")):
        return Client(parse_host(text)[0])
    path = usable(socket_candidates(environ))
    return Client(unix_path=str(path)) if path is not None else Client(Host())


def admin_client(socket: str | None = None) -> Client:
    """The client for admin commands, which only the socket admits.

    Raises:
        NotRunning: No socket that this user may use.
    """
    if socket:
        return Client(unix_path=socket)
    candidates = socket_candidates(inherited_environment())
    path = usable(candidates)
    if path is None:
        names = " or ".join(str(one) for one in candidates)
        raise NotRunning(f"no admin socket at {names} that this user may use")
    return Client(unix_path=str(path))
