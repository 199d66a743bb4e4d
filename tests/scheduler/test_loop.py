"""The task around the core: leases, runners that come and go, devices, the end."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from ollamad.errors import LoadFailed, OutOfMemory, QueueFull, ShuttingDown
from ollamad.types import FOREVER_NS, Device, Memory

SECOND = 10**9
GPU = Device("cuda0", "cuda", "GPU", 24 * 2**30, 24 * 2**30)


async def test_lease_loads_and_tells_its_times(rig):
    """A lease gives the connection of a loaded model and how long it took to get it."""
    r = rig()
    r.start()
    r.host.gate.clear()
    held = r.hold()
    await r.until(lambda: r.host.specs)
    r.clock.pass_time(3 * SECOND)
    r.host.gate.set()
    await r.until(lambda: held.got)
    assert held.got.connection is r.host.connections[0]
    assert (held.got.load_ns, held.got.slot_wait_ns, held.got.reload_reason) == (3 * SECOND, 0, "")
    assert held.got.num_ctx == 4096
    assert r.names() == ["a"]


async def test_slot_wait_is_told(rig):
    """Who waits for a slot of a loaded model hears how long."""
    r = rig()
    r.start()
    first = r.hold()
    await r.until(lambda: first.got)
    second = r.hold()
    await r.until(lambda: r.scheduler.status()["queue"]["waiting"] == 1)
    r.clock.pass_time(2 * SECOND)
    first.leave.set()
    await r.until(lambda: second.got)
    assert (second.got.load_ns, second.got.slot_wait_ns) == (2 * SECOND, 2 * SECOND)


async def test_client_that_leaves_while_loading_aborts_the_load(rig):
    """The only client of a load leaves: the start is cancelled and no model stays."""
    r = rig()
    r.start()
    r.host.gate.clear()
    held = r.hold()
    await r.until(lambda: r.host.specs)
    held.task.cancel()
    await r.until(lambda: r.host.cancelled)
    await r.until(lambda: not r.scheduler.status()["models"])


@pytest.mark.parametrize("turns", range(12))
async def test_client_that_leaves_the_moment_it_is_ready(rig, turns):
    """Whenever a client leaves while its load ends, no slot stays taken and the next one is served."""
    r = rig()
    r.start()
    r.host.gate.clear()
    held = r.hold()
    await r.until(lambda: r.host.specs)
    r.host.gate.set()
    for _ in range(turns):
        await asyncio.sleep(0)
    held.task.cancel()
    await r.until(lambda: held.task.done())
    again = r.hold()
    await r.until(lambda: again.got)
    assert not again.got.connection.closed.is_set()
    assert r.scheduler.status()["leases"] == 1
    assert len(r.host.specs) - r.host.cancelled == len(r.host.connections)
    assert [c.closed.is_set() for c in r.host.connections].count(False) == 1


async def test_queued_client_that_leaves(rig):
    """A client that leaves while queued frees its place; the one behind it is served."""
    r = rig(max_queue=1)
    r.start()
    first = r.hold()
    await r.until(lambda: first.got)
    second = r.hold()
    await r.until(lambda: r.scheduler.status()["queue"]["waiting"] == 1)
    with pytest.raises(QueueFull):
        async with r.lease():
            pass
    second.task.cancel()
    await r.until(lambda: r.scheduler.status()["queue"]["waiting"] == 0)
    third = r.hold()
    first.leave.set()
    await r.until(lambda: third.got)


async def test_error_inside_a_lease_gives_it_back(rig):
    """However a lease is left, its slot is free afterwards."""
    r = rig()
    r.start()
    with pytest.raises(ValueError, match="mine"):
        async with r.lease():
            raise ValueError("mine")
    async with r.lease():
        assert r.scheduler.status()["leases"] == 1


async def test_failed_load_is_explained(rig):
    """SCH-01: a file that cannot be loaded is told with what may help; nothing stays loaded."""
    r = rig()
    r.start()
    r.host.errors = [RuntimeError("something failed to load model blah")]
    with pytest.raises(LoadFailed, match=r"this model may be incompatible.*`ollama pull a:latest`"):
        async with r.lease():
            pass
    assert r.names() == []


async def test_out_of_memory_is_known_by_type_or_words(rig):
    """An automatic second attempt follows a load without memory, whoever says so and how."""
    for error in (OutOfMemory("no"), RuntimeError("cudaMalloc failed: Out of Memory")):
        r = rig(num_parallel=None)
        r.start()
        r.host.errors = [error]
        async with r.lease() as lease:
            assert lease.ready.slots == 1
        assert [spec.slots for spec in r.host.specs] == [8, 1]


async def test_dead_runner_is_replaced(rig):
    """A runner that dies leaves the table; the next request loads the model again and hears why."""
    r = rig()
    r.start()
    held = r.hold()
    await r.until(lambda: held.got)
    r.host.connections[0].die("killed")
    await r.until(lambda: r.names() == [])
    async with r.lease() as lease:
        assert lease.connection is r.host.connections[1]
        assert lease.reload_reason == "runner exited"


async def test_slot_of_a_dead_runner_is_not_given_on(rig):
    """Who waits when a runner dies gets the next one, although the requests of the dead one leave first."""
    r = rig()
    r.start()
    first = r.hold()
    await r.until(lambda: first.got)
    second = r.hold()
    await r.until(lambda: r.scheduler.status()["queue"]["waiting"] == 1)
    first.leave.set()
    r.host.connections[0].die("killed")
    await r.until(lambda: second.got)
    assert second.got.connection is r.host.connections[1]
    assert second.got.reload_reason == "runner exited"


async def test_runner_that_dies_as_it_becomes_ready(rig):
    """A runner whose end is seen before its load is known to have ended does not stay in the table."""
    r = rig()
    r.start()
    r.host.dies_ready = True
    held = r.hold()
    await r.until(lambda: held.got)
    r.host.dies_ready = False
    held.leave.set()
    async with r.lease() as lease:
        assert not lease.connection.closed.is_set()


async def test_keep_alive_by_the_clock(rig):
    """An idle model is stopped when its time is up, and reported with the time until then."""
    r = rig(keep_alive_ns=300 * SECOND)
    r.start()
    async with r.lease():
        assert r.scheduler.running()[0].expires_at == 1_000_300.0
    r.clock.pass_time(100 * SECOND)
    await r.until(lambda: r.scheduler.running()[0].expires_at == 1_000_300.0)
    r.clock.pass_time(200 * SECOND)
    await r.until(lambda: r.names() == [])
    await r.until(r.host.connections[0].closed.is_set)


async def test_for_ever_has_no_end(rig):
    """A model that is kept for ever is reported without an end."""
    r = rig(load_timeout_ns=FOREVER_NS)
    r.start()
    async with r.lease(keep_alive_ns=-1):
        pass
    await r.until(lambda: not r.scheduler.status()["leases"])
    assert r.scheduler.running()[0].expires_at is None
    assert r.host.limits == [0]


async def test_unload_then_load(rig):
    """An unload lets an idle model go; a request that comes meanwhile waits for the next load."""
    r = rig()
    r.start()
    async with r.lease():
        pass
    r.host.stop_gate.clear()
    r.scheduler.unload("sha256:a")
    await r.until(lambda: r.names() == [])
    held = r.hold()
    await r.until(lambda: r.scheduler.status()["queue"]["waiting"] == 1)
    assert len(r.host.specs) == 1
    r.host.stop_gate.set()
    await r.until(lambda: held.got)
    assert len(r.host.specs) == 2


async def test_running_is_sorted_and_sized(rig):
    """Models are listed latest expiry first, with the bytes that the runner reported."""
    r = rig()
    r.host.memory = (Memory("cpu", "cpu", 10, 20, 30), Memory("cuda0", "cuda", 1, 2, 3))
    r.start()
    async with r.lease("a", keep_alive_ns=5 * SECOND):
        pass
    async with r.lease("b", keep_alive_ns=9 * SECOND):
        pass
    await r.until(lambda: not r.scheduler.status()["leases"])
    assert r.names() == ["b", "a"]
    first = r.scheduler.running()[0]
    assert (first.size_bytes, first.size_vram_bytes, first.slots, first.busy) == (66, 6, 1, 0)
    assert len(r.learned) == 2


async def test_first_load_waits_for_devices_but_not_for_ever(rig, caplog):
    """After 30 s without an answer of the probe the load goes to the CPU, and the log says so."""
    r = rig()
    r.scheduler.start()
    held = r.hold()
    await r.until(lambda: r.scheduler.status()["queue"]["waiting"] == 1)
    r.clock.pass_time(29 * SECOND)
    for _ in range(20):
        await asyncio.sleep(0)
    assert not r.host.specs
    assert r.scheduler.default_num_ctx == 0
    r.clock.pass_time(1 * SECOND)
    await r.until(lambda: held.got)
    assert r.host.specs[0].placement[0].device_id == "cpu"
    assert "devices are not known in time" in caplog.text
    assert r.scheduler.default_num_ctx == 4096
    r.devices.set_result((GPU,))
    await r.until(lambda: r.scheduler.status()["devices"] == ["cuda0"])


async def test_failed_probe_means_the_cpu(rig):
    """A probe that fails leaves the processor."""
    r = rig()
    r.devices.set_exception(RuntimeError("no driver"))
    r.scheduler.start()
    async with r.lease():
        assert r.host.specs[0].placement[0].kind == "cpu"


async def test_gpus_are_asked_again_after_a_load(rig):
    """Where there are GPUs their free memory is read again after each load and unload."""
    r = rig()
    r.start(GPU)
    async with r.lease():
        pass
    await r.until(lambda: r.probes == 2)
    r.scheduler.unload("sha256:a")
    await r.until(lambda: r.probes == 3)


async def test_drain_waits_for_leases(rig):
    """A drain refuses newcomers at once and ends when the last request has."""
    r = rig()
    r.start()
    held = r.hold()
    await r.until(lambda: held.got)
    assert await r.scheduler.drain(0.0) is False
    with pytest.raises(ShuttingDown):
        async with r.lease():
            pass
    held.leave.set()
    assert await r.scheduler.drain(5.0) is True


async def test_close_stops_all(rig):
    """At the end every runner is stopped and every load given up, and no task of ours is left."""
    r = rig(max_loading=2)
    r.start()
    held = r.hold("a")
    await r.until(lambda: held.got)
    r.host.gate.clear()
    loading = r.hold("b")
    await r.until(lambda: len(r.host.specs) == 2)
    await r.scheduler.close()
    assert r.host.connections[0].closed.is_set()
    assert r.host.cancelled == 1
    with pytest.raises(ShuttingDown):
        await loading.task
    held.leave.set()
    await r.until(lambda: all(task.done() for task in r.tasks))


async def test_close_gives_up_on_a_runner_that_stays(rig, caplog):
    """A runner that does not stop does not keep the daemon."""
    r = rig()
    r.start()
    async with r.lease():
        pass
    r.host.stop_gate.clear()
    await r.scheduler.close(timeout_s=0.01)
    assert "runners did not stop in time" in caplog.text


async def test_memory_failure_lets_models_go(rig):
    """A request that ran out of memory makes every model leave when idle."""
    r = rig()
    r.start()
    async with r.lease() as lease:
        lease.report_memory_failure()
    await r.until(lambda: r.names() == [])


async def test_poke_moves_the_ticks(rig):
    """The loop answers a poke with a turn, which is how a watchdog knows that it is alive."""
    r = rig()
    r.start()
    await r.until(lambda: r.scheduler.ticks)
    before = r.scheduler.ticks
    r.scheduler.poke()
    await r.until(lambda: r.scheduler.ticks > before)


async def test_settings_apply(rig):
    """Changed settings act on the next request."""
    r = rig()
    r.start()
    held = r.hold()
    await r.until(lambda: held.got)
    r.scheduler.apply(replace(r.settings, max_queue=0))
    with pytest.raises(QueueFull):
        async with r.lease():
            pass
