"""The scheduler's decisions, event by event: the flow cases of the runtime contract and what holds at all times."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ollamad.errors import OutOfMemory, QueueFull, ShuttingDown
from ollamad.scheduler import events as ev
from ollamad.scheduler.placement import HostMemory
from ollamad.types import FOREVER_NS, LoadParameters, ModelFacts, WeightsRef

GB = 10**9
SECOND = 10**9
MINUTE = 60 * SECOND


# --- loading and handing over -----------------------------------------------------------------


def test_load_then_lease(harness, wish):
    """SCH-02: a request loads its model and gets a slot; what the runner reports is what counts."""
    h = harness()
    h.ask("1", wish())
    assert h.states() == {"a": "loading"}
    h.loaded("a", size=777)
    assert h.granted == ["1"]
    assert h.run_of("a").use == {"cpu": 777}


def test_failed_load_is_told_and_leaves_nothing(harness, wish):
    """SCH-03, SCH-31: a failed load is told to all who waited for it, at once, and no entry stays."""
    h = harness()
    h.serve("other", wish("b"))
    h.ask("1", wish())
    h.ask("2", wish())
    h.failed("a", "server parse failed")
    assert {k: str(v) for k, v in h.refused.items()} == {"1": "server parse failed", "2": "server parse failed"}
    assert h.states() == {"b": "ready"}


def test_failed_load_spares_who_wants_it_otherwise(harness, wish):
    """A load that fails says nothing about one with other settings: that one is tried."""
    h = harness()
    h.ask("1", wish())
    h.ask("2", wish(load=LoadParameters(num_ctx=256)))
    h.failed("a", "no")
    assert list(h.refused) == ["1"]
    assert h.run_of("a").spec.ctx_len == 256


def test_granted_context_is_what_the_runner_says(harness, wish):
    """SCH-04: a runner that grants less than was asked for is remembered with what it granted."""
    h = harness()
    h.serve("1", wish(load=LoadParameters(num_ctx=262144)), ctx_len=131072)
    assert h.run_of("a").loaded.load.num_ctx == 131072


def test_names_over_one_file_share_a_runner(harness, wish):
    """SCH-14: another name over the same weights gets the runner that is there."""
    h = harness(num_parallel=2)
    h.serve("1", wish("a"))
    h.ask("2", wish("b", weights=(WeightsRef("sha256:a", 1000),)))
    assert h.granted == ["1", "2"]
    assert list(h.states()) == ["a"]


def test_waiters_are_served_in_order_of_arrival(harness, wish):
    """Slots are given in order of arrival, one for each that becomes free."""
    h = harness()
    for number in "1234":
        h.ask(number, wish())
    h.loaded("a")
    h.cancel("3")
    h.release("1")
    h.release("2")
    assert h.granted == ["1", "2", "4"]


def test_loading_delays_nobody_else(harness, wish):
    """A model that is loaded serves its requests while another one loads."""
    h = harness(num_parallel=2)
    h.serve("1", wish("a"))
    h.ask("2", wish("b"))
    h.ask("3", wish("a"))
    assert h.granted == ["1", "3"]


@pytest.mark.parametrize(("most", "loading"), [(1, ["a"]), (2, ["a", "b"]), (9, ["a", "b", "c"])])
def test_loads_overlap_up_to_max_loading(harness, wish, most, loading):
    """As many loads run at once as the settings allow; the others wait their turn."""
    h = harness(max_loading=most)
    for name in "abc":
        h.ask(name, wish(name))
    assert list(h.states()) == loading
    h.loaded("a")
    assert len(h.started) == min(3, most + 1)


def test_devices_come_first(harness, wish):
    """No load starts before the devices are known."""
    h = harness(devices=())
    h.ask("1", wish())
    assert not h.started
    h.send(ev.DevicesFound(0, ()))
    assert len(h.started) == 1


# --- queue ------------------------------------------------------------------------------------


def test_queue_is_bounded_over_all_models(harness, wish):
    """SCH-11: one more request without a slot than the queue holds is refused, whatever its model."""
    h = harness(max_queue=2)
    h.ask("1", wish("a"))
    h.ask("2", wish("b"))
    h.ask("3", wish("c"))
    error = h.refused["3"]
    assert isinstance(error, QueueFull)
    assert (error.waiting, error.limit) == (2, 2)


def test_full_queue_does_not_refuse_a_free_slot(harness, wish):
    """SCH-35: a request for a free slot of a loaded model is served although the queue is full."""
    h = harness(max_queue=1, num_parallel=2)
    h.serve("1", wish("a"))
    h.ask("2", wish("b"))
    h.ask("3", wish("a"))
    assert h.granted == ["1", "3"]


def test_recorded_queue_of_16(harness, wish):
    """Sixty at once against a queue of 16: some are served, the others told that the server is busy."""
    h = harness(max_queue=16)
    for number in range(60):
        h.ask(str(number), wish())
    h.loaded("a")
    while h.core.leases:
        h.release(h.granted[-1])
    assert (len(h.granted), len(h.refused)) == (16, 44)


def test_queue_of_0_lets_nobody_wait(harness, wish):
    """With a queue of 0 a request is served by a free slot or by the load that it starts, else refused."""
    h = harness(max_queue=0)
    h.ask("1", wish("a"))
    h.ask("2", wish("a"))
    h.ask("3", wish("b"))
    h.loaded("a")
    h.ask("4", wish("a"))
    h.release("1")
    h.ask("5", wish("a"))
    assert h.granted == ["1", "5"]
    assert list(h.refused) == ["2", "3", "4"]


def test_cancelled_request_is_forgotten(harness, wish):
    """SCH-20, Q10: who left while queued is never served, never loads anything, and gives its place free."""
    h = harness(max_queue=1)
    h.serve("1", wish("a"))
    h.ask("2", wish("a"))
    h.cancel("2")
    h.ask("3", wish("a"))
    h.release("1")
    assert h.granted == ["1", "3"]
    assert not h.refused


def test_load_belongs_to_its_waiters(harness, wish):
    """A load goes on while one is left who waits for it, and is given up with the last."""
    h = harness()
    h.ask("1", wish())
    h.ask("2", wish())
    h.cancel("1")
    assert h.states() == {"a": "loading"}
    assert h.cancel("2") == [ev.AbortLoad(1)]
    h.ask("3", wish())
    h.stopped("a")
    assert h.states() == {"a": "loading"}
    assert [start.run for start in h.started] == [1, 2]


def test_load_is_given_up_when_only_others_wait(harness, wish):
    """Who wants the model with other settings does not wait for this load."""
    h = harness()
    h.ask("1", wish())
    h.ask("2", wish(load=LoadParameters(num_ctx=256)))
    h.cancel("1")
    h.stopped("a")
    assert h.started[-1].spec.ctx_len == 256


def test_six_left_and_a_seventh(harness, wish):
    """Q27: after six requests were left one after the other the seventh is served at once."""
    h = harness()
    for number in range(6):
        h.ask(str(number), wish())
        if number == 0:
            h.loaded("a")
        h.cancel(str(number))
    h.ask("7th", wish())
    assert h.granted[-1] == "7th"
    assert len(h.started) == 1


# --- keep-alive -------------------------------------------------------------------------------


def test_idle_model_goes_after_its_hold_time(harness, wish):
    """The time runs from the end of the last request, not while the model is busy."""
    h = harness(keep_alive_ns=5 * MINUTE)
    h.serve("1", wish())
    h.pass_time(60 * MINUTE)
    assert h.states() == {"a": "ready"}
    h.release("1")
    assert h.effects[-1] == ev.SetTimer(65 * MINUTE)
    h.pass_time(5 * MINUTE - 1)
    assert h.states() == {"a": "ready"}
    assert ev.StopRunner(1, "expired") in h.pass_time(1)
    h.stopped("a")
    assert h.states() == {}


def test_keep_alive_of_a_request_is_sticky(harness, wish):
    """SCH-17, Q15: an override holds for everybody until the next one; a request without one keeps it."""
    h = harness()
    h.ask("1", wish(), 42 * SECOND)
    h.loaded("a")
    h.release("1")
    h.ask("2", wish())
    h.release("2")
    assert h.run_of("a").expires_at == 42 * SECOND
    h.ask("3", wish(), 7 * SECOND)
    h.release("3")
    assert h.run_of("a").expires_at == 7 * SECOND


def test_keep_alive_for_ever(harness, wish):
    """SCH-34: a negative keep-alive never expires and sets no timer."""
    h = harness()
    h.ask("1", wish(), -1)
    h.loaded("a")
    h.release("1")
    assert h.run_of("a").expires_at == FOREVER_NS
    assert not [effect for effect in h.effects if isinstance(effect, ev.SetTimer) and effect.at is not None]


def test_keep_alive_0_unloads_after_the_request(harness, wish):
    """SCH-07, SCH-16: keep_alive 0 lets the request and those behind it finish, then the model goes."""
    h = harness(num_parallel=2)
    h.serve("1", wish())
    h.ask("2", wish(), 0)
    h.release("2")
    assert h.states() == {"a": "ready"}
    assert h.release("1") == [ev.StopRunner(1, "expired")]
    assert h.release("1") == []


def test_default_of_the_model_beats_the_default(harness, wish):
    """A fresh load takes the hold time configured for its model."""
    h = harness()
    h.send(ev.RequestArrived(0, "1", wish(), None, 3 * SECOND))
    h.loaded("a")
    h.release("1")
    assert h.run_of("a").expires_at == 3 * SECOND


def test_expiry_while_busy_is_now_plus_hold(harness, wish):
    """Q2: a busy model is reported as if it became idle now, a closing one as leaving now."""
    h = harness(keep_alive_ns=MINUTE)
    h.serve("1", wish())
    h.now = 10 * MINUTE
    assert h.run_of("a").expires_at_or_estimate(h.now) == 11 * MINUTE
    h.send(ev.UnloadAsked(h.now, "sha256:a"))
    assert h.run_of("a").expires_at_or_estimate(h.now) == 10 * MINUTE


# --- unload -----------------------------------------------------------------------------------


def test_unload_waits_for_the_request(harness, wish):
    """SCH-15: an unload of a busy model acts when its request ends, not after the keep-alive."""
    h = harness()
    h.serve("1", wish())
    h.send(ev.UnloadAsked(0, "sha256:a"))
    assert h.states() == {"a": "ready"}
    assert h.release("1") == [ev.StopRunner(1, "unload asked")]


def test_unload_of_nothing_does_nothing(harness):
    """LUN-03: an unload never loads, and is fine for a model that is not there."""
    assert harness().send(ev.UnloadAsked(0, "sha256:a")) == []


def test_newcomers_wait_for_the_next_load(harness, wish):
    """Q11: who comes after an unload cannot put it off, not even with a keep-alive of its own."""
    h = harness(num_parallel=2)
    h.serve("1", wish())
    h.send(ev.UnloadAsked(0, "sha256:a"))
    h.ask("2", wish(), -1)
    assert h.granted == ["1"]
    h.release("1")
    h.stopped("a")
    h.loaded("a")
    assert h.granted == ["1", "2"]


def test_unload_during_a_load_lets_its_waiters_run(harness, wish):
    """An unload of a loading model marks it: who waited is served, then it goes."""
    h = harness()
    h.ask("1", wish())
    h.ask("2", wish())
    h.send(ev.UnloadAsked(0, "sha256:a"))
    h.ask("3", wish())
    h.loaded("a")
    h.release("1")
    assert h.release("2") == [ev.StopRunner(1, "unload asked")]
    assert h.granted == ["1", "2"]


# --- reload -----------------------------------------------------------------------------------


def test_other_settings_replace_the_runner(harness, wish):
    """SCH-08: a request with other settings waits until the runner is idle, then loads anew and says why."""
    h = harness(num_parallel=2)
    h.serve("1", wish())
    h.ask("2", wish(adapters=(WeightsRef("sha256:lora", 1),)))
    h.ask("3", wish())
    assert h.granted == ["1"]
    assert ev.StopRunner(1, "adapters differs") in h.release("1")
    h.stopped("a")
    h.loaded("a")
    assert h.started[-1].reason == "adapters"
    assert ev.GrantLease("2", 2, "adapters") in h.effects


def test_dead_runner_is_loaded_again(harness, wish):
    """A runner that ends by itself is gone from the table, and the next request loads it again."""
    h = harness()
    h.serve("1", wish())
    h.ask("2", wish())
    h.send(ev.RunnerExited(0, 1))
    assert h.started[-1].reason == "runner exited"
    assert h.release("1") == []
    h.loaded("a")
    assert h.granted == ["1", "2"]


# --- room -------------------------------------------------------------------------------------


def test_sch_09_and_10(harness, wish, a_gpu, a_cpu):
    """SCH-09, SCH-10: three load side by side; the fourth evicts the idle one first, then waits for the busy one."""
    h = harness(devices=(a_gpu(), a_cpu()))
    h.serve("A", wish("A", 1 * GB))
    h.serve("B", wish("B", 10 * GB))
    h.serve("C", wish("C", 10 * GB, load=LoadParameters(num_gpu=0)))
    assert set(h.states()) == {"A", "B", "C"}
    h.release("A")
    h.ask("D", wish("D", 13 * GB))
    assert h.states() == {"A": "stopping", "B": "ready", "C": "ready"}
    h.stopped("A")
    assert h.states() == {"B": "ready", "C": "ready"}
    assert "D" not in h.granted
    h.release("B")
    h.stopped("B")
    h.loaded("D")
    assert h.states() == {"C": "ready", "D": "ready"}


def test_max_loaded_models(harness, wish):
    """At the maximum a new model waits for one to go; while it goes no second one is chosen."""
    h = harness(max_loaded_models=2)
    h.serve("1", wish("a"))
    h.serve("2", wish("b"))
    h.release("1")
    h.release("2")
    h.ask("3", wish("c"))
    h.ask("4", wish("d"))
    assert h.states() == {"a": "stopping", "b": "ready"}
    h.stopped("a")
    h.loaded("c")
    assert h.states()["b"] == "stopping"


@pytest.mark.parametrize(("busy", "victim"), [("a", "b"), ("ab", "a")], ids=["SCH-19-idle", "SCH-19-busy"])
def test_victim(harness, wish, busy, victim):
    """SCH-19: an idle model goes before a busy one with a shorter hold time; among busy ones the shortest."""
    h = harness(max_loaded_models=2)
    for name, hold in (("a", 1 * MINUTE), ("b", 2 * MINUTE)):
        h.ask(name, wish(name), hold)
        h.loaded(name)
    for name in "ab":
        if name not in busy:
            h.release(name)
    h.ask("new", wish("c"))
    leaving = [run.loaded.wish.model.requested for run in h.core.runs if run.closing_at is not None]
    assert leaving == [victim]


def test_evicted_model_serves_who_was_there_first(harness, wish):
    """A busy victim serves those who came before the request that it goes for, and nobody after."""
    h = harness(max_loaded_models=1)
    h.serve("1", wish("a"))
    h.ask("2", wish("a"))
    h.ask("3", wish("b"))
    h.ask("4", wish("a"))
    h.release("1")
    h.release("2")
    assert h.states() == {"a": "stopping"}
    h.stopped("a")
    h.loaded("b")
    h.release("3")
    h.stopped("b")
    h.loaded("a")
    assert h.granted == ["1", "2", "3", "4"]


def test_budget_evicts_until_it_fits(harness, wish):
    """Bytes decide: idle models go one by one until the new one fits into the budget."""
    h = harness(memory_budget_bytes=1000, max_loaded_models=10)
    for name in "abc":
        h.serve(name, wish(name, 300))
        h.release(name)
    h.ask("d", wish("d", 600))
    assert h.states() == {"a": "stopping", "b": "ready", "c": "ready"}
    h.stopped("a")
    assert h.states() == {"b": "stopping", "c": "ready"}
    h.stopped("b")
    assert h.states() == {"c": "ready", "d": "loading"}


def test_more_than_the_budget_is_refused(harness, wish):
    """A model that can never fit is refused and nothing is evicted for it."""
    h = harness(memory_budget_bytes=1000)
    h.serve("1", wish("a", 900))
    h.release("1")
    h.ask("2", wish("b", 2000))
    assert isinstance(h.refused["2"], OutOfMemory)
    assert h.states() == {"a": "ready"}


def test_refusing_one_load_tries_the_next(harness, wish):
    """Two who want a model that cannot fit, each in another way, are both refused at once."""
    h = harness(memory_budget_bytes=1000)
    h.serve("1", wish("a", 900))
    h.ask("2", wish("b", 2000))
    h.ask("3", wish("b", 2000, load=LoadParameters(num_ctx=256)))
    assert list(h.refused) == ["2", "3"]


def test_more_bytes_than_expected_push_idle_models_out(harness, wish):
    """A load that took more than the budget has left lets idle models go, not itself."""
    h = harness(memory_budget_bytes=1000)
    h.serve("1", wish("a", 400))
    h.release("1")
    h.serve("2", wish("b", 400), size=700)
    assert h.states() == {"a": "stopping", "b": "ready"}
    assert h.core.learned


def test_automatic_budget_is_what_is_free(harness, wish):
    """Without a budget a second model has to fit into four fifths of the memory that is free now."""
    h = harness()
    h.serve("1", wish("a", 10 * GB))
    h.release("1")
    h.send(ev.HostMemoryRead(0, HostMemory(100 * GB, 10 * GB)))
    h.ask("2", wish("b", 9 * GB))
    assert h.states() == {"a": "stopping"}


def test_the_most_that_a_load_took_is_remembered(harness, wish):
    """A later load that takes less does not lower what the next one is planned with; what is shown is its own."""
    h = harness(memory_budget_bytes=1000)
    for request, size in (("1", 700), ("2", 500)):
        h.serve(request, wish("a", 400), size=size)
        assert sum(h.core.runs[0].use.values()) == size
        h.release(request)
        h.send(ev.RunnerExited(0, h.core.runs[0].number))
    (peak,) = h.core.learned.values()
    assert sum(part.weights_bytes + part.kv_bytes + part.compute_bytes for part in peak) == 700


# --- out of memory ----------------------------------------------------------------------------

OOM = "cudaMalloc failed: out of memory"


def test_sch_26(harness, wish):
    """SCH-26: with another model loaded everything else goes and the load is tried again, once."""
    h = harness()
    h.serve("other", wish("b"))
    h.ask("1", wish("a"))
    h.failed("a", OOM, memory=True)
    assert not h.refused
    h.release("other")
    assert h.states() == {"b": "stopping"}
    h.stopped("b")
    h.failed("a", OOM, memory=True)
    assert OOM in str(h.refused["1"])


def test_sch_27(harness, wish):
    """SCH-27: an automatic context comes down a tier, and the batch with it; a second failure is told."""
    h = harness()
    h.serve("other", wish("b"))
    h.release("other")
    facts = ModelFacts(context_length=131072)
    h.ask("1", wish("a", load=LoadParameters(num_ctx=262144, num_ctx_automatic=True), facts=facts))
    h.failed("a", OOM, memory=True)
    h.stopped("b")
    h.failed("a", OOM, memory=True)
    specs = [start.spec for start in h.started if start.key == "sha256:a"]
    assert [(spec.ctx_len, spec.n_batch) for spec in specs] == [(131072, 2048), (32768, 1024)]
    assert list(h.refused) == ["1"]


def test_sch_28(harness, wish):
    """SCH-28: an explicit context is kept in the second attempt."""
    h = harness()
    h.serve("other", wish("b"))
    h.release("other")
    h.ask("1", wish("a", load=LoadParameters(num_ctx=262144)))
    h.failed("a", OOM, memory=True)
    h.stopped("b")
    assert [start.spec.ctx_len for start in h.started if start.key == "sha256:a"] == [262144, 262144]


def test_sch_29(harness, wish):
    """SCH-29: a first model with an automatic context is tried again with less and serves."""
    h = harness()
    h.ask("1", wish(load=LoadParameters(num_ctx=262144, num_ctx_automatic=True)))
    h.failed("a", OOM, memory=True)
    h.loaded("a")
    assert h.granted == ["1"]
    assert h.run_of("a").loaded.load.num_ctx == 32768
    h.ask("2", wish(load=LoadParameters(num_ctx=262144, num_ctx_automatic=True)))
    h.release("1")
    assert h.granted == ["1", "2"]


def test_sch_30(harness, wish):
    """SCH-30: with nothing to give up the error is told at once."""
    h = harness()
    h.ask("1", wish())
    h.failed("a", OOM, memory=True)
    assert list(h.refused) == ["1"]


def test_automatic_slots_are_given_up_first(harness, wish):
    """A load with automatic slots is tried again with one slot."""
    h = harness(num_parallel=None)
    h.ask("1", wish())
    h.failed("a", OOM, memory=True)
    assert [start.spec.slots for start in h.started] == [8, 1]


def test_holders_are_named(harness, wish):
    """The last error of a load without memory names who holds how much."""
    h = harness(max_loading=2)
    h.ask("1", wish("a"))
    h.ask("2", wish("b", 500))
    h.failed("a", OOM, memory=True)
    h.loaded("b")
    h.release("2")
    h.stopped("b")
    h.ask("3", wish("c", 700))
    h.failed("a", OOM, memory=True)
    assert str(h.refused["1"]) == f"{OOM} (needs about 1000 bytes; in use: c:latest 700 bytes)"


def test_sch_32(harness, wish):
    """SCH-32: out of memory while running lets every loaded model go when idle."""
    h = harness()
    h.serve("1", wish("a"))
    h.serve("2", wish("b"))
    h.release("2")
    h.send(ev.MemoryFailed(0))
    assert h.states() == {"a": "ready", "b": "stopping"}
    h.release("1")
    assert h.states() == {"a": "stopping", "b": "stopping"}


# --- end --------------------------------------------------------------------------------------


def test_drain_finishes_what_runs(harness, wish):
    """A drain refuses the queue and newcomers, gives loads up, and lets requests with a slot finish."""
    h = harness(max_loading=2)
    h.serve("1", wish("a"))
    h.ask("2", wish("a"))
    h.ask("3", wish("b"))
    h.send(ev.DrainAsked(0))
    h.ask("4", wish("a"))
    assert [type(h.refused[number]) for number in "234"] == [ShuttingDown] * 3
    assert h.states() == {"a": "ready", "b": "stopping"}
    assert h.core.leases == 1


def test_stop_lets_every_runner_go(harness, wish):
    """SCH-21: at the end every runner is stopped, busy or not."""
    h = harness()
    h.serve("1", wish("a"))
    h.serve("2", wish("b"))
    h.release("2")
    h.send(ev.StopAsked(0))
    assert set(h.states().values()) == {"stopping"}
    assert h.core.leases == 0


def test_settings_act_on_the_next_decision(harness, wish):
    """A changed limit holds for the next request."""
    h = harness(max_queue=5)
    h.ask("1", wish())
    h.send(ev.SettingsChanged(0, replace(h.core.settings, max_queue=1)))
    h.ask("2", wish())
    assert list(h.refused) == ["2"]


def test_late_events_about_past_runs_are_harmless(harness, wish):
    """An event about a run that is gone changes nothing."""
    h = harness()
    h.serve("1", wish())
    h.send(ev.RunnerExited(0, 1))
    for event in (ev.RunnerExited(0, 1), ev.RunnerStopped(0, 1), ev.LoadFailed(0, 1, ValueError())):
        assert h.send(event) == []
