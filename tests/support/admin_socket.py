"""Ask a running daemon through its admin socket, as `ollamactl` does."""

from __future__ import annotations

import http.client
import json
import socket
from pathlib import Path
from typing import Any


class UnixConnection(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: Path, timeout_s: float = 10.0) -> None:
        super().__init__("localhost", timeout=timeout_s)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


def ask(path: Path, route: str) -> tuple[int, Any]:
    """Status and JSON of a GET; text where it is no JSON."""
    connection = UnixConnection(path)
    try:
        connection.request("GET", route)
        answer = connection.getresponse()
        body = answer.read()
    finally:
        connection.close()
    is_json = answer.status == 200 and answer.headers["Content-Type"].startswith("application/json")
    return answer.status, json.loads(body) if is_json else body.decode()
