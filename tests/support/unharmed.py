"""What has to hold whatever a client sends: the daemon goes on, answers are clean, other streams lose nothing."""

from __future__ import annotations

import json
import re
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

#: What the daemon's memory may have grown by, 10 s after the trouble.
GROWTH_KIB = 16 * 1024
SETTLE_S = 10.0
COUNT = {"model": "demo", "prompt": "Count to 200", "options": {"temperature": 0, "num_ctx": 2048}}
#: What the demo model makes of `COUNT`, alone or beside others.
COUNTED = ", ".join(map(str, range(1, 101)))
#: An answer that does not end by itself, and what it looks like wherever it is left.
ENDLESS = {
    "model": "demo",
    "prompt": "1 2 3 4 5 6 7 8 9",
    "raw": True,
    "options": {"num_predict": -1, "temperature": 0, "num_ctx": 2048},
}
ENDLESS_TEXT = r"(?: +9\n)* *9?"
_UNCLEAN = re.compile(
    r"Traceback|File \\?\"|\.py\b|site-packages|0x[0-9a-f]{6,}|object at|<class|/(?:tmp|home|root|usr|var)/"
)


def rss_kib(pid: int) -> int:
    """Resident memory of a process in KiB."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0])


def assert_clean(payload: bytes | str) -> None:
    """No answer tells a path of the server, a traceback or an object's address."""
    text = payload.decode("utf-8", "replace") if isinstance(payload, bytes) else payload
    found = _UNCLEAN.search(text)
    assert found is None, (found, text[:500])


class Bystander:
    """A stream that runs while others make trouble; its text must be what it is without them.

    Args:
        endless: One answer that lasts until the trouble is over, instead of whole answers one after the other.
    """

    def __init__(self, daemon: Any, *, endless: bool = False) -> None:
        self._daemon = daemon
        self._endless = endless
        self._begun = threading.Event()
        self._enough = threading.Event()
        self.texts: list[str] = []
        self.errors: list[str] = []
        self.gaps_s: list[float] = []
        self._thread = threading.Thread(target=self._read)

    def _read(self) -> None:
        try:
            while not (self._enough.is_set() and self.texts) and not self.errors:
                with self._daemon.stream("/api/generate", ENDLESS if self._endless else COUNT) as stream:
                    self.texts.append("".join(self._texts(stream)))
        finally:
            self._begun.set()

    def _texts(self, stream: Any) -> Iterator[str]:
        last = 0.0
        for record in stream:
            now = time.monotonic()
            if last:
                self.gaps_s.append(now - last)
            last = now
            self._begun.set()
            if "error" in record:
                self.errors.append(record["error"])
            yield record.get("response", "")
            if self._endless and self._enough.is_set():
                return

    def __enter__(self) -> Bystander:
        self._thread.start()
        assert self._begun.wait(60)
        return self

    def __exit__(self, *error: object) -> None:
        self._enough.set()
        self._thread.join(120)
        if error[0] is None:
            assert not self._thread.is_alive()
            assert not self.errors, self.errors
            if self._endless:
                assert len(self.texts) == 1
                assert re.fullmatch(ENDLESS_TEXT, self.texts[0]), self.texts
            else:
                assert set(self.texts) == {COUNTED}


@contextmanager
def unharmed(daemon: Any, growth_kib: int = GROWTH_KIB) -> Iterator[None]:
    """The daemon is the same process afterwards, has logged no traceback, and gives its memory back."""
    pid = daemon.pid
    assert daemon.answers()
    before = rss_kib(pid)
    logged = daemon.log.stat().st_size
    yield
    assert daemon.answers()
    assert daemon.pid == pid
    new = daemon.log.read_bytes()[logged:]
    assert b"Traceback" not in new, new[new.find(b"Traceback") :][:3000]
    deadline = time.monotonic() + SETTLE_S
    pause = threading.Event()
    while (grown := rss_kib(pid) - before) > growth_kib and time.monotonic() < deadline:
        pause.wait(0.1)
    assert grown <= growth_kib


def percentile(values: list[float], share: float) -> float:
    """The value below which *share* of *values* lie."""
    ranked = sorted(values)
    return ranked[min(len(ranked) - 1, int(len(ranked) * share))]


def connect(daemon: Any, timeout_s: float = 30.0) -> socket.socket:
    """A TCP connection to the daemon."""
    return socket.create_connection(("127.0.0.1", daemon.port), timeout_s)


def read_all(sock: socket.socket) -> bytes:
    """Everything until the daemon closes."""
    parts = []
    while part := sock.recv(65536):
        parts.append(part)
    return b"".join(parts)


def head(method: str, path: str, **headers: str) -> bytes:
    """The head of a request."""
    fields = {"Host": "127.0.0.1", **{name.replace("_", "-"): value for name, value in headers.items()}}
    lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items()), "", ""]
    return "\r\n".join(lines).encode()


def post(path: str, body: Any, **headers: str) -> bytes:
    """A whole POST."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return head("POST", path, Content_Length=str(len(data)), **headers) + data


def error_of(answer: bytes | Mapping[str, Any]) -> str:
    """The error text of an answer, which must be clean and hold nothing else."""
    value = json.loads(answer) if isinstance(answer, bytes) else answer
    assert list(value) == ["error"], value
    assert_clean(value["error"])
    return str(value["error"])
