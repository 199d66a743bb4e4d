"""The head of a request: bytes to facts, as lenient and as strict as Go's server, whose answers are recorded."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from urllib.parse import unquote_to_bytes

_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_VERSION = re.compile(r"HTTP/([0-9])\.([0-9])")
_BAD_VALUE = re.compile("[\x00-\x08\x0a-\x1f\x7f]")
_BAD_TARGET = re.compile("[\x00-\x20\x7f]")
_BAD_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")
_HOST = re.compile(r"[0-9A-Za-z!$%&'()*+,\-.:;=\[\]_~]*")
_END = re.compile(rb"\n\r?\n")


class HeadError(Exception):
    """The head cannot be answered; ``text`` is what stands behind the status in the answer."""

    def __init__(self, status: int = 400, text: str = "") -> None:
        self.status = status
        self.text = text
        super().__init__(text)

    def page(self) -> bytes:
        """The whole answer: framed by the end of the connection, as recorded."""
        phrase = HTTPStatus(self.status).phrase
        line = f"{self.status} {phrase}"
        body = f"{line}: {self.text}" if self.text else line
        head = f"HTTP/1.1 {body}\r\nContent-Type: text/plain; charset=utf-8\r\nConnection: close\r\n\r\n"
        return (head + body).encode()


@dataclass(frozen=True, slots=True)
class Head:
    """The head of one request. ``length`` None: chunked. ``path`` is decoded, ``query`` is not."""

    method: str
    path: str
    query: str
    version: tuple[int, int]
    headers: Mapping[str, str]
    length: int | None
    keep_alive: bool
    expects_continue: bool

    @property
    def host(self) -> str:
        """The `Host` header, "" when there is none (HTTP/1.0)."""
        return self.headers.get("host", "")


def head_end(buffer: bytearray, start: int) -> int:
    """Where the head ends (just behind its empty line), or -1; *start* is how much was searched before."""
    found = _END.search(buffer, max(0, start - 3))
    return -1 if found is None else found.end()


def parse_head(data: bytes) -> Head:
    """Read a head up to and with its empty line.

    Raises:
        HeadError: It is none, or asks for what HTTP/1.1 does not have.
    """
    lines = [line.removesuffix(b"\r").decode("latin-1") for line in data.rstrip(b"\r\n").split(b"\n")]
    method, target, version = _request_line(lines[0])
    fields = _fields(lines[1:])
    host, path, query = _target(method, target)
    chunked = _is_chunked(fields, version)
    length = None if chunked else _length(fields)
    _check_hosts(fields.get("host", ()), version)
    _check_fields(fields)
    headers = {name: ", ".join(values) for name, values in fields.items()}
    if host is not None:
        headers["host"] = host
    tokens = {token.strip().lower() for token in headers.get("connection", "").split(",")}
    keep_alive = "close" not in tokens if version >= (1, 1) else "keep-alive" in tokens
    expect = headers.get("expect", "").lower()
    if expect and expect != "100-continue":
        raise HeadError(417)
    return Head(
        method=method,
        path=path,
        query=query,
        version=version,
        headers=headers,
        length=length,
        keep_alive=keep_alive,
        expects_continue=bool(expect) and version >= (1, 1) and length != 0,
    )


def _request_line(line: str) -> tuple[str, str, tuple[int, int]]:
    method, _, rest = line.partition(" ")
    target, blank, protocol = rest.partition(" ")
    version = _VERSION.fullmatch(protocol)
    if not blank or not _TOKEN.fullmatch(method) or version is None:
        raise HeadError
    number = (int(version[1]), int(version[2]))
    if number[0] != 1:
        raise HeadError(505, "unsupported protocol version")
    return method, target, number


def _target(method: str, target: str) -> tuple[str | None, str, str]:
    """(host of an absolute target, decoded path, query)."""
    if not target or _BAD_TARGET.search(target):
        raise HeadError
    host = None
    if target == "*" and method == "OPTIONS":
        return None, "*", ""
    if not target.startswith("/"):
        scheme, mark, rest = target.partition("://")
        if not mark or scheme.lower() not in ("http", "https"):
            raise HeadError
        host, slash, rest = rest.partition("/")
        target = slash + rest or "/"
    path, _, query = target.partition("?")
    if _BAD_ESCAPE.search(path):
        raise HeadError
    return host, unquote_to_bytes(path.encode("latin-1")).decode("utf-8", "replace"), query


def _fields(lines: Sequence[str]) -> dict[str, list[str]]:
    fields: dict[str, list[str]] = {}
    last: list[str] | None = None
    for line in lines:
        if line[:1] in (" ", "\t"):  # a value may go on in the next line; Go joins them by one blank
            if last is None:
                raise HeadError
            last[-1] += " " + line.strip(" \t")
            continue
        name, colon, value = line.partition(":")
        if not colon or not _TOKEN.fullmatch(name.replace(" ", "")):
            raise HeadError
        last = fields.setdefault(name.lower(), [])
        last.append(value.strip(" \t"))
    return fields


def _is_chunked(fields: Mapping[str, Sequence[str]], version: tuple[int, int]) -> bool:
    """Chunked wins over a Content-Length beside it, and does not exist in HTTP/1.0."""
    values = fields.get("transfer-encoding")
    if values is None or version < (1, 1):
        return False
    if len(values) != 1 or values[0].lower() != "chunked":
        raise HeadError(501, "Unsupported transfer encoding")
    return True


def _length(fields: Mapping[str, Sequence[str]]) -> int:
    values = set(fields.get("content-length", ("0",)))
    value = values.pop()
    if values or not (value.isascii() and value.isdigit()) or len(value) > 18:
        raise HeadError
    return int(value)


def _check_hosts(hosts: Sequence[str], version: tuple[int, int]) -> None:
    if len(hosts) > 1:
        raise HeadError
    if not hosts and version >= (1, 1):
        raise HeadError(400, "missing required Host header")
    if hosts and not _HOST.fullmatch(hosts[0]):
        raise HeadError(400, "malformed Host header")


def _check_fields(fields: Mapping[str, Sequence[str]]) -> None:
    for name, values in fields.items():
        if " " in name:
            raise HeadError(400, "invalid header name")
        if any(_BAD_VALUE.search(value) for value in values):
            raise HeadError(400, "invalid header value")
