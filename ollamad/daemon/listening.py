"""Opens listeners, and says in Ollama's words why one cannot be opened."""

from __future__ import annotations

import errno

from ollamad.daemon.holder import holder_of_port
from ollamad.errors import OllamadError
from ollamad.http.listener import Bound
from ollamad.http.server import HttpServer
from ollamad.plugin.frontend import Listener


class CannotListen(OllamadError):
    """A listener of the configuration cannot be opened; ends the start."""


async def listen(server: HttpServer, listener: Listener) -> tuple[Bound, ...]:
    """Open one listener and accept on it. Raises: CannotListen."""
    try:
        return await server.start([listener])
    except OSError as error:
        raise CannotListen(_reason(listener, error)) from error


def _reason(listener: Listener, error: OSError) -> str:
    text = error.strerror or str(error)
    text = text[:1].lower() + text[1:]
    if listener.tcp is None:
        return f"listen unix {listener.unix}: bind: {text}"
    host, port = listener.tcp
    reason = f"listen tcp {address_text(host, port)}: bind: {text}"
    if error.errno == errno.EADDRINUSE and (holder := holder_of_port(host, port)):
        reason += f"\n{address_text(host, port)} is held by {holder}"
    return reason


def address_text(host: str, port: int) -> str:
    """``host:port``, an IPv6 host in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def bound_text(bound: Bound) -> str:
    """Where a listener listens."""
    return bound.address if isinstance(bound.address, str) else address_text(*bound.address)
