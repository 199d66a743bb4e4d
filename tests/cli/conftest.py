"""A scripted server on loopback, for the command line's requests."""

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from click.testing import CliRunner, Result

from ollamad.cli.ctl import main


class Script:
    """Answers by (method, path); remembers what was asked."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, str, Any]] = []
        self.answers: dict[tuple[str, str], tuple[int, bytes]] = {}
        self.broken: set[tuple[str, str]] = set()

    def on(self, method: str, path: str, answer: Any = None, status: int = 200) -> None:
        """Answer with a JSON value, raw text, or a list of records as NDJSON."""
        if isinstance(answer, list):
            payload = b"".join(json.dumps(one).encode() + b"\n" for one in answer)
        elif isinstance(answer, str):
            payload = answer.encode()
        else:
            payload = b"" if answer is None else json.dumps(answer).encode()
        self.answers[method, path] = (status, payload)

    def asked(self, path: str) -> list[Any]:
        """Bodies of the requests to *path*."""
        return [body for _, one, body in self.requests if one == path]


@pytest.fixture
def script() -> Iterator[Script]:
    """A running scripted server; `url` is set on it."""
    state = Script()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _any(self) -> None:
            size = int(self.headers.get("Content-Length") or 0)
            raw = self.rfile.read(size)
            body = json.loads(raw) if raw.startswith(b"{") else raw
            state.requests.append((self.command, self.path, body))
            key = (self.command, self.path)
            status, payload = state.answers.get(key, (404, b'{"error":"not scripted"}'))
            self.send_response(status)
            self.send_header("Content-Length", str(len(payload) + (10 if key in state.broken else 0)))
            self.send_header("Connection", "close")
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(payload)
            self.close_connection = True

        do_GET = do_POST = do_DELETE = do_HEAD = _any

        def log_message(self, *args: Any) -> None:
            """Keep quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    state.url = f"http://127.0.0.1:{server.server_port}"  # type: ignore[attr-defined]
    yield state
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def ctl(script: Script, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """Run `ollamactl` against the scripted server."""
    monkeypatch.setenv("OLLAMA_HOST", script.url)  # type: ignore[attr-defined]

    def invoke(*args: str, input: str = "") -> Result:
        return CliRunner().invoke(main, args, input=input)

    return invoke
