"""The real child of a runner, over the fake backend: what the scripted one cannot show."""

import asyncio
import hashlib
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from ollamad.errors import LoadFailed, LoadTimedOut, OutOfMemory, RunnerDied, RunnerFailed
from ollamad.runner.connection import Connection
from ollamad.runner.host import RunnerHost
from ollamad.testing.fake_file import write_fake_model
from ollamad.types import SamplingParameters, Spawn, WeightsRef
from ollamad.wire.messages import Delta, Done, Generate, LoadSpec

SECOND = 1_000_000_000


class Engine:
    """A store with one fake model, a folder of gates, and a host."""

    def __init__(self, spawn: Spawn, folder: Path) -> None:
        self.gates = folder / "gates"
        self.gates.mkdir()
        (folder / "blobs").mkdir()
        path = write_fake_model(folder / "model", end_every=0)
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        size = path.stat().st_size
        path.rename(folder / "blobs" / f"sha256-{digest}")
        self.spec = LoadSpec("fake", (WeightsRef(f"sha256:{digest}", size),), ctx_len=256, slots=2, step_ms=50)
        self.host = RunnerHost(
            spawn,
            folder,
            ["ollamad.testing.fake_backend:plugin"],
            environment={"PATH": os.environ["PATH"], "FAKE_GATE_DIR": str(self.gates)},
        )
        self.connections: list[Connection] = []

    async def start(self, **more: Any) -> Connection:
        connection = await self.host.start(self.spec, **more)
        self.connections.append(connection)
        return connection

    def gate(self, name: str, text: str = "") -> Path:
        path = self.gates / name
        path.write_text(text)
        return path

    def reached(self, point: str) -> bool:
        return (self.gates / f"reached-{point}").exists()


@pytest.fixture
async def engine(spawn: Spawn, tmp_path: Path) -> AsyncIterator[Engine]:
    made = Engine(spawn, tmp_path)
    yield made
    for connection in made.connections:
        await connection.stop()


def generate(count: int, prompt: str = "hello") -> Generate:
    return Generate(prompt, parameters=SamplingParameters(num_predict=count))


async def events_of(stream: Any) -> list[Delta | Done]:
    return [event async for event in stream]


async def test_a_model_loads_answers_and_goes(engine: Engine, hosts: Any) -> None:
    """Load, two requests at once, counters, a graceful stop."""
    connection = await engine.start()
    assert (connection.ready.slots, connection.ready.ctx_len) == (2, 256)
    streams = [connection.submit(name, generate(20, name)) for name in "ab"]
    for stream in streams:
        done = (await events_of(stream))[-1]
        assert isinstance(done, Done)
        assert (done.reason, done.timings.generated_tokens) == ("length", 20)
    assert (await connection.ping()).decoded_tokens >= 38
    await connection.stop(5.0)
    assert connection.reason == "stopped"
    assert hosts.children() == []


@pytest.mark.parametrize(
    ("gate", "kind", "permanent", "text"),
    [
        ("reject-load", LoadFailed, True, "llama-server process has terminated: exit status 3: not a model"),
        ("oom-load", OutOfMemory, False, "llama-server reported out-of-memory during startup: not a model"),
        ("crash-load", LoadFailed, False, "llama-server process has terminated: exit status 9"),
    ],
)
async def test_a_load_that_fails(
    engine: Engine, hosts: Any, gate: str, kind: type[LoadFailed], permanent: bool, text: str
) -> None:
    """What the backend says of a load reaches the caller as its own error."""
    engine.gate(gate, "not a model")
    with pytest.raises(LoadFailed) as caught:
        await engine.start()
    assert (type(caught.value), caught.value.permanent, str(caught.value)) == (kind, permanent, text)
    assert hosts.children() == []


@pytest.mark.parametrize("signum", [signal.SIGKILL, signal.SIGSTOP])
async def test_a_runner_killed_or_stopped_in_a_load(engine: Engine, hosts: Any, signum: int) -> None:
    """kill -9 ends the load at once, SIGSTOP after the stall time-out."""
    engine.gate("hold-load")
    stall_timeout_ns = 3 * SECOND // 2 if signum == signal.SIGSTOP else None
    load = asyncio.get_running_loop().create_task(engine.start(stall_timeout_ns=stall_timeout_ns))
    await hosts.until(lambda: engine.reached("load"))
    (pid,) = hosts.children()
    os.kill(pid, signum)
    with pytest.raises(LoadFailed) as caught:
        await load
    assert isinstance(caught.value, LoadTimedOut) == (signum == signal.SIGSTOP)
    assert hosts.children() == []


@pytest.mark.parametrize("phase", ["prefill", "decode"])
async def test_a_runner_killed_with_requests(engine: Engine, hosts: Any, phase: str) -> None:
    """kill -9 in prefill or decode fails the requests of this runner; a new one loads."""
    connection = await engine.start()
    if phase == "prefill":
        engine.gate("hold-decode")
    stream = connection.submit("a", generate(-1))
    if phase == "prefill":
        await hosts.until(lambda: engine.reached("decode"))
    else:
        assert isinstance(await anext(stream), Delta)
    os.kill(hosts.children()[0], signal.SIGKILL)
    with pytest.raises(RunnerDied, match="signal: killed"):
        await events_of(stream)
    (engine.gates / "hold-decode").unlink(missing_ok=True)
    again = await engine.start()
    assert len(await events_of(again.submit("a", generate(3)))) > 1


async def test_an_engine_that_breaks_says_why(engine: Engine) -> None:
    """A backend that fails in a step ends the runner, with its words in the error of every request."""
    connection = await engine.start()
    engine.gate("fail-decode", "the device is lost")
    with pytest.raises(RunnerFailed, match="the device is lost"):
        await events_of(connection.submit("a", generate(3)))
    async with asyncio.timeout(5):
        await connection.closed.wait()


async def test_a_cancel_frees_its_slot(engine: Engine, hosts: Any) -> None:
    """A stream that is closed leaves the engine within a step."""
    connection = await engine.start()
    for number in range(6):
        stream = connection.submit(f"left-{number}", generate(-1))
        assert isinstance(await anext(stream), Delta)
        await stream.aclose()
    assert len(await events_of(connection.submit("seventh", generate(5)))) > 1
    async with asyncio.timeout(5):
        while (await connection.ping()).running:
            pass
