"""A server on an ephemeral port, and a client that speaks bytes."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from ollamad.http import AccessRecord, HttpServer, HttpSettings, Limits, RouteTable
from ollamad.plugin import HttpRequest, Listener, Reply, Route

PATIENCE_S = 5.0


@dataclass
class Served:
    """A running server. ``records`` grows by one per finished request."""

    server: HttpServer
    bound: tuple[Any, ...]
    records: list[AccessRecord] = field(default_factory=list)
    tasks: set[asyncio.Task[Any]] = field(default_factory=set)

    @property
    def address(self) -> Any:
        return self.bound[0].address

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if isinstance(self.address, str):
            return await asyncio.open_unix_connection(self.address)
        return await asyncio.open_connection(*self.address)

    async def talk(self, data: bytes, *, half_close: bool = False) -> bytes:
        """Send *data* and read until the server closes; ask it to, or half-close."""
        reader, writer = await self.connect()
        writer.write(data)
        if half_close:
            writer.write_eof()
        async with asyncio.timeout(PATIENCE_S):
            answer = await reader.read()
        writer.close()
        return answer

    async def ask(self, line: str, *headers: str, body: bytes = b"") -> tuple[int, dict[str, str], bytes]:
        """One request; (status, headers in lower case, body)."""
        host = [] if any(header.startswith("Host") for header in headers) else ["Host: localhost"]
        head = [f"{line} HTTP/1.1", *host, "Connection: close", *headers, f"Content-Length: {len(body)}", "", ""]
        answer = await self.talk("\r\n".join(head).encode() + body)
        return split(answer)

    async def until(self, met: Callable[[], bool]) -> None:
        """Wait until *met* holds."""
        async with asyncio.timeout(PATIENCE_S):
            while not met():  # noqa: ASYNC110 - what the server does has no event of ours
                await asyncio.sleep(0.001)


def split(answer: bytes) -> tuple[int, dict[str, str], bytes]:
    """Take one answer apart."""
    head, _, body = answer.partition(b"\r\n\r\n")
    lines = head.decode().split("\r\n")
    headers: dict[str, str] = {}
    for line in lines[1:]:
        name, _, value = line.partition(": ")
        name = name.lower()
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    return int(lines[0].split(" ")[1]), headers, body


async def root(request: HttpRequest) -> Reply:
    return Reply(200, b"here", "text/plain; charset=utf-8")


async def echo(request: HttpRequest) -> Reply:
    return Reply(200, await request.body())


BASIC = [
    Route("GET", "/", root),
    Route("HEAD", "/", root),
    Route("HEAD", "/api/tags", root),
    Route("GET", "/api/tags", root),
    Route("POST", "/api/echo", echo),
]

LIMITS = Limits()
LOOPBACK = Listener("default", "manage", tcp=("127.0.0.1", 0))
Serve = Callable[..., Awaitable[Served]]


@pytest.fixture
async def serve() -> AsyncIterator[Serve]:
    """Starts servers: ``await serve(routes, limits=..., origins=..., listener=...)``."""
    running: list[Served] = []

    async def start(
        routes: list[Route] = BASIC,
        *,
        limits: Limits = LIMITS,
        origins: tuple[str, ...] = (),
        listener: Listener = LOOPBACK,
        **options: Any,
    ) -> Served:
        table = RouteTable()
        table.add("test", routes)
        records: list[AccessRecord] = []
        tasks: set[asyncio.Task[Any]] = set()

        def spawn(coroutine: Any, name: str) -> asyncio.Task[Any]:
            task = asyncio.get_running_loop().create_task(coroutine, name=name)
            tasks.add(task)
            task.add_done_callback(tasks.discard)
            return task

        settings = HttpSettings(origins=origins, limits=limits)
        server = HttpServer(table, settings, access_log=records.append, spawn=spawn, **options)
        served = Served(server, await server.start([listener]), records, tasks)
        running.append(served)
        return served

    yield start
    for served in running:
        await served.server.stop()
