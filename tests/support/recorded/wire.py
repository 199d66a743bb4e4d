"""HTTP/1.1 by hand: what is sent may be broken on purpose, and how an answer was framed is part of it."""

import asyncio
from dataclasses import dataclass, field


@dataclass
class Answer:
    """One answer as it came.

    Attributes:
        fault: Why there is no whole answer.
        closed: Whether the server closed afterwards; None when nobody looked.
        reads: How many times bytes of the body arrived.
    """

    status: int = 0
    headers: list[list[str]] = field(default_factory=list)
    interim: list[int] = field(default_factory=list)
    body: bytes = b""
    chunked: bool = False
    reads: int = 0
    closed: bool | None = None
    fault: str = ""

    def header(self, name: str) -> str | None:
        return next((value for key, value in self.headers if key == name), None)


class Wire:
    """A connection to the server."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    @classmethod
    async def open(cls, port: int) -> "Wire":
        return cls(*await asyncio.open_connection("127.0.0.1", port, limit=1 << 20))

    async def send(self, sent: bytes) -> None:
        """Send; a server that answered and closed already is no error here, its answer tells."""
        try:
            self._writer.write(sent)
            await self._writer.drain()
        except ConnectionError:
            return

    def half_close(self) -> None:
        self._writer.write_eof()

    def close(self) -> None:
        self._writer.close()

    def abort(self) -> None:
        self._writer.transport.abort()

    async def answer(self, method: str, after_records: int = 0) -> Answer:
        """Read one answer, or its first *after_records* lines."""
        found = Answer()
        try:
            await self._head(found)
            if method != "HEAD" and found.status not in (204, 304):
                await self._body(found, after_records)
        except (asyncio.IncompleteReadError, ConnectionError):
            found.fault = "connection ended"
        return found

    async def _head(self, found: Answer) -> None:
        while found.status < 200:
            if found.status:
                found.interim.append(found.status)
            status, *fields = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")[:-2]
            found.status = int(status.split(" ")[1])
            found.headers = [[name.lower(), value.strip()] for name, _, value in (one.partition(":") for one in fields)]

    async def _body(self, found: Answer, after_records: int) -> None:
        length = found.header("content-length")
        found.chunked = found.header("transfer-encoding") == "chunked"
        if not found.chunked:
            found.body = await (self._reader.read() if length is None else self._reader.readexactly(int(length)))
            return
        loop = asyncio.get_running_loop()
        last = 0.0
        while size := int(await self._reader.readuntil(b"\r\n"), 16):
            found.body += (await self._reader.readexactly(size + 2))[:-2]
            # Chunks that came in one read are taken within microseconds of each other.
            found.reads += loop.time() - last > 0.0005
            last = loop.time()
            if after_records and found.body.count(b"\n") >= after_records:
                return
        await self._reader.readuntil(b"\r\n")

    async def is_closed(self, within_s: float) -> bool:
        """Whether the server closes the connection within so many seconds."""
        try:
            return await asyncio.wait_for(self._reader.read(1), within_s) == b""
        except ConnectionError:
            return True
        except TimeoutError:
            return False


def request(method: str, target: str, headers: list[tuple[str, str]], body: bytes) -> bytes:
    """The bytes of a request, headers as they are given."""
    lines = [f"{method} {target} HTTP/1.1", *(f"{name}: {value}" for name, value in headers), "", ""]
    return "\r\n".join(lines).encode("utf-8", "surrogateescape") + body
