"""A real daemon in a process of its own: its own home, store and port, nothing of the machine's settings."""

import http.client
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

START_S = 30.0


@contextmanager
def serving(home: Path, **environment: str) -> Iterator[int]:
    """Run `ollamad serve` below *home*; yields the port once it answers, and ends it with SIGTERM."""
    (home / "run").mkdir(mode=0o700)
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port = int(one.getsockname()[1])
    foreign = ("OLLAMA", "XDG_", "STATE_", "RUNTIME_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
    own = {
        "HOME": str(home),
        "RUNTIME_DIRECTORY": str(home / "run"),
        "OLLAMA_HOST": f"127.0.0.1:{port}",
        "OLLAMA_MODELS": str(home / "models"),
    }
    log = home / "log"
    with log.open("wb") as out:
        command = [sys.executable, "-m", "ollamad.cli.serve", "serve"]
        daemon = subprocess.Popen(
            command, env=kept | own | environment, stdin=subprocess.DEVNULL, stdout=out, stderr=out
        )
    try:
        _wait(daemon, port, log)
        yield port
        daemon.send_signal(signal.SIGTERM)
        assert daemon.wait(START_S) == 0, log.read_text()[-3000:]
    finally:
        if daemon.poll() is None:
            daemon.kill()
            daemon.wait()


def _wait(daemon: "subprocess.Popen[bytes]", port: int, log: Path) -> None:
    deadline, pause = time.monotonic() + START_S, threading.Event()
    while not _answers(port):
        assert daemon.poll() is None, log.read_text()[-3000:]
        assert time.monotonic() < deadline, "the daemon does not answer"
        pause.wait(0.02)


def _answers(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", "/api/version")
        return connection.getresponse().read() != b""
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
