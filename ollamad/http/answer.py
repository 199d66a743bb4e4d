"""Answers as bytes: the head with exactly the headers that are recorded, and chunk framing."""

from __future__ import annotations

import time
from collections.abc import Iterable
from email.utils import formatdate
from html import escape
from http import HTTPStatus
from urllib.parse import quote

from ollamad.plugin.frontend import Reply

#: Statuses without a body and without its length.
BODILESS = frozenset({204, 304})

NOT_FOUND = Reply(404, b"404 page not found", "text/plain")
NOT_ALLOWED = Reply(405, b"405 method not allowed", "text/plain")
FORBIDDEN = Reply(403, b"", None)
NO_CONTENT = Reply(204, b"", None)
PANIC = Reply(500, b"", None)
TOO_LARGE = Reply(413, b"413 request body too large", "text/plain")


def redirect(method: str, path: str, query: str) -> Reply:
    """The answer to a path that is known but for the slash at its end."""
    location = quote(path, safe="/:@!$&'()*+,;=~") + (f"?{query}" if query else "")
    status = 301 if method == "GET" else 307
    page = b""
    if method == "GET":
        page = f'<a href="{escape(location)}">Moved Permanently</a>.\n\n'.encode()
    kind = "text/html; charset=utf-8" if method in ("GET", "HEAD") else None
    return Reply(status, page, kind, {"Location": location})


_date = (0, "")


def date() -> str:
    """The `Date` header, made once a second."""
    global _date
    now = int(time.time())
    if _date[0] != now:
        _date = (now, formatdate(now, usegmt=True))
    return _date[1]


def head(version: tuple[int, int], status: int, headers: Iterable[tuple[str, str]]) -> bytes:
    """Status line and headers. Line ends in values become blanks, as Go does it."""
    lines = [f"HTTP/{version[0]}.{min(version[1], 1)} {status} {phrase(status)}"]
    lines.extend(f"{name}: {value.replace(chr(13), ' ').replace(chr(10), ' ')}" for name, value in headers)
    return "\r\n".join([*lines, "", ""]).encode("utf-8", "replace")


def phrase(status: int) -> str:
    """The words behind a status; Go's for one that has none."""
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return f"status code {status}"


def chunk(data: bytes) -> bytes:
    """One chunk; never the empty one, which ends a body."""
    return b"%x\r\n%b\r\n" % (len(data), data)
