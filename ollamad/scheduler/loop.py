"""The one task that owns the scheduler's tables, and what others may ask of it.

Everything that changes the tables is an event in one inbox; `Core` decides, this module carries the
effects out. Nothing here chooses anything. A request holds a `Lease` for as long as it may use a
runner; leaving the ``async with`` in any way (end, error, cancellation) gives it back.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from typing import Any

from ollamad.errors import RunnerDied
from ollamad.scheduler import events as ev
from ollamad.scheduler.clock import Clock, SystemClock, Timer
from ollamad.scheduler.core import Core
from ollamad.scheduler.devices import DeviceWatch
from ollamad.scheduler.explain import explain_load_failure, is_out_of_memory
from ollamad.scheduler.host_memory import read_host_memory
from ollamad.scheduler.lease import Host, Lease, LeaseRequest, LoadedModel, RunnerConnection
from ollamad.scheduler.placement import HostMemory, context_tier, gpus
from ollamad.scheduler.plan import LearnedKey
from ollamad.scheduler.runs import Run
from ollamad.scheduler.settings import SchedulerSettings
from ollamad.scheduler.wish import Wish, default_shift, model_key
from ollamad.types import FOREVER_NS, Device, LoadParameters, Memory, ResolvedModel, Spawn

#: A reading of main memory is good for this long, so that a flood of requests does not read it each time.
HOST_MEMORY_AGE_NS = 250_000_000

#: A runner's counters are for people to look at: one that is too busy to tell them now is left out.
COUNTERS_WAIT_S = 1.0

#: A runner that is told to go has this long; it holds no request's data.
STOP_GRACE_S = 2.0


@dataclass(slots=True)
class _Asked:
    """A request on its way: what it waits for, and since when."""

    granted: asyncio.Future[tuple[ev.GrantLease, RunnerConnection]]
    since_ns: int


class Scheduler:
    """Gives out leases. Start it with `start`, end it with `drain` and `close`.

    Args:
        host: Starts runners.
        spawn: Starts tasks that a supervisor watches.
        devices: Lists the devices of this machine (a probe job); asked at the start and, where there
            are GPUs, after each load and unload.
        learned: What earlier loads took, from the state directory.
        remember: Called with what a load took, to be kept.
    """

    def __init__(
        self,
        host: Host,
        spawn: Spawn,
        settings: SchedulerSettings,
        devices: Callable[[], Awaitable[Sequence[Device]]],
        *,
        clock: Clock | None = None,
        host_memory: Callable[[], HostMemory] = read_host_memory,
        learned: Mapping[LearnedKey, tuple[Memory, ...]] | None = None,
        remember: Callable[[LearnedKey, tuple[Memory, ...]], None] | None = None,
        log: logging.Logger | None = None,
        system: str = "linux",
    ) -> None:
        self._host = host
        self._spawn = spawn
        self._clock: Clock = clock or SystemClock()
        self._host_memory = host_memory
        self._remember = remember
        self._log = log or logging.getLogger("ollamad.scheduler")
        self._core = Core(settings, learned=learned, system=system)
        self._inbox: asyncio.Queue[ev.Event | None] = asyncio.Queue()
        self._asked: dict[str, _Asked] = {}
        self._connections: dict[int, RunnerConnection] = {}
        self._ready_since: dict[int, int] = {}
        self._loads: dict[int, asyncio.Task[Any]] = {}
        self._numbers = itertools.count(1)
        self._timer: Timer | None = None
        self._memory_read_ns: int | None = None
        self._devices = DeviceWatch(devices, self._devices_found, self._clock, host_memory, self._log)
        self._changed = asyncio.Event()
        self._tasks: list[asyncio.Task[Any]] = []
        self._closed = False
        #: Turns of the loop so far; a watchdog sees from it that the loop is alive (see `poke`).
        self.ticks = 0

    # --- life ----------------------------------------------------------------------------

    def start(self) -> None:
        """Begin; needs a running event loop. Devices are probed beside it."""
        self._tasks.append(self._spawn(self._run(), "scheduler"))
        self._tasks.append(self._spawn(self._devices.find(), "scheduler-devices"))

    async def drain(self, timeout_s: float | None = None) -> bool:
        """Take no more requests and wait for those with a slot; False if some were left at the time limit."""
        self._send(ev.DrainAsked(self._now()))
        try:
            async with asyncio.timeout(timeout_s):
                await self._until(lambda: self._core.draining and not self._core.leases)
        except TimeoutError:
            return False
        return True

    async def close(self, timeout_s: float = 10.0) -> None:
        """Let every runner go, busy or not, and end. Safe to call twice."""
        if self._closed:
            return
        self._closed = True
        self._send(ev.StopAsked(self._now()))
        try:
            async with asyncio.timeout(timeout_s):
                await self._until(lambda: self._core.draining and not self._core.runs)
        except TimeoutError:
            self._log.warning("runners did not stop in time", extra={"runs": len(self._core.runs)})
        self._devices.close()
        self._set_timer(None)
        for task in [*self._tasks, *self._loads.values()]:
            task.cancel()
        await asyncio.gather(*self._tasks, *self._loads.values(), return_exceptions=True)

    def poke(self) -> None:
        """Make the loop take a turn, so that `ticks` moves if it is alive."""
        self._inbox.put_nowait(None)

    def apply(self, settings: SchedulerSettings) -> None:
        """Use other settings from the next decision on; what is loaded stays."""
        self._send(ev.SettingsChanged(self._now(), settings))

    # --- requests ------------------------------------------------------------------------

    @asynccontextmanager
    async def lease(self, request: LeaseRequest) -> AsyncIterator[Lease]:
        """Wait for a slot of *request*'s model, loading it if needed.

        Raises:
            QueueFull: Too many wait already.
            ShuttingDown: The daemon drains.
            LoadFailed: The model could not be loaded (`LoadTimedOut`, `OutOfMemory` among them).
        """
        wish = Wish(
            key=model_key(request.model),
            model=request.model,
            load=request.load,
            shift=default_shift(request.model, request.shift),
        )
        request_id = f"{request.context_id}/{next(self._numbers)}"
        asked = _Asked(asyncio.get_running_loop().create_future(), self._now())
        self._asked[request_id] = asked
        self._send(
            ev.RequestArrived(asked.since_ns, request_id, wish, request.keep_alive_ns, request.default_keep_alive_ns)
        )
        try:
            grant, connection = await asked.granted
            yield self._lease(grant, connection, asked)
        finally:
            # One event for both: a waiting request is forgotten, a slot is given back.
            del self._asked[request_id]
            self._send(ev.RequestCancelled(self._now(), request_id))

    def _lease(self, grant: ev.GrantLease, connection: RunnerConnection, asked: _Asked) -> Lease:
        run = self._core.run(grant.run)
        loaded = run.loaded.load if run is not None else LoadParameters(num_ctx=connection.ready.ctx_len)
        now = self._now()
        return Lease(
            connection=connection,
            ready=connection.ready,
            load_ns=now - asked.since_ns,
            slot_wait_ns=max(0, now - max(asked.since_ns, self._ready_since.get(grant.run, now))),
            reload_reason=grant.reason,
            num_ctx=loaded.num_ctx,
            load=loaded,
            report_memory_failure=self._report_memory_failure,
        )

    def _report_memory_failure(self) -> None:
        self._log.warning("runtime OOM detected; expiring loaded models to clear memory before next request")
        self._send(ev.MemoryFailed(self._now()))

    def unload(self, model: ResolvedModel | str) -> None:
        """Let a model (or its key) go as soon as it is idle; nothing happens if it is not loaded."""
        key = model if isinstance(model, str) else model_key(model)
        self._send(ev.UnloadAsked(self._now(), key))

    # --- looking -------------------------------------------------------------------------

    @property
    def default_num_ctx(self) -> int:
        """The context length for this machine's GPUs; 0 while the devices are not known yet."""
        devices = self._core.devices
        if devices is None:
            return 0
        return context_tier(devices, self._core.settings.gpu_overhead_bytes)

    def running(self) -> tuple[LoadedModel, ...]:
        """Models that are ready, latest expiry first."""
        now = self._now()
        ready = [run for run in self._core.runs if run.state == "ready"]
        ready.sort(key=lambda run: run.expires_at_or_estimate(now), reverse=True)
        return tuple(self._view(run, now) for run in ready)

    def _view(self, run: Run, now: int) -> LoadedModel:
        memory = run.ready.memory if run.ready is not None else ()
        sizes = [(m.kind, m.weights_bytes + m.kv_bytes + m.compute_bytes) for m in memory]
        expires = run.expires_at_or_estimate(now)
        return LoadedModel(
            key=run.key,
            model=run.loaded.wish.model,
            memory=memory,
            size_bytes=sum(size for _, size in sizes) or sum(run.use.values()),
            size_vram_bytes=sum(size for kind, size in sizes if kind != "cpu"),
            num_ctx=run.loaded.load.num_ctx,
            slots=run.slots,
            busy=len(run.leases),
            expires_at=None if expires >= FOREVER_NS else self._clock.unix_s() + (expires - now) / 1e9,
            closing=run.closing_at is not None,
        )

    def status(self) -> Mapping[str, Any]:
        """Numbers for people: queue, leases, models with their state, devices."""
        core = self._core
        return {
            "queue": {"waiting": core.waiting, "limit": core.settings.max_queue},
            "leases": core.leases,
            "draining": core.draining,
            "models": [
                {
                    "name": run.loaded.wish.model.short_name,
                    "state": "closing" if run.state == "ready" and run.closing_at is not None else run.state,
                    "slots": run.slots,
                    "busy": len(run.leases),
                    "waiting": len(core.queue(run.key)),
                    "bytes": sum(run.use.values()),
                }
                for run in core.runs
            ],
            "devices": None if core.devices is None else [device.id for device in core.devices],
        }

    async def counters(self) -> list[Mapping[str, Any]]:
        """What each ready runner counted since its start (`wire.messages.Pong`), with the model's name."""
        names = {run.number: run.loaded.wish.model.short_name for run in self._core.runs if run.state == "ready"}
        asked = {number: connection for number, connection in self._connections.items() if number in names}
        answers = await asyncio.gather(*(_counters(connection) for connection in asked.values()))
        return [{"name": names[number], **found} for number, found in zip(asked, answers, strict=True) if found]

    # --- the loop ------------------------------------------------------------------------

    def _now(self) -> int:
        return self._clock.now_ns()

    def _send(self, event: ev.Event) -> None:
        self._inbox.put_nowait(event)

    async def _until(self, holds: Callable[[], bool]) -> None:
        while not holds():
            self._changed.clear()
            await self._changed.wait()

    async def _run(self) -> None:
        while True:
            event = await self._inbox.get()
            self.ticks += 1
            self._notice_ends()
            if event is None:
                continue
            if isinstance(event, ev.RequestArrived):
                self._read_memory(HOST_MEMORY_AGE_NS)
                self._devices.limit_wait(self._core.settings.device_wait_ns)
            elif isinstance(event, ev.RunnerStopped | ev.LoadSucceeded | ev.LoadFailed | ev.DevicesFound):
                self._read_memory(0)
            self._perform(self._core.step(event))
            self._changed.set()

    def _read_memory(self, age_ns: int) -> None:
        now = self._now()
        if self._memory_read_ns is None or now - self._memory_read_ns >= age_ns:
            self._memory_read_ns = now
            self._perform(self._core.step(ev.HostMemoryRead(now, self._host_memory())))

    def _perform(self, effects: Sequence[ev.Effect]) -> None:
        for effect in effects:
            match effect:
                case ev.GrantLease():
                    self._grant(effect)
                case ev.RefuseRequest(request_id=request_id, error=error):
                    self._refuse(request_id, error)
                case ev.StartRunner(run=run):
                    self._loads[run] = self._spawn(self._load(effect), f"load-{run}")
                case ev.AbortLoad(run=run):
                    self._abort(run)
                case ev.StopRunner(run=run, reason=reason):
                    self._spawn(self._stop(run, reason), f"stop-{run}")
                case ev.SetTimer(at=at):
                    self._set_timer(at)
                case ev.RememberMemory(key=key, memory=memory):
                    if self._remember is not None:
                        self._remember(key, memory)

    def _grant(self, grant: ev.GrantLease) -> None:
        asked = self._asked.get(grant.request_id)
        # Without one, the client has just left: its RequestCancelled is in the inbox and frees the slot.
        if asked is not None and not asked.granted.done():
            asked.granted.set_result((grant, self._connections[grant.run]))

    def _refuse(self, request_id: str, error: Exception) -> None:
        asked = self._asked.get(request_id)
        if asked is not None and not asked.granted.done():
            asked.granted.set_exception(error)

    def _set_timer(self, at: int | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if at is not None:
            self._timer = self._clock.call_at(at, lambda: self._send(ev.TimerFired(self._now())))

    # --- runners -------------------------------------------------------------------------

    async def _load(self, start: ev.StartRunner) -> None:
        """Start a runner; exactly one of LoadSucceeded, LoadFailed and RunnerStopped follows."""
        run = self._core.run(start.run)
        assert run is not None, "a run is in the table until this task reports"
        model = run.loaded.wish.model
        self._log.info(
            "loading model",
            extra={
                "model": model.short_name,
                "ctx": start.spec.ctx_len,
                "slots": start.spec.slots,
                "why": start.reason,
            },
        )
        limit_ns = self._core.settings.load_timeout_ns
        if limit_ns >= FOREVER_NS:
            limit_ns = 0
        event: ev.Event
        try:
            connection = await self._host.start(start.spec, stall_timeout_ns=limit_ns)
        except asyncio.CancelledError:
            # Only `AbortLoad` and `close` cancel: the core has to hear that nothing is left.
            event = ev.RunnerStopped(self._now(), start.run)
        except Exception as error:
            failed = explain_load_failure(error, model)
            self._log.error("load failed", extra={"model": model.short_name, "error": str(failed)})
            event = ev.LoadFailed(self._now(), start.run, failed, memory=is_out_of_memory(failed))
        else:
            event = await self._adopt(start.run, connection)
        self._loads.pop(start.run, None)
        self._send(event)
        self._refresh_devices()

    async def _adopt(self, number: int, connection: RunnerConnection) -> ev.Event:
        run = self._core.run(number)
        if run is None or run.state != "loading":
            # Given up in the moment in which it became ready.
            await connection.stop(STOP_GRACE_S)
            return ev.RunnerStopped(self._now(), number)
        self._connections[number] = connection
        self._ready_since[number] = self._now()
        self._spawn(self._watch(connection), f"watch-{number}")
        return ev.LoadSucceeded(self._now(), number, connection.ready)

    def _abort(self, number: int) -> None:
        load = self._loads.get(number)
        if load is not None:
            load.cancel()
        elif number in self._connections:
            # It became ready in this moment; the core will find LoadSucceeded too late and ignore it.
            self._spawn(self._stop(number, "given up"), f"stop-{number}")

    async def _watch(self, connection: RunnerConnection) -> None:
        await connection.closed.wait()
        self.poke()

    def _notice_ends(self) -> None:
        """Take out runners that ended by themselves; one that is told to is `_stop`'s.

        Comes before any other event is looked at: its requests fail in the same moment, and the slots that they
        give back must not be given to those who wait.
        """
        for number, connection in list(self._connections.items()):
            run = self._core.run(number)
            if connection.closed.is_set() and run is not None and run.state == "ready":
                self._log.error(
                    "runner exited", extra={"model": run.loaded.wish.model.short_name, "why": connection.reason}
                )
                self._forget_connection(number)
                self._perform(self._core.step(ev.RunnerExited(self._now(), number)))

    async def _stop(self, number: int, reason: str) -> None:
        connection = self._connections.get(number)
        try:
            if connection is not None:
                self._log.info("unloading model", extra={"run": number, "why": reason})
                await connection.stop(STOP_GRACE_S)
        finally:
            self._forget_connection(number)
            self._send(ev.RunnerStopped(self._now(), number))
        self._refresh_devices()

    def _forget_connection(self, number: int) -> None:
        self._connections.pop(number, None)
        self._ready_since.pop(number, None)

    # --- devices -------------------------------------------------------------------------

    def _devices_found(self, devices: tuple[Device, ...]) -> None:
        self._send(ev.DevicesFound(self._now(), devices))

    def _refresh_devices(self) -> None:
        """Ask GPUs for their free memory again; main memory is read at each decision."""
        if gpus(self._core.devices or ()) and not self._core.draining:
            self._spawn(self._devices.refresh(), "refresh-devices")


async def _counters(connection: RunnerConnection) -> dict[str, Any]:
    """Empty for a runner that ends, or that does not answer in time."""
    try:
        found = asdict(await connection.ping(COUNTERS_WAIT_S))
    except (RunnerDied, TimeoutError):
        return {}
    del found["number"]
    return found
