"""Models, devices and a driven core for the tests of the scheduler."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from typing import Any

import pytest

from ollamad.scheduler import events as ev
from ollamad.scheduler.core import Core
from ollamad.scheduler.lease import LeaseRequest
from ollamad.scheduler.loop import Scheduler
from ollamad.scheduler.placement import HostMemory
from ollamad.scheduler.settings import SchedulerSettings
from ollamad.scheduler.wish import Wish, model_key
from ollamad.types import (
    Device,
    LoadParameters,
    Memory,
    ModelConfig,
    ModelFacts,
    ModelName,
    ResolvedModel,
    WeightsRef,
)
from ollamad.wire.messages import LoadSpec, Ready

GB = 10**9
SECOND = 10**9


def make_model(name: str = "a", size_bytes: int = 1000, **changes: Any) -> ResolvedModel:
    """A model whose keys and values take no memory unless its facts say so."""
    facts = changes.pop("facts", ModelFacts(architecture="llama"))
    model = ResolvedModel(
        requested=name,
        name=ModelName("registry.ollama.ai", "library", name, "latest"),
        short_name=f"{name}:latest",
        digest=f"manifest-{name}",
        weights=(WeightsRef(f"sha256:{name}", size_bytes),),
        config=ModelConfig(model_family="llama"),
        facts=facts,
        capabilities=("completion",),
    )
    return replace(model, **changes)


def make_wish(name: str = "a", size_bytes: int = 1000, *, shift: bool = True, load: Any = None, **changes: Any) -> Wish:
    model = make_model(name, size_bytes, **changes)
    return Wish(model_key(model), model, load or LoadParameters(), shift)


def cpu(total: int = 100 * GB, free: int | None = None) -> Device:
    return Device("cpu", "cpu", "CPU", total, total if free is None else free)


def gpu(number: int = 0, total: int = 24 * GB, free: int | None = None, kind: str = "cuda", **changes: Any) -> Device:
    return Device(f"{kind}{number}", kind, kind, total, total if free is None else free, **changes)


class Harness:
    """A core, the effects so far, and short ways to say what happened."""

    def __init__(self, devices: tuple[Device, ...] = (cpu(),), **settings: Any) -> None:
        settings.setdefault("num_parallel", 1)
        self.core = Core(SchedulerSettings(**settings))
        self.now = 0
        self.effects: list[ev.Effect] = []
        self.host = HostMemory(100 * GB, 100 * GB)
        self.send(ev.HostMemoryRead(self.now, self.host))
        if devices:
            self.send(ev.DevicesFound(self.now, devices))

    def send(self, event: ev.Event) -> list[ev.Effect]:
        new = self.core.step(event)
        self.effects += new
        return new

    def ask(self, request_id: str, wish: Wish, keep_alive_ns: int | None = None) -> list[ev.Effect]:
        return self.send(ev.RequestArrived(self.now, request_id, wish, keep_alive_ns))

    def release(self, request_id: str) -> list[ev.Effect]:
        return self.send(ev.LeaseReleased(self.now, request_id))

    def cancel(self, request_id: str) -> list[ev.Effect]:
        return self.send(ev.RequestCancelled(self.now, request_id))

    def run_of(self, name: str) -> Any:
        return next(run for run in self.core.runs if run.loaded.wish.model.requested == name)

    def loaded(self, name: str, *, size: int | None = None, device: str = "cpu", **ready: Any) -> list[ev.Effect]:
        """The load of this model ends well, with as many bytes as expected unless *size* says otherwise."""
        run = self.run_of(name)
        kind = device.rstrip("0123456789")
        memory = () if size is None else (Memory(device, kind, size, 0, 0),)
        values = {"ctx_len": run.spec.ctx_len, "slots": run.spec.slots, "n_batch": 512, "n_ctx_train": 0, **ready}
        made = Ready(
            memory=memory, n_vocab=1, n_embd=1, has_chat_template=False, adds_bos=False, adds_eos=False, **values
        )
        return self.send(ev.LoadSucceeded(self.now, run.number, made))

    def failed(self, name: str, text: str, *, memory: bool = False) -> list[ev.Effect]:
        return self.send(ev.LoadFailed(self.now, self.run_of(name).number, RuntimeError(text), memory))

    def stopped(self, name: str) -> list[ev.Effect]:
        return self.send(ev.RunnerStopped(self.now, self.run_of(name).number))

    def serve(self, request_id: str, wish: Wish, **how: Any) -> None:
        """The request loads its model and gets a slot."""
        self.ask(request_id, wish)
        self.loaded(wish.model.requested, **how)

    def pass_time(self, ns: int) -> list[ev.Effect]:
        self.now += ns
        return self.send(ev.TimerFired(self.now))

    @property
    def granted(self) -> list[str]:
        return [effect.request_id for effect in self.effects if isinstance(effect, ev.GrantLease)]

    @property
    def refused(self) -> dict[str, Exception]:
        return {effect.request_id: effect.error for effect in self.effects if isinstance(effect, ev.RefuseRequest)}

    @property
    def started(self) -> list[ev.StartRunner]:
        return [effect for effect in self.effects if isinstance(effect, ev.StartRunner)]

    def states(self) -> dict[str, str]:
        return {run.loaded.wish.model.requested: run.state for run in self.core.runs}


@pytest.fixture(scope="session")
def harness() -> Callable[..., Harness]:
    return Harness


@pytest.fixture(scope="session")
def wish() -> Callable[..., Wish]:
    return make_wish


@pytest.fixture(scope="session")
def model() -> Callable[..., ResolvedModel]:
    return make_model


@pytest.fixture(scope="session")
def a_gpu() -> Callable[..., Device]:
    return gpu


@pytest.fixture(scope="session")
def a_cpu() -> Callable[..., Device]:
    return cpu


class FakeClock:
    """Time that passes when a test says so."""

    def __init__(self) -> None:
        self.now = 0
        self.calls: list[FakeTimer] = []

    def now_ns(self) -> int:
        return self.now

    def unix_s(self) -> float:
        return 1_000_000.0 + self.now / 1e9

    def call_at(self, at_ns: int, callback: Callable[[], None]) -> FakeTimer:
        timer = FakeTimer(at_ns, callback)
        self.calls.append(timer)
        return timer

    def pass_time(self, ns: int) -> None:
        self.now += ns
        due = [timer for timer in self.calls if timer.at_ns <= self.now]
        self.calls = [timer for timer in self.calls if timer.at_ns > self.now]
        for timer in due:
            if not timer.cancelled:
                timer.callback()


class FakeTimer:
    def __init__(self, at_ns: int, callback: Callable[[], None]) -> None:
        self.at_ns = at_ns
        self.callback = callback
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True


class FakeConnection:
    """A runner that is ready; it dies when a test says so and stops when it may."""

    def __init__(self, spec: LoadSpec, stop_gate: asyncio.Event, memory: tuple[Memory, ...] = ()) -> None:
        self.ready = Ready(
            memory=memory,
            ctx_len=spec.ctx_len,
            slots=spec.slots,
            n_batch=spec.n_batch,
            n_ctx_train=0,
            n_vocab=1,
            n_embd=1,
            has_chat_template=False,
            adds_bos=False,
            adds_eos=False,
        )
        self.closed = asyncio.Event()
        self.reason = ""
        self.stop_gate = stop_gate

    def submit(self, request_id: str, task: Any) -> Any:
        raise NotImplementedError

    async def stop(self, grace_s: float) -> None:
        await self.stop_gate.wait()
        self.closed.set()

    def die(self, reason: str) -> None:
        self.reason = reason
        self.closed.set()


class FakeHost:
    """Starts runners when their gate opens; ``errors`` are raised instead, in order."""

    def __init__(self) -> None:
        self.gate = asyncio.Event()
        self.gate.set()
        self.stop_gate = asyncio.Event()
        self.stop_gate.set()
        self.specs: list[LoadSpec] = []
        self.connections: list[FakeConnection] = []
        self.errors: list[Exception] = []
        self.cancelled = 0
        self.limits: list[int | None] = []
        self.memory: tuple[Memory, ...] = ()
        self.dies_ready = False

    async def start(self, spec: LoadSpec, *, stall_timeout_ns: int | None = None) -> FakeConnection:
        self.specs.append(spec)
        self.limits.append(stall_timeout_ns)
        try:
            await self.gate.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        if self.errors:
            raise self.errors.pop(0)
        self.connections.append(FakeConnection(spec, self.stop_gate, self.memory))
        if self.dies_ready:
            self.connections[-1].die("killed")
        return self.connections[-1]


class Rig:
    """A scheduler with fakes around it."""

    def __init__(self, **settings: Any) -> None:
        settings.setdefault("num_parallel", 1)
        self.settings = SchedulerSettings(**settings)
        self.clock = FakeClock()
        self.host = FakeHost()
        self.devices: asyncio.Future[tuple[Device, ...]] = asyncio.get_running_loop().create_future()
        self.probes = 0
        self.learned: list[Any] = []
        self.tasks: list[asyncio.Task[Any]] = []
        self.scheduler = Scheduler(
            self.host,
            self.spawn,
            self.settings,
            self.probe,
            clock=self.clock,
            host_memory=lambda: HostMemory(100 * GB, 100 * GB),
            remember=lambda key, memory: self.learned.append((key, memory)),
        )

    def spawn(self, coroutine: Any, name: str) -> asyncio.Task[Any]:
        task = asyncio.get_running_loop().create_task(coroutine, name=name)
        self.tasks.append(task)
        return task

    async def probe(self) -> tuple[Device, ...]:
        self.probes += 1
        return await asyncio.shield(self.devices)

    def start(self, *devices: Device) -> None:
        self.devices.set_result(devices or (cpu(),))
        self.scheduler.start()

    def lease(self, name: str = "a", request_id: str = "r", **changes: Any) -> Any:
        load = changes.pop("load", LoadParameters())
        keep = changes.pop("keep_alive_ns", None)
        return self.scheduler.lease(LeaseRequest(request_id, make_model(name, **changes), load, keep))

    def hold(self, name: str = "a", **changes: Any) -> Held:
        """A request in a task of its own, which keeps its lease until it is told to leave."""
        return Held(self, name, changes)

    async def until(self, holds: Callable[[], Any]) -> None:
        """Let the loop run until something holds; a bound on turns stands for a time limit."""
        for _ in range(2000):
            if holds():
                return
            await asyncio.sleep(0)
        raise AssertionError("it does not come to hold")

    def names(self) -> list[str]:
        return [loaded.model.requested for loaded in self.scheduler.running()]


class Held:
    def __init__(self, rig: Rig, name: str, changes: dict[str, Any]) -> None:
        self.leave = asyncio.Event()
        self.got: Any = None
        self.task = rig.spawn(self._hold(rig.lease(name, **changes)), "client")

    async def _hold(self, lease: Any) -> None:
        async with lease as self.got:
            await self.leave.wait()


@pytest.fixture
async def rig() -> AsyncIterator[Callable[..., Rig]]:
    rigs: list[Rig] = []

    def make(**settings: Any) -> Rig:
        rigs.append(Rig(**settings))
        return rigs[-1]

    yield make
    for one in rigs:
        one.host.stop_gate.set()
        await one.scheduler.close()
        for task in one.tasks:
            task.cancel()
        await asyncio.gather(*one.tasks, return_exceptions=True)
