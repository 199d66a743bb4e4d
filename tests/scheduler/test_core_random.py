"""The core under 10^5 random events: what it promises holds after each of them, and everything ends."""

from __future__ import annotations

import random
from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from ollamad.scheduler import events as ev
from ollamad.types import LoadParameters

EVENTS = 1750
EXAMPLES = 100
MODELS = {"a": 100, "b": 250, "c": 400, "d": 700, "e": 990, "f": 1500}


class World:
    """Runners and clients around a core: carries effects out late and in any order, and checks every one."""

    def __init__(self, h, wish, seed: int) -> None:
        self.random = random.Random(seed)
        self.h = h
        self.wish = wish
        self.count = 0
        self.waiting: dict[str, str] = {}  # in order of arrival: request -> key
        self.leased: dict[str, int] = {}
        self.answered: set[str] = set()
        self.loading: list[int] = []
        self.leaving: list[int] = []
        self.ready: list[int] = []

    def send(self, event: ev.Event) -> None:
        for effect in self.h.send(event):
            self.check(effect)
        self.h.effects.clear()
        self.check_tables()

    def check(self, effect: ev.Effect) -> None:
        match effect:
            case ev.GrantLease(request_id=request, run=run):
                key = self.waiting.pop(request)
                first = request.partition(":")[0]
                earlier = [r for r, k in self.waiting.items() if k == key and int(r.partition(":")[0]) < int(first)]
                assert not earlier, "FIFO per model"
                assert run in self.ready
                self.leased[request] = run
            case ev.RefuseRequest(request_id=request):
                del self.waiting[request]
                self.answered.add(request)
            case ev.StartRunner(run=run):
                self.loading.append(run)
            case ev.AbortLoad(run=run):
                self.loading.remove(run)
                self.leaving.append(run)
            case ev.StopRunner(run=run):
                self.ready.remove(run)
                self.leaving.append(run)
                assert run not in self.leased.values(), "no lease is cut"

    def check_tables(self) -> None:
        core = self.h.core
        assert core.waiting == len(self.waiting) <= core.settings.max_queue
        assert core.leases == len(self.leased)
        used = loading = 0
        for run in core.runs:
            assert len(run.leases) <= run.slots
            assert not run.leases or run.state == "ready"
            used += run.use["cpu"]
            loading += run.state == "loading"
        assert used <= core.settings.memory_budget_bytes, "bytes within the budget"
        assert loading <= core.settings.max_loading
        assert len(core.runs) <= core.settings.max_loaded_models

    # --- what may happen ---

    def ask(self) -> None:
        name = self.random.choice(list(MODELS))
        self.count += 1
        request = f"{self.count}:{name}"
        load = LoadParameters(num_ctx=256 if self.random.random() < 0.1 else 4096)
        wish = self.wish(name, MODELS[name], load=load, shift=self.random.random() > 0.05)
        self.waiting[request] = wish.key
        keep_alive = self.random.choice([None, None, None, 0, 5, 50, -1])
        self.send(ev.RequestArrived(self.h.now, request, wish, keep_alive))

    def release(self) -> None:
        if self.leased:
            request = self.random.choice(list(self.leased))
            del self.leased[request]
            self.answered.add(request)
            self.send(ev.LeaseReleased(self.h.now, request))

    def cancel(self) -> None:
        if self.waiting:
            request = self.random.choice(list(self.waiting))
            del self.waiting[request]
            self.answered.add(request)
            self.send(ev.RequestCancelled(self.h.now, request))

    def load(self) -> None:
        if self.loading:
            number = self.random.choice(self.loading)
            self.loading.remove(number)
            luck = self.random.random()
            run = self.h.core.run(number)
            if luck < 0.8:
                self.ready.append(number)
                name = run.loaded.wish.model.requested
                size = self.random.choice([None, run.use["cpu"] - 1])
                self.h.effects.clear()
                self.h.loaded(name, size=size)
                for effect in list(self.h.effects):
                    self.check(effect)
                self.check_tables()
            else:
                self.send(ev.LoadFailed(self.h.now, number, ValueError("no"), memory=luck > 0.9))

    def stop(self) -> None:
        if self.leaving:
            number = self.random.choice(self.leaving)
            self.leaving.remove(number)
            self.send(ev.RunnerStopped(self.h.now, number))

    def die(self) -> None:
        if self.ready and self.random.random() < 0.1:
            number = self.random.choice(self.ready)
            self.ready.remove(number)
            for request in [r for r, run in self.leased.items() if run == number]:
                del self.leased[request]
                self.answered.add(request)
            self.send(ev.RunnerExited(self.h.now, number))

    def tick(self) -> None:
        self.h.now += self.random.choice([1, 10, 100])
        self.send(ev.TimerFired(self.h.now))

    def unload(self) -> None:
        if self.random.random() < 0.2:
            self.send(ev.UnloadAsked(self.h.now, f"sha256:{self.random.choice(list(MODELS))}"))

    def change(self) -> None:
        if self.random.random() < 0.05:
            new = replace(self.h.core.settings, keep_alive_ns=self.random.choice([0, 20, 1000]))
            self.send(ev.SettingsChanged(self.h.now, new))

    def settle(self) -> None:
        """Everybody finishes; nothing new comes. Ends when nothing is left to do."""
        for _ in range(100_000):
            if self.leased:
                self.release()
            elif self.leaving:
                self.stop()
            elif self.loading:
                self.load()
            else:
                return
        raise AssertionError("it never ends")


@settings(max_examples=EXAMPLES, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_random_events(harness, wish, seed):
    """No request is lost, no slot is given twice, order and budget hold, and every effect comes to an end."""
    dice = random.Random(seed)
    h = harness(
        memory_budget_bytes=1000,
        max_loaded_models=dice.choice([1, 2, 4]),
        max_loading=dice.choice([1, 1, 2]),
        num_parallel=dice.choice([None, 1, 3]),
        max_queue=dice.choice([3, 20, 1000]),
        keep_alive_ns=20,
    )
    world = World(h, wish, seed)
    moves = [world.ask, world.ask, world.ask, world.release, world.release, world.cancel, world.load, world.stop]
    moves += [world.die, world.tick, world.unload, world.change]
    for _ in range(EVENTS):
        dice.choice(moves)()
    world.settle()
    assert not world.waiting, "every request was answered"
    assert len(world.answered) == world.count
    world.send(ev.StopAsked(h.now))
    world.settle()
    assert h.core.runs == ()
