"""A host whose runners are scripted, and tasks that report their exceptions."""

import asyncio
import os
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
from own_children import own_children

from ollamad.runner.connection import Connection
from ollamad.runner.host import RunnerHost
from ollamad.runner.stream import Limits
from ollamad.types import Spawn
from ollamad.wire.messages import Generate, LoadSpec

HERE = Path(__file__).parent


class Hosts:
    """Makes hosts, and ends what they started."""

    def __init__(self, spawn: Spawn, store: Path) -> None:
        self._spawn = spawn
        self._store = store
        self.connections: list[Connection] = []

    def make(
        self,
        *,
        limits: Limits | None = None,
        beat_s: float = 5.0,
        interpreters: dict[str, str] | None = None,
        **environment: str,
    ) -> RunnerHost:
        return RunnerHost(
            self._spawn,
            self._store,
            environment={"PATH": os.environ["PATH"], "PYTHONPATH": str(HERE), **environment},
            interpreters=interpreters,
            limits=limits,
            beat_s=beat_s,
            module="scripted_runner",
        )

    async def start(self, how: str = "ok", *, limits: Limits | None = None, beat_s: float = 5.0) -> Connection:
        connection = await self.make(limits=limits, beat_s=beat_s).start(
            LoadSpec(how, ()), stall_timeout_ns=10_000_000_000
        )
        self.connections.append(connection)
        return connection

    @staticmethod
    async def until(holds: Callable[[], bool], timeout_s: float = 5.0) -> None:
        """Poll without holding the loop."""
        deadline = time.monotonic() + timeout_s
        while not holds():
            assert time.monotonic() < deadline, "took too long"
            await asyncio.to_thread(os.sched_yield)

    @staticmethod
    def children() -> list[int]:
        """Process ids of our children that are not yet reaped."""
        return own_children()


@pytest.fixture
async def spawn() -> AsyncIterator[Spawn]:
    tasks: list[asyncio.Task[Any]] = []

    def start(work: Coroutine[Any, Any, Any], name: str) -> asyncio.Task[Any]:
        task = asyncio.get_running_loop().create_task(work, name=name)
        tasks.append(task)
        return task

    yield start
    async with asyncio.timeout(5):
        await asyncio.gather(*tasks)


@pytest.fixture
async def hosts(spawn: Spawn, tmp_path: Path) -> AsyncIterator[Hosts]:
    made = Hosts(spawn, tmp_path)
    yield made
    for connection in made.connections:
        await connection.stop()


@pytest.fixture
def submit() -> Callable[..., Any]:
    def send(connection: Connection, prompt: str, request_id: str = "r1") -> Any:
        return connection.submit(request_id, Generate(prompt))

    return send
