"""Clients that leave, runners that die or hang, daemons that are killed: nobody else notices, nothing is left."""

import json
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from faults import (
    ADMIN,
    FAKE,
    endless,
    is_free,
    is_loading,
    long_prompt,
    model_status,
    one_token,
    other_demo,
    records_of,
    send,
    stop_process,
    stopped_reader,
    until,
    upload,
)
from unharmed import COUNTED, Bystander, error_of, unharmed

from ollamad.testing.fake_file import write_fake_model

#: Five times the figure, for a machine that others use too; `tests/bench/figures.py` measures the real one.
FREE_S = 5 * 0.3
GONE_S = 5.0
STOPPED = (
    "model runner has unexpectedly stopped, this may be due to resource limitations or an internal error, "
    "check ollama server logs for details"
)


@pytest.fixture(scope="module")
def two(make_module_daemon: Callable[..., Any]) -> Any:
    """A daemon with the demo model, which must not notice anything, and a copy of it that gets the trouble."""
    daemon = make_module_daemon("two").start(*ADMIN)
    upload(daemon, "victim", other_demo())
    assert daemon.chat("Count to 100", options={"num_ctx": 2048}) == COUNTED
    return daemon


@pytest.fixture(scope="module")
def single(make_module_daemon: Callable[..., Any]) -> Any:
    """A daemon that answers one request of a model at a time."""
    daemon = make_module_daemon("single", OLLAMA_NUM_PARALLEL="1").start(*ADMIN)
    daemon.json("POST", "/api/generate", one_token("demo"))
    return daemon


@pytest.fixture
def fake(make_daemon: Callable[..., Any], tmp_path: Path) -> Any:
    """A daemon of fake models `a` and `b`, each with gates in the directory of its name."""
    daemon = make_daemon("fake").start(*ADMIN, *FAKE)
    for seed, name in enumerate("ab"):
        gates = tmp_path / name
        gates.mkdir()
        model = write_fake_model(tmp_path / f"{name}.gguf", gate_dir=str(gates), seed=seed, end_every=0)
        upload(daemon, name, model.read_bytes())
    return daemon


def victim_runner(daemon: Any) -> int:
    """Load the victim; the process that holds it."""
    unload(daemon, "victim")
    before = set(daemon.runners())
    daemon.json("POST", "/api/generate", one_token("victim"))
    (pid,) = set(daemon.runners()) - before
    return int(pid)


def unload(daemon: Any, name: str) -> None:
    assert daemon.post("/api/generate", {"model": name, "keep_alive": 0})[0] == 200
    until(lambda: not model_status(daemon, name), 10, "the model is unloaded")


def loading_runner(daemon: Any, stream_of: Callable[[], Any]) -> tuple[Any, int]:
    """Ask for the victim; the request and the process that has just begun to load it."""
    unload(daemon, "victim")
    before = set(daemon.runners())
    stream = stream_of()
    (pid,) = until(lambda: set(daemon.runners()) - before, 10, "a runner is started")
    assert is_loading(daemon, "victim")
    return stream, int(pid)


def read(stream: Any, count: int = 5) -> list[str]:
    return [stream.next()["response"] for _ in range(count)]


@contextmanager
def beside(daemon: Any) -> Iterator[None]:
    """The daemon is unharmed, and streams of another model are whole."""
    with unharmed(daemon), Bystander(daemon):
        yield


# --- clients that leave ---------------------------------------------------------------------


def shut(stream: Any) -> None:
    """Leave as a process that ends: the kernel says goodbye."""
    stream.connection.sock.shutdown(socket.SHUT_RDWR)
    stream.connection.close()


LEAVE = {"reset": lambda stream: stream.close(), "shut": shut}


@pytest.mark.parametrize("how", LEAVE)
def test_client_gone_while_queued(single: Any, how: str) -> None:
    """A request whose client leaves the queue is forgotten."""
    with unharmed(single), single.stream("/api/generate", endless("demo")) as running:
        read(running)
        waiting = single.stream("/api/generate", one_token("demo"))
        until(lambda: model_status(single, "demo")["waiting"] == 1)
        LEAVE[how](waiting)
        until(lambda: model_status(single, "demo")["waiting"] == 0, FREE_S)
    until(lambda: is_free(single, "demo"), FREE_S)


@pytest.mark.parametrize("how", LEAVE)
def test_client_gone_while_loading(two: Any, how: str) -> None:
    """A load whose last waiter leaves is given up, and the next request loads again."""
    with beside(two):
        stream, pid = loading_runner(two, lambda: two.stream("/api/generate", endless("victim")))
        LEAVE[how](stream)
        until(lambda: model_status(two, "victim") == {}, FREE_S)
        assert not Path(f"/proc/{pid}").exists()
        assert two.post("/api/generate", one_token("victim"))[0] == 200


@pytest.mark.parametrize("how", LEAVE)
def test_client_gone_while_prefilling(single: Any, how: str) -> None:
    """A prompt whose client leaves is not prefilled to its end."""
    with unharmed(single):
        stream = single.stream("/api/generate", long_prompt("demo", hash(how)))
        until(lambda: model_status(single, "demo")["busy"] == 1)
        LEAVE[how](stream)
        until(lambda: is_free(single, "demo"), FREE_S)
        assert single.post("/api/generate", one_token("demo"))[0] == 200


@pytest.mark.parametrize("how", LEAVE)
def test_client_gone_while_decoding(single: Any, how: str) -> None:
    """An answer whose client leaves ends, and its slot serves the next one."""
    with unharmed(single):
        stream = single.stream("/api/generate", endless("demo"))
        read(stream)
        LEAVE[how](stream)
        until(lambda: is_free(single, "demo"), FREE_S)
        assert single.post("/api/generate", one_token("demo"))[0] == 200


def test_client_gone_while_a_write_is_blocked(fake: Any) -> None:
    """A client that has stopped reading, and then leaves, keeps no slot."""
    with unharmed(fake):
        with stopped_reader(fake, "a"):
            pass
        until(lambda: is_free(fake, "a"), FREE_S)
        assert fake.post("/api/generate", one_token("a"))[0] == 200


def test_six_streams_left_and_a_seventh_request(two: Any) -> None:
    """Streams that are left one after the other do not use the slots up."""
    with unharmed(two):
        for _ in range(6):
            stream = two.stream("/api/generate", endless("demo"))
            read(stream)
            stream.close()
        assert two.chat("Count to 100", options={"num_ctx": 2048}) == COUNTED


# --- runners that die -----------------------------------------------------------------------


def test_runner_killed_in_its_load(two: Any) -> None:
    """The request that waits for the load is told how the runner ended, and the next one loads again."""
    with beside(two):
        stream, pid = loading_runner(two, lambda: two.stream("/api/generate", endless("victim")))
        os.kill(pid, signal.SIGKILL)
        status, records = records_of(stream)
        assert (status, error_of(records[0])) == (500, "llama-server process has terminated: signal: killed")
        assert not Path(f"/proc/{pid}").exists()
        assert two.post("/api/generate", one_token("victim"))[0] == 200


def test_runner_killed_in_a_prefill(two: Any) -> None:
    """A request without a record yet gets a status of its own."""
    with beside(two):
        pid = victim_runner(two)
        stream = two.stream("/api/generate", long_prompt("victim", 2))
        until(lambda: model_status(two, "victim")["busy"] == 1)
        os.kill(pid, signal.SIGKILL)
        status, records = records_of(stream)
        assert (status, error_of(records[0])) == (500, f"{STOPPED}: signal: killed")
        until(lambda: not Path(f"/proc/{pid}").exists(), what="the runner is reaped")
        assert two.post("/api/generate", one_token("victim"))[0] == 200


def test_runner_killed_in_a_decode(two: Any) -> None:
    """A stream ends with one error record and no `done`; the reason is in the log."""
    with beside(two):
        pid = victim_runner(two)
        stream = two.stream("/api/generate", endless("victim"))
        read(stream)
        os.kill(pid, signal.SIGKILL)
        status, records = records_of(stream)
        assert (status, error_of(records[-1])) == (200, f"{STOPPED}: signal: killed")
        assert [one for one in records if one.get("done")] == []
        until(lambda: not Path(f"/proc/{pid}").exists(), what="the runner is reaped")
        assert 'msg="llama-server terminated" error="signal: killed"' in two.log.read_text()
        assert two.post("/api/generate", one_token("victim"))[0] == 200


# --- runners that hang ----------------------------------------------------------------------


def test_runner_stopped_in_its_load(make_daemon: Callable[..., Any]) -> None:
    """A load without a sign of life for OLLAMA_LOAD_TIMEOUT fails with the contract's text."""
    daemon = make_daemon(OLLAMA_LOAD_TIMEOUT="2s").start(*ADMIN)
    stream = daemon.stream("/api/generate", one_token("demo"))
    (pid,) = until(daemon.runners, 10)
    stop_process(pid)
    status, records = records_of(stream)
    assert (status, error_of(records[0])) == (500, "timed out waiting for llama-server to start - ")
    assert not Path(f"/proc/{pid}").exists()
    assert daemon.post("/api/generate", one_token("demo"))[0] == 200


@pytest.mark.parametrize("phase", ["prefill", "decode"])
def test_runner_stopped_while_it_works(two: Any, phase: str) -> None:
    """Nobody but its own requests waits for a hung runner; their clients can leave, and it can be unloaded."""
    with beside(two):
        pid = victim_runner(two)
        stream = two.stream("/api/generate", endless("victim") if phase == "decode" else long_prompt("victim", 3))
        if phase == "decode":
            read(stream)
        until(lambda: model_status(two, "victim")["busy"] == 1)
        stop_process(pid)
        stream.close()
        until(lambda: is_free(two, "victim"), FREE_S)
        unload(two, "victim")
        assert not Path(f"/proc/{pid}").exists()
        assert two.post("/api/generate", one_token("victim"))[0] == 200


def test_a_runner_goes_on_after_a_stop(two: Any) -> None:
    """A stream whose runner was stopped and continued is whole."""
    with beside(two):
        pid = victim_runner(two)
        with two.stream("/api/generate", {"model": "victim", "prompt": "Count to 100"}) as stream:
            text = "".join(read(stream))
            stop_process(pid)
            assert two.get("/api/tags")[0] == 200
            send(pid, signal.SIGCONT)
            _, records = records_of(stream)
        assert text + "".join(one["response"] for one in records) == COUNTED


# --- daemons that are killed ----------------------------------------------------------------


def left_after_kill(daemon: Any) -> list[int]:
    """Kill the daemon; its children that are still there after a while."""
    children = children_of(daemon.pid)
    assert children
    daemon.stop(signal.SIGKILL)
    with suppress(AssertionError):
        until(lambda: not any(map(is_alive, children)), GONE_S)
    return [pid for pid in children if is_alive(pid)]


def children_of(pid: int) -> list[int]:
    tasks = Path(f"/proc/{pid}/task").glob("*/children")
    return [int(child) for task in tasks for child in task.read_text().split()]


def is_alive(pid: int) -> bool:
    with suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    return False


def test_daemon_killed_while_idle(make_daemon: Callable[..., Any]) -> None:
    """A loaded runner ends with its daemon; the next daemon starts on the same port and socket."""
    daemon = make_daemon().start()
    daemon.json("POST", "/api/generate", one_token("demo"))
    assert left_after_kill(daemon) == []
    daemon.start()
    assert daemon.post("/api/generate", one_token("demo"))[0] == 200
    assert daemon.stop() == 0


@pytest.mark.parametrize("point", ["load", "decode"])
def test_daemon_killed_in_a_long_call(fake: Any, tmp_path: Path, point: str) -> None:
    """A runner in a load, or in a step of ten seconds, ends with its daemon."""
    (tmp_path / "a" / f"slow-{point}").write_text("10")
    with fake.stream("/api/generate", one_token("a")):
        until(fake.runners, 10)
        if point == "decode":
            until(lambda: model_status(fake, "a").get("busy") == 1, 10)
        assert left_after_kill(fake) == []


def test_daemon_killed_in_a_probe(make_daemon: Callable[..., Any], tmp_path: Path) -> None:
    """A job that looks for devices ends with its daemon."""
    (tmp_path / "hold-probe").touch()
    daemon = make_daemon(FAKE_GATE_DIR=str(tmp_path)).start(*ADMIN, *FAKE)
    until((tmp_path / "reached-probe").exists, 20)
    assert left_after_kill(daemon) == []


def test_daemon_killed_in_a_check(fake: Any, tmp_path: Path) -> None:
    """A job that loads an uploaded file to see what it is ends with its daemon."""
    (tmp_path / "hold-load").touch()
    model = write_fake_model(tmp_path / "c.gguf", gate_dir=str(tmp_path), seed=7).read_bytes()
    creating = threading.Thread(target=suppressed, args=(upload, fake, "c", model))
    creating.start()
    until((tmp_path / "reached-load").exists, 20)
    assert left_after_kill(fake) == []
    creating.join(10)


def suppressed(work: Callable[..., object], *arguments: Any) -> None:
    """A request whose daemon is killed fails, and that is expected."""
    with suppress(OSError, ValueError, EOFError):
        work(*arguments)


# --- daemons that are told to end -----------------------------------------------------------


def test_sigterm_drains(make_daemon: Callable[..., Any]) -> None:
    """Streams end whole, the queue is told that the server shuts down, and no socket file stays."""
    daemon = make_daemon(OLLAMA_NUM_PARALLEL="8").start(*ADMIN)
    body = {"model": "demo", "prompt": "Count to 100"}
    streams = [daemon.stream("/api/generate", body) for _ in range(8)]
    begun = ["".join(read(stream, 2)) for stream in streams]
    queued = daemon.stream("/api/generate", body)
    until(lambda: model_status(daemon, "demo")["waiting"] == 1)
    daemon.process.send_signal(signal.SIGTERM)
    status, records = records_of(queued)
    assert (status, error_of(records[0])) == (503, "server is shutting down")
    rests = [records_of(stream)[1] for stream in streams]
    assert {start + "".join(one["response"] for one in rest) for start, rest in zip(begun, rests, strict=True)} == {
        COUNTED
    }
    assert daemon.process.wait(10) == 0
    assert list((daemon.home / "run").iterdir()) == []


def test_a_second_sigterm_ends_at_once(fake: Any, tmp_path: Path) -> None:
    """Who does not want to wait for the streams says so once more; nothing is left that hinders a new start."""
    (tmp_path / "a" / "hold-decode").touch()
    stream = fake.stream("/api/generate", one_token("a"))
    until((tmp_path / "a" / "reached-decode").exists, 20)
    children = children_of(fake.pid)
    fake.process.send_signal(signal.SIGTERM)
    until(lambda: 'msg="stopping"' in fake.log.read_text() or "msg=stopping" in fake.log.read_text())
    started = time.monotonic()
    assert fake.stop(signal.SIGTERM) == 1
    assert time.monotonic() - started < GONE_S
    until(lambda: not any(map(is_alive, children)), GONE_S)
    stream.close()
    assert fake.start(*ADMIN, *FAKE).stop() == 0
    assert list((fake.home / "run").iterdir()) == []


# --- loads and their neighbours -------------------------------------------------------------


def test_a_load_delays_no_other_model(fake: Any, tmp_path: Path) -> None:
    """While one model loads, another one answers; a load that nobody waits for any more is given up."""
    fake.json("POST", "/api/generate", one_token("a"))
    hold = tmp_path / "b" / "hold-load"
    hold.touch()
    waiters = [fake.stream("/api/generate", one_token("b")) for _ in range(2)]
    until((tmp_path / "b" / "reached-load").exists, 20)
    for _ in range(5):
        assert json.loads(fake.request("POST", "/api/generate", one_token("a"))[1])["done"] is True
    assert is_loading(fake, "b")
    waiters[0].close()
    until(lambda: model_status(fake, "b")["waiting"] == 1, FREE_S)
    assert is_loading(fake, "b")
    waiters[1].close()
    until(lambda: model_status(fake, "b") == {}, FREE_S)
    assert len(fake.runners()) == 1
    hold.unlink()
    assert fake.post("/api/generate", one_token("b"))[0] == 200
