"""Real daemons in real processes for the end-to-end tests: own home, store and port each."""

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest


def wait_until(holds: Callable[[], Any], timeout_s: float = 30.0, what: str = "") -> Any:
    """Poll until *holds* is true and return its value; fail the test after *timeout_s*."""
    deadline = time.monotonic() + timeout_s
    pause = threading.Event()
    while True:
        if value := holds():
            return value
        if time.monotonic() > deadline:
            pytest.fail(f"not within {timeout_s} s: {what or holds}")
        pause.wait(0.01)


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def children_of(pid: int) -> list[int]:
    """Process ids of the living children of *pid*."""
    found = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        with suppress(OSError):
            found += [int(one) for one in task.read_text().split()]
    return found


def alive(pid: int) -> bool:
    """Whether *pid* runs (a zombie does not)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def rss_kib(pid: int) -> int:
    """Resident memory of a process in KiB."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1])
    return 0


class Daemon:
    """One `ollamad serve`."""

    def __init__(self, home: Path, python: str = sys.executable, **environment: str) -> None:
        self.home = home
        self.python = python
        self.port = free_port()
        self.log = home / "log"
        self.models = home / "models"
        self.environment = environment
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def environ(self) -> dict[str, str]:
        """What the daemon and its clients see: nothing of the machine's own settings."""
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("OLLAMA", "XDG_", "STATE_", "RUNTIME_"))}
        return {
            **kept,
            "HOME": str(self.home),
            "XDG_RUNTIME_DIR": str(self.home / "run"),
            "RUNTIME_DIRECTORY": str(self.home / "run"),
            "OLLAMA_HOST": f"127.0.0.1:{self.port}",
            "OLLAMA_MODELS": str(self.models),
            "OLLAMA_CONTEXT_LENGTH": "2048",
            **self.environment,
        }

    def start(self, *flags: str, wait: bool = True) -> "Daemon":
        (self.home / "run").mkdir(exist_ok=True, mode=0o700)
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [self.python, "-m", "ollamad.cli.serve", "serve", *flags],
                env=self.environ(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        if wait:
            wait_until(self.answers, what="the daemon answers")
        return self

    def answers(self) -> bool:
        assert self.process is not None
        if self.process.poll() is not None:
            pytest.fail(f"the daemon ended with {self.process.returncode}:\n{self.log.read_text()[-3000:]}")
        with suppress(OSError, http.client.HTTPException):
            return self.get("/api/version")[0] == 200
        return False

    def stop(self, how: int = signal.SIGTERM, timeout_s: float = 60.0) -> int:
        """Send a signal and wait for the end; returns the exit status."""
        if self.process is None:
            return 0
        with suppress(ProcessLookupError):
            self.process.send_signal(how)
        try:
            return self.process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise

    def close(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    # --- requests ------------------------------------------------------------------------

    def request(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        timeout_s: float = 60.0,
        headers: dict[str, str] | None = None,
    ) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout_s)
        try:
            data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
            connection.request(method, path, data, headers or {})
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()

    def get(self, path: str) -> tuple[int, bytes]:
        return self.request("GET", path)

    def json(self, method: str, path: str, body: Any = None, **more: Any) -> Any:
        """The JSON answer of a request that must succeed."""
        status, payload = self.request(method, path, body, **more)
        assert status < 300, payload
        return json.loads(payload) if payload else None

    def post(self, path: str, body: Any, **more: Any) -> tuple[int, Any]:
        """Status and JSON answer."""
        status, payload = self.request("POST", path, body, **more)
        return status, json.loads(payload) if payload else None

    def stream(self, path: str, body: Any, timeout_s: float = 60.0) -> "Streaming":
        return Streaming(self, path, body, timeout_s)

    def chat(self, text: str, model: str = "demo", **more: Any) -> str:
        """One answer to one user message."""
        body = {"model": model, "messages": [{"role": "user", "content": text}], "stream": False, **more}
        return str(self.json("POST", "/api/chat", body)["message"]["content"])

    def runners(self) -> list[int]:
        """Pids of the daemon's children that hold models."""
        found = []
        for pid in children_of(self.pid):
            with suppress(OSError):
                if b"ollamad.runner_child" in Path(f"/proc/{pid}/cmdline").read_bytes():
                    found.append(pid)
        return found

    def loaded(self) -> list[str]:
        return [one["name"] for one in self.json("GET", "/api/ps")["models"]]


class Streaming:
    """An open streamed answer; iterate it for records, or leave it with `close`."""

    def __init__(self, daemon: Daemon, path: str, body: Any, timeout_s: float) -> None:
        self.connection = http.client.HTTPConnection("127.0.0.1", daemon.port, timeout=timeout_s)
        self.connection.request("POST", path, json.dumps(body).encode())
        self._response: http.client.HTTPResponse | None = None

    @property
    def response(self) -> http.client.HTTPResponse:
        if self._response is None:
            self._response = self.connection.getresponse()
        return self._response

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for line in self.response:
            yield json.loads(line)

    def next(self) -> dict[str, Any]:
        value: dict[str, Any] = json.loads(self.response.readline())
        return value

    def close(self) -> None:
        """Leave as a client that is killed: the connection is reset."""
        sock = self.connection.sock
        if sock is not None:
            with suppress(OSError):
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
        if self._response is not None:
            self._response.close()
        self.connection.close()

    def __enter__(self) -> "Streaming":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


@pytest.fixture
def make_daemon(tmp_path: Path) -> Iterator[Callable[..., Daemon]]:
    """Make daemons that end with the test; variables are keyword arguments."""
    made: list[Daemon] = []

    def make(name: str = "home", python: str = sys.executable, **environment: str) -> Daemon:
        home = tmp_path / name
        home.mkdir(exist_ok=True)
        daemon = Daemon(home, python, **environment)
        made.append(daemon)
        return daemon

    yield make
    for daemon in made:
        daemon.close()


@pytest.fixture(scope="session")
def daemon_class() -> type[Daemon]:
    """For fixtures that keep one daemon for a whole module."""
    return Daemon


@pytest.fixture(scope="module")
def make_module_daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Daemon]]:
    """Make daemons for all tests of a module; they have to end well."""
    made: list[Daemon] = []

    def make(name: str, **environment: str) -> Daemon:
        daemon = Daemon(tmp_path_factory.mktemp(name), **environment)
        made.append(daemon)
        return daemon

    yield make
    try:
        assert [daemon.stop() for daemon in made] == [0] * len(made)
    finally:
        for daemon in made:
            daemon.close()


@pytest.fixture(scope="session")
def shared_daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """One daemon for tests that leave nothing behind."""
    daemon = Daemon(tmp_path_factory.mktemp("shared")).start()
    yield daemon
    daemon.stop()
    daemon.close()


@pytest.fixture
def daemon(shared_daemon: Daemon) -> Daemon:
    """The shared daemon; it must still be the same process afterwards."""
    assert shared_daemon.answers()
    return shared_daemon
