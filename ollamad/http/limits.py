"""How much one client may take: connections, time, bytes."""

from __future__ import annotations

import resource
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits of every listener.

    ``header_bytes`` is what Ollama's server allows. ``header_s`` runs from a request's first byte to the end of its
    head, ``idle_s`` between requests, ``body_s`` between two pieces of a body, ``write_s`` while an
    answer waits for a reader that has stopped reading.
    """

    connections: int = 16384
    header_bytes: int = 1 << 20
    body_bytes: int = 128 << 20
    header_s: float = 30.0
    idle_s: float = 300.0
    body_s: float = 120.0
    write_s: float = 30.0


def raise_descriptor_limit() -> int:
    """Raise the soft limit of open files to the hard one and return it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == hard:
        return soft
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    except (ValueError, OSError):  # macOS says "unlimited" and refuses it (getrlimit(2), OPEN_MAX)
        return soft
    return hard
