"""A daemon in a process of its own, with files of its own, told to be ready as systemd would be."""

import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest


class Daemon:
    """One `ollamad serve`; its paths are short, for sockets have to fit."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.errors = root / "stderr"
        self.output = root / "stdout"
        self.notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.notify.bind(str(root / "notify"))
        self.notify.settimeout(30)
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, *arguments: str, **environ: str) -> "Daemon":
        kept = {"PATH": os.environ["PATH"], "HOME": str(self.root)}
        places = {"STATE_DIRECTORY": "state", "RUNTIME_DIRECTORY": "run", "NOTIFY_SOCKET": "notify"}
        environment = kept | {name: str(self.root / part) for name, part in places.items()} | environ
        with self.errors.open("wb") as errors, self.output.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "ollamad.cli.serve", "serve", *arguments],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=errors,
            )
        return self

    def ready(self) -> tuple[str, int]:
        """Wait for READY; where it listens."""
        said = self.notify.recv(4096).decode()
        found = re.match(r"READY=1\nSTATUS=Listening on (.+):(\d+), /", said)
        assert found, said
        return found[1], int(found[2])

    def signal(self, number: signal.Signals) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def end(self, timeout_s: float = 30) -> int:
        """Wait for the end; the exit status."""
        assert self.process is not None
        return self.process.wait(timeout_s)

    def admin(self, view: str) -> Any:
        """A view of the admin socket."""
        connection = http.client.HTTPConnection("localhost")
        connection.sock = socket.socket(socket.AF_UNIX)
        connection.sock.connect(str(self.root / "run" / "ollamad.sock"))
        try:
            connection.request("GET", f"/ollamad/{view}")
            answer = connection.getresponse()
            assert answer.status == 200
            return json.loads(answer.read())
        finally:
            connection.close()

    def close(self) -> None:
        self.notify.close()
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()


@pytest.fixture
def make_daemon() -> Iterator[Callable[[], Daemon]]:
    """Makes daemons that are not started yet, and ends them all."""
    made: list[Daemon] = []
    with tempfile.TemporaryDirectory(prefix="od-", dir="/tmp") as directory:

        def make() -> Daemon:
            root = Path(directory) / str(len(made))
            root.mkdir()
            made.append(Daemon(root))
            return made[-1]

        yield make
        for daemon in made:
            daemon.close()


@pytest.fixture
def daemon(make_daemon: Callable[[], Daemon]) -> Daemon:
    """One daemon, not started yet."""
    return make_daemon()
