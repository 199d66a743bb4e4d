"""Start, stop and signals."""

import http.client
import json
import logging
import signal
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from ollamad.daemon.lifecycle import Signals, stop


class Recorder:
    """Writes down what is asked of it."""

    def __init__(self, drained: bool = True) -> None:
        self.steps: list[tuple[str, float | None]] = []
        self.drained = drained

    def stopping(self) -> None:
        self.steps.append(("stopping", None))

    def stop_accepting(self) -> None:
        self.steps.append(("stop_accepting", None))

    async def drain(self, timeout_s: float) -> bool:
        self.steps.append(("drain", timeout_s))
        return self.drained

    async def end_requests(self, timeout_s: float) -> None:
        self.steps.append(("end_requests", timeout_s))

    async def stop_runners(self) -> None:
        self.steps.append(("stop_runners", None))

    async def end_tasks(self) -> None:
        self.steps.append(("end_tasks", None))


ORDER = ["stopping", "stop_accepting", "drain", "end_requests", "stop_runners", "end_tasks"]


async def test_order_of_the_stop(caplog: pytest.LogCaptureFixture) -> None:
    """Everything ends in the written order; answers that do not end in time are told and ended."""
    parts = Recorder(drained=False)
    with caplog.at_level(logging.WARNING):
        await stop(parts, 30)
    assert [name for name, _ in parts.steps] == ORDER
    assert dict(parts.steps)["drain"] == 30
    assert 0 < (dict(parts.steps)["end_requests"] or 0) <= 30
    assert "running answers did not end in time" in caplog.text


async def test_a_stop_without_patience() -> None:
    """A drain time of zero ends requests at once."""
    parts = Recorder()
    await stop(parts, 0)
    assert dict(parts.steps)["end_requests"] == 0


async def test_signals(caplog: pytest.LogCaptureFixture) -> None:
    """The first signal asks for the end, the second ends at once, SIGHUP only says that it is not obeyed."""
    exits: list[int] = []
    signals = Signals(exits.append)
    with caplog.at_level(logging.INFO):
        signals.hang_up()
        signals.ask(signal.SIGTERM)
        await signals.wait()
        assert exits == []
        signals.ask(signal.SIGTERM)
    assert exits == [1]
    assert "SIGHUP ignored" in caplog.text


@pytest.fixture
def streaming(daemon: Any) -> Iterator[http.client.HTTPResponse]:
    """A stream in the middle of a long answer, and its daemon."""
    host, port = daemon.start("--port", "0").ready()
    connection = http.client.HTTPConnection(host, port, timeout=30)
    body = {
        "model": "demo",
        "raw": True,
        "prompt": "Count: 1, 2, 3, ",
        "options": {"num_predict": 400, "temperature": 2, "seed": 1, "stop": ["\0"]},
    }
    connection.request("POST", "/api/generate", json.dumps(body))
    answer = connection.getresponse()
    assert json.loads(answer.readline())["done"] is False
    yield answer
    connection.close()


def test_a_running_answer_ends_before_the_daemon_does(daemon: Any, streaming: http.client.HTTPResponse) -> None:
    """After SIGTERM systemd is told, new connections are refused, the answer is complete, the status is 0."""
    daemon.signal(signal.SIGHUP)
    daemon.signal(signal.SIGTERM)
    assert daemon.notify.recv(4096) == b"STOPPING=1\nSTATUS=Stopping"
    last = [json.loads(line) for line in streaming][-1]
    assert last["done"] is True
    assert daemon.end() == 0
    assert not (daemon.root / "run" / "ollamad.sock").exists()
    assert "SIGHUP ignored" in daemon.errors.read_text()


def test_a_second_signal_ends_at_once(daemon: Any, streaming: http.client.HTTPResponse) -> None:
    """The daemon is gone without waiting for the answer, and its runner with it."""
    children = _children(daemon.process.pid)
    assert children
    daemon.signal(signal.SIGTERM)
    assert daemon.notify.recv(4096).startswith(b"STOPPING=1")
    daemon.signal(signal.SIGTERM)
    assert daemon.end() in (0, 1)
    assert _gone(children)


def test_nothing_survives_a_kill(daemon: Any, streaming: http.client.HTTPResponse) -> None:
    """After kill -9 in the middle of an answer no child is left one second later."""
    children = _children(daemon.process.pid)
    assert children
    daemon.signal(signal.SIGKILL)
    daemon.end()
    assert _gone(children)


def _children(pid: int) -> list[int]:
    found: list[int] = []
    for thread in ("task",):
        with open(f"/proc/{pid}/{thread}/{pid}/children") as file:
            found += map(int, file.read().split())
    return found


def _gone(pids: list[int], within_s: float = 1.0) -> bool:
    """Whether all processes have ended in time."""
    pause = threading.Event()
    for _ in range(int(within_s / 0.02)):
        if not any(_runs(pid) for pid in pids):
            return True
        pause.wait(0.02)
    return False


def _runs(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False
