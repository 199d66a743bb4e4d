"""The server: starts and stops listeners, and knows all connections."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ollamad.http.access import AccessRecord
from ollamad.http.authorize import Authorize, AuthorizeLocal
from ollamad.http.connection import Connection, Place, Shared
from ollamad.http.limits import Limits
from ollamad.http.listener import BACKLOG, Bound, address_of, bind, is_loopback
from ollamad.http.middleware import Gate
from ollamad.http.origins import Origins
from ollamad.http.routing import RouteTable
from ollamad.plugin.frontend import HttpRequest, Listener, Reply, Route
from ollamad.types import Spawn

#: How long tasks that were cancelled at the end may take to end.
_CANCEL_S = 2.0


@dataclass(frozen=True, slots=True)
class HttpSettings:
    """What the configuration says about all listeners. ``origins`` are allowed besides the built-in ones."""

    origins: tuple[str, ...] = ()
    limits: Limits = Limits()


class HttpServer:
    """Joins a route table to listeners.

    Args:
        table: All routes of all frontends; it may still grow while the server runs.
        access_log: Called once per request, when it is over.
        spawn: Starts the task of a request.
        authorize: Asked after routing; by default `AuthorizeLocal` without a group.
        metrics: Gives the text of ``/metrics``, which listeners of profile admin then have.

    Raises:
        ConfigError: An origin that can never match.
    """

    def __init__(
        self,
        table: RouteTable,
        settings: HttpSettings,
        *,
        access_log: Callable[[AccessRecord], None],
        spawn: Spawn,
        authorize: Authorize | None = None,
        metrics: Callable[[], str] | None = None,
    ) -> None:
        if metrics is not None:
            table.add("metrics", [_metrics_route(metrics)])
        self._shared = Shared(
            gate=Gate(table, Origins(settings.origins), socket.gethostname()),
            limits=settings.limits,
            authorize=authorize or AuthorizeLocal(os.geteuid()),
            access_log=access_log,
            spawn=spawn,
        )
        self._servers: list[asyncio.Server] = []
        self._places: list[Place] = []
        self._paths: list[Path] = []

    async def start(self, listeners: Sequence[Listener]) -> tuple[Bound, ...]:
        """Bind all *listeners*, then accept on them.

        Raises:
            OSError: One cannot be bound (EADDRINUSE: address already in use); none of them listens then.
        """
        opened: list[tuple[Listener, socket.socket]] = []
        try:
            for listener in listeners:
                opened.extend((listener, sock) for sock in await bind(listener))
            for _, sock in opened:
                sock.listen(BACKLOG)
        except OSError:
            for _, sock in opened:
                sock.close()
            raise
        bound = tuple(Bound(listener, address_of(sock)) for listener, sock in opened)
        for listener, sock in opened:
            await self._accept(listener, sock)
        return bound

    async def _accept(self, listener: Listener, sock: socket.socket) -> None:
        place = Place(listener, guard_host=is_loopback(address_of(sock)))
        loop = asyncio.get_running_loop()

        def connect() -> Connection:
            return Connection(self._shared, place)

        if sock.family == socket.AF_UNIX:
            server = await loop.create_unix_server(connect, sock=sock, backlog=BACKLOG)
            if listener.unix is not None:
                self._paths.append(Path(listener.unix))
        else:
            server = await loop.create_server(connect, sock=sock, backlog=BACKLOG)
        self._places.append(place)
        self._servers.append(server)

    def stop_accepting(self) -> None:
        """Take no new connection and no further request; running ones go on."""
        self._shared.draining = True
        for server in self._servers:
            server.close()
        for connection in self._connections():
            if connection.busy is None:
                connection.close()

    async def stop(self, drain_s: float = 0.0) -> None:
        """Stop accepting, give running requests *drain_s*, then cancel what is left."""
        self.stop_accepting()
        await self._wait(drain_s)
        for connection in self._connections():
            connection.abort()
        await self._wait(_CANCEL_S)
        for path in self._paths:
            path.unlink(missing_ok=True)

    async def _wait(self, seconds: float) -> None:
        tasks = {task for connection in self._connections() if (task := connection.busy) is not None}
        if tasks:
            await asyncio.wait(tasks, timeout=seconds)

    def _connections(self) -> list[Connection]:
        return [connection for place in self._places for connection in place.connections]

    @property
    def connections(self) -> int:
        """Open connections on all listeners."""
        return sum(len(place.connections) for place in self._places)


def _metrics_route(metrics: Callable[[], str]) -> Route:
    async def handler(request: HttpRequest) -> Reply:
        return Reply(200, metrics().encode(), "text/plain; version=0.0.4; charset=utf-8")

    return Route("GET", "/metrics", handler, "admin")
