"""A small blocking HTTP client for the daemon, over TCP or its Unix socket.

`http.client` and not a larger library: `ollamactl list` has 0.15 s from start to end.
"""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from http import HTTPStatus
from typing import Any

from ollamad import __version__
from ollamad.config.host import Host

Body = bytes | Iterable[bytes] | None


class ClientError(Exception):
    """The daemon answered with an error; ``str()`` is what the user reads."""

    def __init__(self, message: str, status: int = 0) -> None:
        super().__init__(message or "something went wrong, please see the ollamad server logs for details")
        self.status = status


class NotRunning(ClientError):
    """Nobody answers at the address."""


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("localhost")
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.connect(self._path)


class Client:
    """Requests to one daemon, a fresh connection each."""

    def __init__(self, host: Host | None = None, unix_path: str | None = None) -> None:
        self._host = (host or Host()).connectable()
        self._unix_path = unix_path

    @property
    def address(self) -> str:
        """Where it connects to, for messages."""
        return self._unix_path or self._host.url

    def get(self, path: str) -> Any:
        """The JSON answer of a GET."""
        return self.call("GET", path)

    def post(self, path: str, body: Mapping[str, Any]) -> Any:
        """The JSON answer of a POST; None if it is empty."""
        return self.call("POST", path, body)

    def call(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Any:
        """The JSON answer of a request; None if it is empty. Raises: ClientError."""
        with self._answer(method, path, _encoded(body)) as response:
            payload = response.read()
            if response.status >= 400:
                raise ClientError(_error_text(payload), response.status)
        return json.loads(payload) if payload else None

    def upload(self, path: str, chunks: Iterable[bytes], size_bytes: int) -> int:
        """POST a stream of known length; returns the status. Raises: ClientError."""
        with self._answer("POST", path, chunks, {"Content-Length": str(size_bytes)}) as response:
            payload = response.read()
            if response.status >= 400:
                raise ClientError(_error_text(payload), response.status)
            return response.status

    def stream(self, path: str, body: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        """The records of a streamed POST, as they come. Closing the iterator closes the connection.

        Raises:
            ClientError: An error status (the text starts with the status line) or an error record.
        """
        with self._answer("POST", path, _encoded(body)) as response:
            if response.status >= 400:
                status = f"{response.status} {_phrase(response)}"
                raise ClientError(f"{status}: {_error_text(response.read())}", response.status)
            for line in response:
                if not line.strip():
                    continue
                record = _record(line)
                if record.get("error"):
                    raise ClientError(str(record["error"]))
                yield record

    @contextmanager
    def _answer(
        self, method: str, path: str, body: Body, headers: Mapping[str, str] | None = None
    ) -> Iterator[http.client.HTTPResponse]:
        connection = self._connection()
        response: http.client.HTTPResponse | None = None
        sent = {"User-Agent": f"ollamactl/{__version__}", "Content-Type": "application/json", **(headers or {})}
        try:
            try:
                connection.request(method, self._host.path + path, body, sent)
                response = connection.getresponse()
            except (ConnectionRefusedError, FileNotFoundError) as error:
                raise NotRunning(
                    f"could not connect to the ollamad server at {self.address}: start it with 'ollamad serve' "
                    "or 'systemctl start ollamad'"
                ) from error
            yield response
        except http.client.IncompleteRead as error:
            raise ClientError("unexpected EOF: the server closed the connection in the middle of its answer") from error
        except (OSError, http.client.HTTPException) as error:
            raise ClientError(f"{method} {self.address}{path}: {error}") from error
        finally:
            if response is not None:
                response.close()
            connection.close()

    def _connection(self) -> http.client.HTTPConnection:
        if self._unix_path is not None:
            return _UnixConnection(self._unix_path)
        if self._host.scheme == "https":
            return http.client.HTTPSConnection(self._host.host, self._host.port)
        return http.client.HTTPConnection(self._host.host, self._host.port)


def _encoded(body: Mapping[str, Any] | None) -> bytes | None:
    return None if body is None else json.dumps(body, ensure_ascii=False).encode()


def _phrase(response: http.client.HTTPResponse) -> str:
    try:
        return response.reason or HTTPStatus(response.status).phrase
    except ValueError:
        return ""


def _error_text(payload: bytes) -> str:
    text = payload.decode(errors="replace").strip()
    try:
        value = json.loads(text)
    except ValueError:
        return text
    error = value.get("error") if isinstance(value, dict) else None
    if isinstance(error, dict):
        error = error.get("message")
    return str(error) if error else text


def _record(line: bytes) -> dict[str, Any]:
    try:
        value = json.loads(line)
    except ValueError:
        raise ClientError(line.decode(errors="replace").strip()) from None
    if not isinstance(value, dict):
        raise ClientError(line.decode(errors="replace").strip())
    return value
