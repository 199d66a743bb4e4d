"""One request and its answer, from the routed handler to the last byte."""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from ollamad.errors import InvalidRequest
from ollamad.http import answer
from ollamad.http.access import CLIENT_LEFT, AccessRecord
from ollamad.http.authorize import Authorize
from ollamad.http.body import Body
from ollamad.http.middleware import Decision
from ollamad.http.origins import Headers
from ollamad.http.parse import Head
from ollamad.http.routing import Found
from ollamad.plugin.frontend import BodyTooLarge, Reply, RequestContext, Stream

log = logging.getLogger("ollamad.http")

#: As much of a body that nobody read is still taken to keep the connection. Source: net/http, maxPostHandlerReadBytes.
MOST_DISCARDED = 256 * 1024


class Link(Protocol):
    """The connection's writing side."""

    @property
    def closing(self) -> bool: ...
    def write(self, data: bytes) -> None: ...
    async def drain(self) -> None: ...
    def abort(self) -> None: ...


@dataclass(slots=True)
class Request:
    """`plugin.frontend.HttpRequest` over one head and its body."""

    head: Head
    context: RequestContext
    params: Mapping[str, str]
    source: Body
    body_limit: int

    @property
    def method(self) -> str:
        return self.head.method

    @property
    def path(self) -> str:
        return self.head.path

    @property
    def query(self) -> str:
        return self.head.query

    @property
    def headers(self) -> Mapping[str, str]:
        return self.head.headers

    async def body(self) -> bytes:
        return await self.source.whole(self.body_limit)

    def chunks(self) -> AsyncIterator[bytes]:
        return self.source.chunks()


class Exchange:
    """Runs in: a task of its own, cancelled when the client leaves."""

    def __init__(
        self,
        head: Head,
        body: Body,
        context: RequestContext,
        decision: Decision,
        link: Link,
        *,
        authorize: Authorize,
        access_log: Callable[[AccessRecord], None],
        body_limit: int,
    ) -> None:
        self._head = head
        self._body = body
        self._context = context
        self._decision = decision
        self._link = link
        self._authorize = authorize
        self._access_log = access_log
        self._body_limit = body_limit
        self._status = 0
        self._sent = 0
        self._complete = False
        self.reusable = False

    async def run(self) -> None:
        """Answer. Afterwards ``reusable`` tells whether the connection can take another request."""
        try:
            await self._send(await self._answer())
            self._complete = True
            if self.reusable and not self._body.done:
                self.reusable = await self._body.discard(MOST_DISCARDED)
        finally:
            self._access_log(self._record())

    def _record(self) -> AccessRecord:
        return AccessRecord(
            context=self._context,
            method=self._head.method,
            path=self._head.path,
            status=self._status if self._complete else CLIENT_LEFT,
            duration_ns=time.monotonic_ns() - self._context.received_ns,
            sent_bytes=self._sent,
            user_agent=self._head.headers.get("user-agent", ""),
            query=self._head.query,
            forwarded=self._head.headers.get("x-forwarded-for", "") or self._head.headers.get("x-real-ip", ""),
        )

    async def _answer(self) -> Reply | Stream:
        found = self._decision.outcome
        if not isinstance(found, Found):
            return found
        refused = self._authorize(self._context, found.route)
        if refused is not None:
            return refused
        request = Request(self._head, self._context, found.params, self._body, self._body_limit)
        try:
            return await found.route.handler(request)
        except BodyTooLarge:
            return answer.TOO_LARGE
        except InvalidRequest as error:
            return Reply(400, str(error).encode(), "text/plain; charset=utf-8")
        except Exception:
            self._log_failure()
            return answer.PANIC

    def _log_failure(self) -> None:
        log.exception("%s: %s %s failed", self._context.id, self._head.method, self._head.path)

    async def _send(self, what: Reply | Stream) -> None:
        if isinstance(what, Reply):
            self._send_reply(what)
            await self._link.drain()
        else:
            await self._send_stream(what)

    def _send_reply(self, reply: Reply) -> None:
        self._status = reply.status
        self.reusable = self._may_go_on()
        headers = self._headers(reply)
        body = reply.body
        if reply.status in answer.BODILESS:
            body = b""
        else:
            headers.append(("Content-Length", str(len(body))))
        if self._head.method == "HEAD":
            body = b""
        self._sent = len(body)
        self._link.write(self._head_bytes(reply.status, headers) + body)

    def _may_go_on(self) -> bool:
        """Whether the connection can serve another request once this answer is out."""
        if not self._head.keep_alive or self._link.closing or self._body.failed:
            return False
        if self._body.done:
            return True
        remaining = self._body.remaining
        never_sent = self._head.expects_continue and not self._body.asked
        return not never_sent and remaining is not None and remaining <= MOST_DISCARDED

    def _headers(self, what: Reply | Stream) -> list[tuple[str, str]]:
        headers: Headers = self._decision.headers
        found = [*headers, *what.headers.items()]
        if what.content_type is not None:
            found.append(("Content-Type", what.content_type))
        found.append(("X-Ollamad-Request-Id", self._context.id))
        found.append(("Date", answer.date()))
        return found

    def _head_bytes(self, status: int, headers: list[tuple[str, str]]) -> bytes:
        modern = self._head.version >= (1, 1)
        if self.reusable is not modern:
            headers.append(("Connection", "keep-alive" if self.reusable else "close"))
        return answer.head(self._head.version, status, headers)

    async def _send_stream(self, stream: Stream) -> None:
        chunks = stream.chunks
        try:
            await self._pour(stream, chunks)
        except Exception:
            self._log_failure()
            if self._status:
                # Half an answer is out: only a broken connection tells the client that it is not whole.
                self._link.abort()
                self.reusable = False
            else:
                self._send_reply(answer.PANIC)
        finally:
            await _close(chunks)

    async def _pour(self, stream: Stream, chunks: AsyncIterator[bytes]) -> None:
        chunked = self._head.version >= (1, 1)
        opening = b""
        async for data in chunks:
            if not data:
                continue
            if not self._status:
                opening = self._open(stream, chunked)
                if self._head.method == "HEAD":
                    break
            self._link.write(opening + (answer.chunk(data) if chunked else data))
            opening = b""
            self._sent += len(data)
            await self._link.drain()
        if not self._status:
            opening = self._open(stream, chunked)
        ending = b"0\r\n\r\n" if chunked and self._head.method != "HEAD" else b""
        self._link.write(opening + ending)
        await self._link.drain()

    def _open(self, stream: Stream, chunked: bool) -> bytes:
        self._status = stream.status
        self.reusable = self._may_go_on() and chunked
        headers = self._headers(stream)
        if chunked:
            headers.append(("Transfer-Encoding", "chunked"))
        return self._head_bytes(stream.status, headers)


async def _close(chunks: AsyncIterator[bytes]) -> None:
    closer: Any = getattr(chunks, "aclose", None)
    if closer is not None:
        await closer()
