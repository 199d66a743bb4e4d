"""One question to the built-in model, answered by a daemon that lives just as long.

The daemon is the real one, started as users start it: with files of its own in a temporary directory, on a
free port that it tells as it would tell systemd.
"""

from __future__ import annotations

import re
import select
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from ollamad.cli.client import Client, ClientError
from ollamad.config.host import parse_host
from ollamad.config.load import inherited_environment

START_S = 30.0
STOP_S = 10.0


class HelloFailed(Exception):
    """The daemon did not come up; ``str()`` holds its last words."""


def say_hello(question: str, report: Callable[[str], None], fail: Callable[[str], None]) -> int:
    """Print the model's answer through *report*; the exit status."""
    try:
        with own_daemon() as client:
            for record in client.stream(
                "/api/chat", {"model": "demo", "messages": [{"role": "user", "content": question}]}
            ):
                report(record["message"]["content"])
            report("\n")
    except (HelloFailed, ClientError) as error:
        fail(f"Error: {error}")
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


@contextmanager
def own_daemon() -> Iterator[Client]:
    """A daemon on a free port with nothing of the user's, stopped at the end. Raises: HelloFailed."""
    # Paths of sockets are short: not every TMPDIR would do.
    with tempfile.TemporaryDirectory(prefix="ollamad-hello-", dir="/tmp", ignore_cleanup_errors=True) as directory:
        root = Path(directory)
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify, (root / "log").open("w+b") as log:
            notify.bind(str(root / "notify"))
            daemon = subprocess.Popen(
                _command(root), env=_environment(root), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=log
            )
            try:
                yield Client(parse_host(_wait_until_ready(daemon, notify, root / "log"))[0])
            finally:
                _stop(daemon)


def _command(root: Path) -> list[str]:
    settings = {
        "server.host": "127.0.0.1",
        "server.port": "0",
        "server.drain_timeout_s": "0",
        "store.path": str(root / "models"),
        "store.demo": "true",
        "plugins.unix-socket.path": str(root / "ollamad.sock"),
    }
    command = [sys.executable, "-m", "ollamad.cli.serve", "serve", "--config", "/dev/null"]
    for key, value in settings.items():
        command += ["--set", f"{key}={value}"]
    return command


def _environment(root: Path) -> Mapping[str, str]:
    places = {"STATE_DIRECTORY": "state", "RUNTIME_DIRECTORY": "run", "NOTIFY_SOCKET": "notify"}
    return inherited_environment() | {name: str(root / part) for name, part in places.items()}


def _wait_until_ready(daemon: subprocess.Popen[bytes], notify: socket.socket, log: Path) -> str:
    """The address at which the daemon listens."""
    waited = 0.0
    while waited < START_S and daemon.poll() is None:
        if not select.select([notify], [], [], 0.1)[0]:
            waited += 0.1
            continue
        found = re.search(rb"^STATUS=Listening on ([^,\n]+)", notify.recv(4096), re.MULTILINE)
        if found:
            return found[1].decode()
    words = log.read_text(errors="replace").strip() or "it said nothing"
    raise HelloFailed(f"the daemon did not start: {words[-2000:]}")


def _stop(daemon: subprocess.Popen[bytes]) -> None:
    daemon.terminate()
    with suppress(subprocess.TimeoutExpired):
        daemon.wait(STOP_S)
        return
    daemon.kill()
    daemon.wait()
