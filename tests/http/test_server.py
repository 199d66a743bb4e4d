"""The server on a real socket: what a client sees, and what becomes of the work for one that leaves."""

import asyncio
import contextlib
import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from ollamad.http import AuthorizeLocal, Limits
from ollamad.plugin import HttpRequest, Listener, Reply, Route, Stream

Serve = Callable[..., Awaitable[Any]]


class Gate:
    """A handler that says where it is and waits to be let on."""

    def __init__(self) -> None:
        self.entered = asyncio.Event()
        self.let = asyncio.Event()
        self.cancelled = asyncio.Event()

    async def wait(self, request: HttpRequest) -> Reply:
        self.entered.set()
        try:
            await self.let.wait()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise
        return Reply(200, b"late")

    async def numbers(self, request: HttpRequest) -> Stream:
        return Stream(self._numbers())

    async def _numbers(self) -> AsyncIterator[bytes]:
        try:
            yield b"1\n"
            self.entered.set()
            await self.let.wait()
            yield b"2\n"
        finally:
            self.cancelled.set()

    async def flood(self, request: HttpRequest) -> Stream:
        return Stream(self._flood())

    async def _flood(self) -> AsyncIterator[bytes]:
        try:
            while True:
                yield bytes(1 << 16)
                self.entered.set()
        finally:
            self.cancelled.set()


async def here(request: HttpRequest) -> Reply:
    return Reply(200, b"here")


BASIC_ROUTES = [Route("GET", "/", here)]


@pytest.fixture
def gate() -> Gate:
    return Gate()


async def within(awaitable: Awaitable[Any], seconds: float = 5.0) -> Any:
    async with asyncio.timeout(seconds):
        return await awaitable


async def test_headers_are_exactly_those(serve: Serve) -> None:
    """An answer holds the recorded headers, our request id, and no name of a server."""
    served = await serve()
    status, headers, body = await served.ask("GET /api/tags")
    assert (status, body) == (200, b"here")
    assert headers.pop("date").endswith(" GMT")
    assert headers.pop("x-ollamad-request-id") == served.records[0].context.id
    assert headers == {"content-type": "text/plain; charset=utf-8", "content-length": "4", "connection": "close"}


@pytest.mark.parametrize(
    ("line", "status", "expected", "body"),
    [
        ("GET /nope", 404, {"content-type": "text/plain"}, b"404 page not found"),
        (
            "PUT /api/tags",
            405,
            {"content-type": "text/plain", "allow": "HEAD, GET"},
            b"405 method not allowed",
        ),
        (
            "GET /api/tags/?a=b&c=%20",
            301,
            {"content-type": "text/html; charset=utf-8", "location": "/api/tags?a=b&c=%20"},
            b'<a href="/api/tags?a=b&amp;c=%20">Moved Permanently</a>.\n\n',
        ),
        ("HEAD /api/tags/", 307, {"content-type": "text/html; charset=utf-8", "location": "/api/tags"}, b""),
        ("POST /api/echo/", 307, {"location": "/api/echo"}, b""),
        ("OPTIONS /api/tags", 204, {"allow": "HEAD, GET"}, b""),
        ("HEAD /api/tags", 200, {"content-type": "text/plain; charset=utf-8"}, b""),
        ("GET /%61pi/tags", 200, {"content-type": "text/plain; charset=utf-8"}, b"here"),
    ],
)
async def test_routes_that_do_not_match(
    serve: Serve, line: str, status: int, expected: dict[str, str], body: bytes
) -> None:
    """Unknown paths, wrong methods, slashes at the end and HEAD answer as recorded."""
    got_status, headers, got_body = await (await serve()).ask(line)
    for name in ("date", "x-ollamad-request-id", "connection", "content-length"):
        headers.pop(name, None)
    assert (got_status, headers, got_body) == (status, expected, body)


async def test_the_host_guard_stands_on_loopback_only(serve: Serve) -> None:
    """A stranger's Host is refused where only this machine listens (CO-13, CO-22), and nowhere else (CO-20)."""
    near = await serve()
    assert (await near.ask("GET /nope", "Host: evil.test"))[0] == 403
    everywhere = await serve(listener=Listener("all", "manage", tcp=("0.0.0.0", 0)))
    everywhere.bound = (type(near.bound[0])(near.bound[0].listener, ("127.0.0.1", everywhere.address[1])),)
    assert (await everywhere.ask("GET /", "Host: evil.test"))[0] == 200


async def test_options_depends_on_how_the_host_is_named(serve: Serve) -> None:
    """A bare OPTIONS is 204 for a name and 405 for an address (CO-18, CO-19)."""
    served = await serve()
    assert (await served.ask("OPTIONS /api/tags", "Host: localhost"))[0] == 204
    assert (await served.ask("OPTIONS /api/tags", "Host: 127.0.0.1"))[0] == 405


async def test_origins(serve: Serve) -> None:
    """Allowed origins are echoed, refused ones get an empty 403, a preflight gets the long headers."""
    served = await serve()
    status, headers, _ = await served.ask("GET /nope", "Origin: http://localhost:3000")
    assert (status, headers["access-control-allow-origin"], headers["vary"]) == (404, "http://localhost:3000", "Origin")
    status, headers, body = await served.ask("POST /api/echo", "Origin: https://evil.test", body=b"x")
    assert (status, body, headers.get("access-control-allow-origin")) == (403, b"", None)
    status, headers, _ = await served.ask("OPTIONS /api/echo", "Origin: http://127.0.0.1")
    assert (status, headers["allow"], headers["access-control-max-age"]) == (204, "POST", "43200")
    assert headers["vary"] == "Origin, Access-Control-Request-Method, Access-Control-Request-Headers"
    status, headers, _ = await served.ask("GET /", "Origin: https://localhost", "Host: localhost")
    assert (status, "vary" in headers) == (200, False)


async def test_a_connection_serves_many_requests(serve: Serve) -> None:
    """Requests may come one after the other or at once; each body is read or thrown away."""
    served = await serve()
    answer = await served.talk(
        b"PUT /api/tags HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\nGET /"
        b"POST /api/echo HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n"
        b"GET /nope HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    )
    assert [part[:3] for part in answer.split(b"HTTP/1.1 ")[1:]] == [b"405", b"200", b"404"]
    assert [record.status for record in served.records] == [405, 200, 404]


async def test_a_body_may_be_asked_for(serve: Serve) -> None:
    """With Expect: 100-continue the body is asked for once, and only by who reads it."""
    served = await serve()
    reader, writer = await served.connect()
    head = "POST /{} HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n"
    writer.write(head.format("api/echo").encode())
    assert await within(reader.readuntil(b"\r\n\r\n")) == b"HTTP/1.1 100 Continue\r\n\r\n"
    writer.write(b"ab")
    await within(reader.readuntil(b"\r\n\r\nab"))
    writer.write(head.format("nope").encode())
    assert b"Connection: close" in await within(reader.read())
    writer.close()


async def test_a_cut_body_is_answered(serve: Serve) -> None:
    """A client that ends in its body still reads why it was refused."""
    served = await serve()
    answer = await served.talk(
        b"POST /api/echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n{", half_close=True
    )
    assert answer.startswith(b"HTTP/1.1 400")
    assert answer.endswith(b"unexpected EOF")


async def test_a_half_closed_client_gets_a_quick_answer(serve: Serve) -> None:
    """Who closes only the sending side after a whole request is answered."""
    answer = await (await serve()).talk(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", half_close=True)
    assert answer.endswith(b"here")


async def test_requests_that_came_before_the_end_are_answered(serve: Serve, gate: Gate) -> None:
    """Whole requests in front of a half-close are all served; a cut one behind them ends the connection."""
    served = await serve([*BASIC_ROUTES, Route("GET", "/gate", gate.wait)])
    gate.let.set()
    request = b"GET /%b HTTP/1.1\r\nHost: localhost\r\n\r\n"
    answer = await within(served.talk(request % b"gate" + request % b"" + b"GET / HT", half_close=True), 2.0)
    assert answer.count(b"HTTP/1.1 200") == 2
    assert answer.endswith(b"here")


@pytest.mark.parametrize("version", ["1.0", "1.1"])
async def test_streams(serve: Serve, gate: Gate, version: str) -> None:
    """A stream is chunked, or in HTTP/1.0 ends with the connection; each piece goes out at once."""
    served = await serve([Route("GET", "/", gate.numbers)])
    reader, writer = await served.connect()
    writer.write(f"GET / HTTP/{version}\r\nHost: localhost\r\n\r\n".encode())
    head = await within(reader.readuntil(b"\r\n\r\n"))
    assert (b"Transfer-Encoding: chunked" in head) is (version == "1.1")
    first = b"2\r\n1\n\r\n" if version == "1.1" else b"1\n"
    assert await within(reader.readexactly(len(first))) == first
    gate.let.set()
    if version == "1.1":
        assert await within(reader.readexactly(12)) == b"2\r\n2\n\r\n0\r\n\r\n"
    else:
        assert await within(reader.read()) == b"2\n"
    writer.close()


async def test_a_handler_that_fails_leaves_the_connection_usable(
    serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    """A panic is an empty 500, logged with its request's id, and the next request is served (TR-40)."""

    async def fail(request: HttpRequest) -> Reply:
        raise RuntimeError("ours")

    served = await serve([Route("GET", "/fail", fail)])
    request = b"GET /%b HTTP/1.1\r\nHost: localhost\r\n\r\n"
    answer = await served.talk(request % b"fail" + request % b"nope", half_close=True)
    assert [part[:3] for part in answer.split(b"HTTP/1.1 ")[1:]] == [b"500", b"404"]
    assert served.records[0].context.id in caplog.text


async def test_a_stream_that_fails_breaks_the_connection(
    serve: Serve, gate: Gate, caplog: pytest.LogCaptureFixture
) -> None:
    """Half an answer never looks whole: its end is missing."""

    async def broken() -> AsyncIterator[bytes]:
        yield b"1\n"
        raise RuntimeError("ours")

    async def handler(request: HttpRequest) -> Stream:
        return Stream(broken())

    served = await serve([Route("GET", "/", handler)])
    reader, writer = await served.connect()
    writer.write(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
    try:
        answer = await within(reader.read())
    except ConnectionError:
        answer = b""
    assert not answer.endswith(b"0\r\n\r\n")
    assert "ours" in caplog.text
    writer.close()


@pytest.mark.parametrize("abort", [True, False])
async def test_a_client_that_leaves_cancels_its_handler(serve: Serve, gate: Gate, abort: bool) -> None:
    """A handler that waits is cancelled when its client goes, and the record says so."""
    served = await serve([Route("GET", "/", gate.wait)])
    _, writer = await served.connect()
    writer.write(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
    await within(gate.entered.wait())
    writer.transport.abort() if abort else writer.close()
    await within(gate.cancelled.wait(), 0.3)
    await served.until(lambda: len(served.records) == 1)
    assert served.records[0].status == 499


async def test_a_client_that_leaves_ends_its_stream(serve: Serve, gate: Gate) -> None:
    """A stream's iterator is closed when its client goes."""
    served = await serve([Route("GET", "/", gate.numbers)])
    _, writer = await served.connect()
    writer.write(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
    await within(gate.entered.wait())
    writer.close()
    await within(gate.cancelled.wait(), 0.3)


async def test_a_reader_that_stops_is_dropped(serve: Serve, gate: Gate, caplog: pytest.LogCaptureFixture) -> None:
    """An answer that nobody reads waits for a while only, and holds nobody else up."""
    served = await serve([Route("GET", "/flood", gate.flood)], limits=Limits(write_s=0.2))
    _, writer = await served.connect()
    writer.transport.pause_reading()
    writer.write(b"GET /flood HTTP/1.1\r\nHost: localhost\r\n\r\n")
    await within(gate.entered.wait())
    assert (await served.ask("GET /nope"))[0] == 404
    await within(gate.cancelled.wait())
    assert "stopped reading" in caplog.text
    writer.close()


async def test_a_reader_that_leaves_a_blocked_write_frees_it(serve: Serve, gate: Gate) -> None:
    """Leaving in the middle of a blocked write is noticed at once."""
    served = await serve([Route("GET", "/flood", gate.flood)])
    _, writer = await served.connect()
    writer.transport.pause_reading()
    writer.write(b"GET /flood HTTP/1.1\r\nHost: localhost\r\n\r\n")
    await within(gate.entered.wait())
    writer.transport.abort()
    await within(gate.cancelled.wait(), 0.3)


@pytest.mark.parametrize(
    ("limits", "data"),
    [
        pytest.param(Limits(idle_s=0.05), b"", id="idle"),
        pytest.param(Limits(header_s=0.05), b"GET / HTTP/1.1\r\nHost:", id="head"),
        pytest.param(
            Limits(body_s=0.05), b"POST /api/echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n", id="body"
        ),
    ],
)
async def test_a_client_that_does_not_go_on_is_dropped(serve: Serve, limits: Limits, data: bytes) -> None:
    """Between requests, in a head and in a body there is a time limit."""
    served = await serve(limits=limits)
    reader, writer = await served.connect()
    writer.write(data)
    with contextlib.suppress(ConnectionResetError):
        assert await within(reader.read()) == b""
    await served.until(lambda: served.server.connections == 0)
    writer.close()


async def test_sizes_are_limited(serve: Serve) -> None:
    """A head past its limit is a 431, a body past its limit a 413, told before the client has sent all."""
    served = await serve(limits=Limits(header_bytes=1000, body_bytes=1000))
    answer = await served.talk(b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"x" * 6000)
    assert answer.endswith(b"\r\n\r\n431 Request Header Fields Too Large")
    answer = await served.talk(b"POST /api/echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: 999999999\r\n\r\nx")
    assert answer.startswith(b"HTTP/1.1 413")
    assert b"Connection: close" in answer


async def test_an_idle_connection_gives_way(serve: Serve, gate: Gate) -> None:
    """At the limit the longest idle connection is closed; when all are busy, the new one is told to come back."""
    served = await serve([Route("GET", "/", gate.wait)], limits=Limits(connections=2))
    first_reader, first = await served.connect()
    await served.until(lambda: served.server.connections == 1)
    others = [await served.connect() for _ in range(2)]
    assert await within(first_reader.read()) == b""
    for _, writer in others:
        writer.write(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
    await served.until(lambda: len(served.tasks) == 2)
    answer = await served.talk(b"")
    assert answer.startswith(b"HTTP/1.1 503")
    assert b"Retry-After: 1" in answer
    for writer in (first, *(writer for _, writer in others)):
        writer.close()


async def test_stop_drains(serve: Serve, gate: Gate) -> None:
    """A running request ends within the drain time; nothing new is accepted, and its connection is closed."""
    served = await serve([Route("GET", "/", gate.wait)])
    reader, writer = await served.connect()
    writer.write(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
    await within(gate.entered.wait())
    stopping = asyncio.get_running_loop().create_task(served.server.stop(5.0))
    await asyncio.sleep(0)
    with pytest.raises(ConnectionRefusedError):
        await served.connect()
    gate.let.set()
    answer = await within(reader.read())
    assert answer.endswith(b"late")
    assert b"Connection: close" in answer
    await within(stopping)
    writer.close()


async def test_stop_cancels_what_does_not_end(serve: Serve, gate: Gate) -> None:
    """After the drain time the rest is cancelled."""
    served = await serve([Route("GET", "/", gate.wait)])
    _, writer = await served.connect()
    writer.write(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
    await within(gate.entered.wait())
    await within(served.server.stop(0.0))
    assert gate.cancelled.is_set()
    assert not served.tasks
    writer.close()


async def test_an_address_in_use_is_told(serve: Serve) -> None:
    """A port that is taken is an OSError, and no listener of the call stays."""
    served = await serve()
    with pytest.raises(OSError, match="ddress already in use"):
        await serve(listener=Listener("other", "manage", tcp=("127.0.0.1", served.address[1])))


async def test_localhost_listens_on_all_its_addresses(serve: Serve) -> None:
    """A name with several addresses gets one port on each."""
    served = await serve(listener=Listener("default", "manage", tcp=("localhost", 0)))
    assert len({bound.address[1] for bound in served.bound}) == 1
    assert (await served.ask("GET /"))[0] == 200


async def test_unix_listeners_know_their_peer(serve: Serve, tmp_path: Path) -> None:
    """Over a Unix socket the peer's ids are known, admin routes are there, and the path goes at the end."""
    path = tmp_path / "run" / "ollamad.sock"
    seen: list[HttpRequest] = []

    async def handler(request: HttpRequest) -> Reply:
        seen.append(request)
        return Reply()

    served = await serve(
        [Route("GET", "/secret", handler, "admin")],
        listener=Listener("unix", "admin", unix=str(path), unix_mode=0o600),
        metrics=lambda: "# HELP\n",
    )
    assert path.stat().st_mode & 0o777 == 0o600
    assert (await served.ask("GET /secret"))[0] == 200
    principal = seen[0].context.principal
    assert (principal.uid, principal.gid, principal.pid) == (os.getuid(), os.getgid(), os.getpid())
    assert set(os.getgroups()) <= {*principal.groups, principal.gid}
    assert seen[0].context.client == f"unix:{os.getpid()}"
    assert (await served.ask("GET /metrics"))[2] == b"# HELP\n"
    with pytest.raises(OSError, match="ddress already in use"):
        await serve(listener=Listener("second", "admin", unix=str(path)))
    await served.server.stop()
    assert not path.exists()


async def test_a_stale_unix_socket_is_replaced(serve: Serve, tmp_path: Path) -> None:
    """A socket that nobody listens on is removed; any other file is left alone."""
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(path))
    served = await serve(listener=Listener("unix", "admin", unix=str(path)))
    assert (await served.ask("GET /"))[0] == 200
    other = tmp_path / "file"
    other.write_text("mine")
    with pytest.raises(OSError, match="is no socket"):
        await serve(listener=Listener("unix", "admin", unix=str(other)))
    assert other.read_text() == "mine"


async def test_an_inherited_socket_is_used(serve: Serve) -> None:
    """A listener may be a descriptor that somebody else opened."""
    with socket.create_server(("127.0.0.1", 0)) as given:
        served = await serve(listener=Listener("inherited", "manage", fd=given.fileno()))
        assert served.address == given.getsockname()
        assert (await served.ask("GET /", "Host: evil.test"))[0] == 403
        assert (await served.ask("GET /"))[0] == 200


async def test_admin_routes_are_refused_to_strangers(serve: Serve, tmp_path: Path) -> None:
    """What authorize refuses is not run."""

    async def handler(request: HttpRequest) -> Reply:
        raise AssertionError("must not run")

    served = await serve(
        [Route("GET", "/secret", handler, "admin")],
        listener=Listener("unix", "admin", unix=str(tmp_path / "s")),
        authorize=lambda context, route: Reply(403, b"no"),
    )
    assert (await served.ask("GET /secret"))[::2] == (403, b"no")
    assert AuthorizeLocal(0)(served.records[0].context, Route("GET", "/", handler)) is None
