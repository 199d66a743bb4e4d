"""The scheduler's decisions: events in, effects out. No await, no clock, no log.

Owns the table of runs (at most one per model key) and the queue. What holds after every event:

- a request is waiting, has a lease, or has been answered; never two of these, never none;
- leases of a run are at most its slots, and of one model they are given in order of arrival;
- a model that is loaded serves its own requests whatever else is being loaded or waited for;
- loads start in order of arrival of the first request that needs each; one that has to wait for
  room holds back later loads (else a big model would wait for ever), and nothing but loads;
- a run that is closing takes no request that arrived after the decision: newcomers wait for the
  next load. So an eviction cannot be put off without limit, and who was there first is served first;
- a load is given up when none is left who waits for it.

Source: runtime contract, section Scheduler; design: memory and placement.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import replace

from ollamad.errors import OutOfMemory, QueueFull, ShuttingDown
from ollamad.scheduler import events as ev
from ollamad.scheduler import placement
from ollamad.scheduler.placement import HostMemory
from ollamad.scheduler.plan import LearnedKey, Limits, Machine, NoRoom, Plan, highest, host_bytes, make_plan
from ollamad.scheduler.runs import FIRST_ATTEMPT, Attempt, Run, Waiting, hold_time, victim_order
from ollamad.scheduler.settings import SchedulerSettings
from ollamad.scheduler.wish import Wish, reload_reason
from ollamad.types import FOREVER_NS, Device, Memory


class Core:
    """The state machine. `step` is its only way in; the properties are for looking."""

    def __init__(
        self,
        settings: SchedulerSettings,
        *,
        learned: Mapping[LearnedKey, tuple[Memory, ...]] | None = None,
        system: str = "linux",
    ) -> None:
        self.settings = settings
        self.devices: tuple[Device, ...] | None = None
        self.learned: dict[LearnedKey, tuple[Memory, ...]] = dict(learned or {})
        self.draining = False
        self._system = system
        self._host = HostMemory()
        self._runs: dict[str, Run] = {}
        self._by_number: dict[int, Run] = {}
        self._queues: dict[str, OrderedDict[str, Waiting]] = {}
        self._waiting: dict[str, str] = {}
        self._leases: dict[str, Run] = {}
        self._attempts: dict[str, Attempt] = {}
        self._reload_reasons: dict[str, str] = {}
        self._sequence = 0
        self._last_run = 0
        self._timer: int | None = None
        self._effects: list[ev.Effect] = []

    # --- looking -------------------------------------------------------------------------

    @property
    def runs(self) -> tuple[Run, ...]:
        """Every run that still has a process: loading, ready and stopping ones."""
        return tuple(self._runs.values())

    @property
    def waiting(self) -> int:
        """Admitted requests without a slot, over all models."""
        return len(self._waiting)

    @property
    def leases(self) -> int:
        """Requests that have a slot."""
        return len(self._leases)

    def run(self, number: int) -> Run | None:
        """A run by its number, while it has a process."""
        return self._by_number.get(number)

    def queue(self, key: str) -> tuple[str, ...]:
        """Who waits for this model, in order."""
        return tuple(self._queues.get(key, ()))

    # --- events --------------------------------------------------------------------------

    def step(self, event: ev.Event) -> list[ev.Effect]:
        """Take one event; return what has to be done now, in order."""
        self._effects = []
        self._take(event)
        self._advance(event.now)
        return self._effects

    def _take(self, event: ev.Event) -> None:
        match event:
            case ev.RequestArrived():
                self._arrive(event)
            case ev.RequestCancelled(request_id=request_id):
                self._cancel(request_id)
            case ev.LeaseReleased(request_id=request_id):
                self._release(request_id)
            case ev.LoadSucceeded():
                self._loaded(event)
            case ev.LoadFailed():
                self._load_failed(event)
            case ev.RunnerExited(run=number):
                self._exited(number)
            case ev.RunnerStopped(run=number):
                self._remove(self._by_number.get(number))
            case ev.MemoryFailed():
                for run in self._ready():
                    self._close(run, self._sequence, "out of memory")
            case ev.UnloadAsked(key=key):
                self._unload(key)
            case ev.DrainAsked():
                self._drain()
            case ev.StopAsked():
                self._drain()
                for run in self._ready():
                    self._stop(run, "shutdown")
            case ev.DevicesFound(devices=devices):
                self.devices = devices
            case ev.HostMemoryRead(memory=memory):
                self._host = memory
            case ev.SettingsChanged(settings=settings):
                self.settings = settings
            case ev.TimerFired():
                self._timer = None

    def _arrive(self, event: ev.RequestArrived) -> None:
        if self.draining:
            self._refuse(event.request_id, ShuttingDown())
            return
        self._sequence += 1
        waiting = Waiting(
            event.request_id, event.wish, self._sequence, event.keep_alive_ns, event.default_keep_alive_ns
        )
        key = event.wish.key
        run = self._runs.get(key)
        if run is not None and key not in self._queues and self._can_take(run, waiting):
            self._grant(run, waiting)
        elif len(self._waiting) < self.settings.max_queue or self._starts_at_once(run):
            self._queues.setdefault(key, OrderedDict())[event.request_id] = waiting
            self._waiting[event.request_id] = key
        else:
            self._refuse(event.request_id, QueueFull(waiting=self.waiting, limit=self.settings.max_queue))

    def _starts_at_once(self, run: Run | None) -> bool:
        """With a queue of 0 the request that makes a model load is let in, or none would ever load."""
        if self.settings.max_queue > 0 or self._waiting:
            return False
        return run is None or run.state == "stopping" or (run.state == "ready" and not run.leases)

    def _cancel(self, request_id: str) -> None:
        key = self._waiting.get(request_id)
        if key is None:
            self._release(request_id)
            return
        self._forget(key, request_id)
        run = self._runs.get(key)
        if run is not None and run.state == "loading" and not self._is_awaited(run):
            self._abort(run)

    def _release(self, request_id: str) -> None:
        run = self._leases.pop(request_id, None)
        if run is not None:
            del run.leases[request_id]

    def _loaded(self, event: ev.LoadSucceeded) -> None:
        run = self._by_number.get(event.run)
        if run is None or run.state != "loading":
            return
        ready = event.ready
        run.state = "ready"
        run.ready = ready
        run.ready_sequence = self._sequence
        run.slots = max(1, ready.slots or run.slots)
        load = run.loaded.load
        granted = min(load.num_ctx, ready.ctx_len) if ready.ctx_len > 0 else load.num_ctx
        run.loaded = replace(run.loaded, load=replace(load, num_ctx=granted), n_ctx_train=ready.n_ctx_train)
        self._attempts.pop(run.key, None)
        self._reload_reasons.pop(run.key, None)
        if ready.memory:
            run.use = _bytes_by_device(ready.memory)
            peak = highest(self.learned.get(run.learned_key, ()), ready.memory)
            self.learned[run.learned_key] = peak
            self._effects.append(ev.RememberMemory(run.learned_key, peak))
            self._shed(run)

    def _shed(self, new: Run) -> None:
        """Let idle models go while more is taken than the configured budget: estimates can be too low."""
        budget = self.settings.memory_budget_bytes
        idle = [run for run in victim_order(self._ready()) if run is not new and run.is_idle]
        over = self._host_bytes(self._used()) - budget
        for run in idle if budget else ():
            if over <= 0:
                break
            over -= self._host_bytes(run.use)
            self._close(run, self._sequence, "memory budget")

    def _load_failed(self, event: ev.LoadFailed) -> None:
        run = self._by_number.get(event.run)
        if run is None:
            return
        self._remove(run)
        if run.state == "stopping":
            return
        if event.memory and self._retry_with_less(run):
            return
        error = self._with_holders(event.error, run) if event.memory else event.error
        self._refuse_waiting(run.key, run.loaded.wish, error)

    def _with_holders(self, error: Exception, failed: Run) -> Exception:
        """Say how much a load that found no memory was to take, and which loaded models hold how much."""
        holders = [f"{run.loaded.wish.model.short_name} {sum(run.use.values())} bytes" for run in self.runs]
        needed = f"needs about {sum(failed.use.values())} bytes"
        return OutOfMemory(f"{error} ({needed}; in use: {', '.join(holders) or 'nothing'})")

    def _retry_with_less(self, run: Run) -> bool:
        attempt = self._attempts.get(run.key, FIRST_ATTEMPT)
        if attempt.retried:
            return False
        load = run.loaded.load
        lower = placement.lower_tier(load.num_ctx) if load.num_ctx_automatic else None
        fewer = 1 if self.settings.num_parallel is None and run.slots > 1 else None
        if lower is None and fewer is None and not self._runs:
            return False
        limits = Limits(num_ctx=lower, slots=fewer)
        self._attempts[run.key] = Attempt(retried=True, limits=limits, alone=bool(self._runs))
        return True

    def _exited(self, number: int) -> None:
        run = self._by_number.get(number)
        if run is not None and run.state == "ready":
            self._remove(run)
            self._reload_reasons[run.key] = "runner exited"

    def _unload(self, key: str) -> None:
        run = self._runs.get(key)
        if run is not None and run.state != "stopping":
            run.hold_ns = 0
            self._close(run, self._sequence, "unload asked")

    def _drain(self) -> None:
        self.draining = True
        for request_id, key in list(self._waiting.items()):
            self._forget(key, request_id)
            self._refuse(request_id, ShuttingDown())
        for run in self.runs:
            if run.state == "loading":
                self._abort(run)

    # --- deciding ------------------------------------------------------------------------

    def _advance(self, now: int) -> None:
        """Do all that the tables allow; nothing more is possible afterwards without another event."""
        for key in tuple(self._queues):
            self._serve(key)
        for run in self._ready():
            self._settle(run, now)
        self._start_loads()
        for run in self._ready():
            self._settle(run, now)
        self._set_timer()

    def _serve(self, key: str) -> None:
        """Give free slots of a ready run to its queue, in order."""
        run = self._runs.get(key)
        if run is None:
            return
        while key in self._queues and run.state == "ready":
            head = next(iter(self._queues[key].values()))
            if self._can_take(run, head):
                self._forget(key, head.request_id)
                self._grant(run, head)
                continue
            reason = None if run.closing_at is not None else reload_reason(run.loaded, head.wish)
            if reason is not None:
                self._reload_reasons[key] = reason
                self._close(run, head.sequence - 1, f"{reason} differs")
            return

    def _can_take(self, run: Run, waiting: Waiting) -> bool:
        return (
            run.state == "ready"
            and len(run.leases) < run.slots
            and (run.closing_at is None or waiting.sequence <= run.closing_at)
            and reload_reason(run.loaded, waiting.wish) is None
        )

    def _grant(self, run: Run, waiting: Waiting) -> None:
        run.leases[waiting.request_id] = None
        run.expires_at = None
        if waiting.keep_alive_ns is not None and run.closing_at is None:
            run.hold_ns = hold_time(waiting.keep_alive_ns)
        self._leases[waiting.request_id] = run
        reason = run.reason if waiting.sequence <= run.ready_sequence else ""
        self._effects.append(ev.GrantLease(waiting.request_id, run.number, reason))

    def _settle(self, run: Run, now: int) -> None:
        """Start, or end, the time that an idle run is kept."""
        if run.leases:
            return
        if run.expires_at is None:
            run.expires_at = now + run.hold_ns if run.hold_ns < FOREVER_NS else FOREVER_NS
        if run.closing_at is not None:
            self._stop(run, run.closing_reason)
        elif run.expires_at <= now:
            self._stop(run, "expired")

    def _start_loads(self) -> None:
        """Start all loads that may start now; each try changes what is possible for the others."""
        while self.devices is not None:
            loading = sum(run.state == "loading" for run in self.runs)
            head = self._next_to_load() if loading < max(1, self.settings.max_loading) else None
            if head is None or not self._place(head):
                return

    def _next_to_load(self) -> Waiting | None:
        """The first request, in order of arrival, that waits for a load; None while its last runner is leaving."""
        heads = [next(iter(queue.values())) for queue in self._queues.values()]
        states = {key: run.state for key, run in self._runs.items()}
        loads = [head for head in heads if states.get(head.wish.key, "stopping") == "stopping"]
        first = min(loads, key=lambda head: head.sequence, default=None)
        return first if first is not None and first.wish.key not in states else None

    def _place(self, head: Waiting) -> bool:
        """Start the load that a request needs, or refuse it (True), or make room for it (False: it has to wait)."""
        key, wish = head.wish.key, head.wish
        attempt = self._attempts.get(key, FIRST_ATTEMPT)
        staying = [run for run in self.runs if run.state != "stopping" and run.closing_at is None]
        if attempt.alone and self._runs:
            for run in self._ready():
                self._close(run, head.sequence - 1, "memory for another model")
            return False
        if len(self._runs) >= self._most_loaded():
            if len(staying) >= self._most_loaded():
                self._evict(staying, head.sequence)
            return False
        try:
            plan = self._plan(wish, attempt, self.runs)
            if isinstance(plan, NoRoom) and isinstance(self._plan(wish, attempt, staying), NoRoom):
                self._evict([run for run in staying if plan.devices & run.use.keys()] or staying, head.sequence)
        except OutOfMemory as error:
            self._refuse_waiting(key, wish, error)
            return True
        if isinstance(plan, NoRoom):
            return False
        self._start(key, head, plan)
        return True

    def _plan(self, wish: Wish, attempt: Attempt, runs: Iterable[Run]) -> Plan | NoRoom:
        """A plan as if *runs* were all that is there."""
        runs = tuple(runs)
        used = self._used(runs)
        # What a load in progress is going to take is not missing from free memory yet.
        promised = sum(self._host_bytes(run.use) for run in runs if run.state == "loading")
        gone = self._host_bytes(self._used()) - self._host_bytes(used)
        host = HostMemory(self._host.total_bytes, max(0, self._host.free_bytes + gone - promised))
        machine = Machine(
            devices=self.devices or (),
            host=host,
            used=used,
            mapped_bytes=sum(run.mapped_bytes for run in runs),
            others_loaded=bool(runs),
            system=self._system,
        )
        return make_plan(wish, self.settings, machine, limits=attempt.limits, learned=self.learned)

    def _start(self, key: str, head: Waiting, plan: Plan) -> None:
        self._last_run += 1
        reason = self._reload_reasons.get(key, "")
        default = head.default_keep_alive_ns
        hold_ns = hold_time(self.settings.keep_alive_ns if default is None else default)
        run = Run(self._last_run, key, plan, hold_ns=hold_ns, reason=reason)
        self._runs[key] = self._by_number[run.number] = run
        self._effects.append(ev.StartRunner(run.number, key, plan.spec, reason))

    def _most_loaded(self) -> int:
        gpus = len(placement.gpus(self.devices or ()))
        return self.settings.max_loaded_models or 3 * max(gpus, 1)

    def _evict(self, runs: Iterable[Run], sequence: int) -> None:
        """Choose who goes for the request with this number: idle before busy, shortest hold time first."""
        ready = victim_order(run for run in runs if run.state == "ready")
        if ready:
            self._close(next((run for run in ready if run.is_idle), ready[0]), sequence - 1, "evicted")

    # --- tables --------------------------------------------------------------------------

    def _ready(self) -> list[Run]:
        return [run for run in self._runs.values() if run.state == "ready"]

    def _used(self, runs: Iterable[Run] | None = None) -> dict[str, int]:
        used: dict[str, int] = {}
        for run in self.runs if runs is None else runs:
            for device, size in run.use.items():
                used[device] = used.get(device, 0) + size
        return used

    def _host_bytes(self, use: Mapping[str, int]) -> int:
        return host_bytes(use, self.devices or ())

    def _is_awaited(self, run: Run) -> bool:
        return any(
            (run.closing_at is None or waiting.sequence <= run.closing_at)
            and reload_reason(run.loaded, waiting.wish) is None
            for waiting in self._queues.get(run.key, {}).values()
        )

    def _close(self, run: Run, last: int, reason: str) -> None:
        """Let a run go once idle; of those waiting, the ones up to number *last* are still served."""
        if run.closing_at is None or last < run.closing_at:
            run.closing_at = last
            run.closing_reason = reason

    def _stop(self, run: Run, reason: str) -> None:
        for request_id in run.leases:
            self._leases.pop(request_id, None)
        run.leases.clear()
        run.state = "stopping"
        self._effects.append(ev.StopRunner(run.number, reason))

    def _abort(self, run: Run) -> None:
        run.state = "stopping"
        self._effects.append(ev.AbortLoad(run.number))

    def _remove(self, run: Run | None) -> None:
        if run is None:
            return
        for request_id in run.leases:
            self._leases.pop(request_id, None)
        self._runs.pop(run.key, None)
        del self._by_number[run.number]
        if run.key not in self._queues:
            self._attempts.pop(run.key, None)

    def _forget(self, key: str, request_id: str) -> None:
        queue = self._queues[key]
        del queue[request_id]
        del self._waiting[request_id]
        if not queue:
            del self._queues[key]
            if key not in self._runs:
                self._attempts.pop(key, None)
                self._reload_reasons.pop(key, None)

    def _refuse_waiting(self, key: str, wish: Wish, error: Exception) -> None:
        """Refuse all who wait for the same load; who wants the model otherwise may fare better."""
        self._attempts.pop(key, None)
        for waiting in list(self._queues.get(key, {}).values()):
            if waiting.wish.load == wish.load and waiting.wish.shift == wish.shift:
                self._forget(key, waiting.request_id)
                self._refuse(waiting.request_id, error)

    def _refuse(self, request_id: str, error: Exception) -> None:
        self._effects.append(ev.RefuseRequest(request_id, error))

    def _set_timer(self) -> None:
        times = [run.expires_at for run in self._ready() if run.expires_at is not None and run.expires_at < FOREVER_NS]
        at = min(times, default=None)
        if at != self._timer:
            self._timer = at
            self._effects.append(ev.SetTimer(at))


def _bytes_by_device(memory: Iterable[Memory]) -> dict[str, int]:
    use: dict[str, int] = {}
    for part in memory:
        use[part.device_id] = use.get(part.device_id, 0) + part.weights_bytes + part.kv_bytes + part.compute_bytes
    return use
