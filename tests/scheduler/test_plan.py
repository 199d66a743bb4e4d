"""From a wish to a load: slots, context, bytes against the budget, backend."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ollamad.errors import OutOfMemory
from ollamad.scheduler.placement import GIB, MIB, HostMemory
from ollamad.scheduler.plan import Limits, Machine, NoRoom, Plan, make_plan
from ollamad.scheduler.settings import SchedulerSettings
from ollamad.types import LoadParameters, Memory, ModelConfig, ModelFacts

ONE_GIB_FOR_65536 = ModelFacts(block_count=1, head_count_max=32, head_count_kv_min=32, embedding_length=4096)
ONE = SchedulerSettings(num_parallel=1)
AUTOMATIC = SchedulerSettings()


def on_cpu(a_cpu, total: int, used: int = 0, **more) -> Machine:
    return Machine((a_cpu(total),), HostMemory(total, total - used), {"cpu": used}, **more)


def test_no_room_beside_a_full_gpu(wish, a_gpu):
    """SCH-22: with nothing free beside another model something has to go before a process is started."""
    machine = Machine((a_gpu(free=0),), others_loaded=True)
    assert isinstance(make_plan(wish(), ONE, machine), NoRoom)


def test_partial_offload_is_never_refused(wish, a_gpu):
    """SCH-23: who asks for some layers on the GPU gets them without a look at the size."""
    machine = Machine((a_gpu(free=0),), others_loaded=True)
    some = wish(load=LoadParameters(num_gpu=1), facts=ModelFacts(block_count=20))
    plan = make_plan(some, ONE, machine)
    assert isinstance(plan, Plan)
    assert plan.spec.placement[0].layers == 1


def test_small_model_loads_alongside(wish, a_gpu):
    """SCH-24: what fits loads beside what is there."""
    plan = make_plan(wish(), ONE, Machine((a_gpu(free=20 * 10**9),), others_loaded=True))
    assert isinstance(plan, Plan)
    assert [(p.device_id, p.layers) for p in plan.spec.placement] == [("cuda0", -1)]


def test_slots_multiply_the_context(wish, a_gpu):
    """SCH-25: two slots of 32768 tokens need 1 GiB, which 900 MiB is not."""
    machine = Machine((a_gpu(total=900 * MIB),), others_loaded=True)
    two = wish(load=LoadParameters(num_ctx=32768), facts=ONE_GIB_FOR_65536)
    answer = make_plan(two, SchedulerSettings(num_parallel=2), machine)
    assert isinstance(answer, NoRoom)
    assert answer.needed_bytes >= GIB


@pytest.mark.parametrize(("parallel", "slots"), [(None, 8), (0, 1), (1, 1), (3, 3)])
def test_number_of_slots(wish, a_cpu, parallel, slots):
    """An explicit number means itself, 0 means 1, and automatic as many as fit up to 8."""
    plan = make_plan(wish(), SchedulerSettings(num_parallel=parallel), on_cpu(a_cpu, 100 * GIB))
    assert plan.spec.slots == slots


def test_automatic_slots_fill_the_budget(wish, a_cpu):
    """Automatic slots are as many full contexts as fit beside the weights."""
    settings = replace(AUTOMATIC, memory_budget_bytes=GIB // 2 + 3 * GIB)
    big = wish(size_bytes=GIB // 2, load=LoadParameters(num_ctx=65536), facts=ONE_GIB_FOR_65536)
    plan = make_plan(big, settings, on_cpu(a_cpu, 100 * GIB))
    assert (plan.spec.slots, plan.use) == (3, {"cpu": settings.memory_budget_bytes})


@pytest.mark.parametrize(
    "changes", [{"capabilities": ("embedding",)}, {"config": ModelConfig(model_family="lfm2")}], ids=["embeds", "lfm2"]
)
def test_some_models_have_one_slot(wish, a_cpu, changes):
    """Models that only embed, and some families, have one slot whatever is configured."""
    plan = make_plan(wish(**changes), SchedulerSettings(num_parallel=4), on_cpu(a_cpu, 100 * GIB))
    assert plan.spec.slots == 1
    assert plan.spec.embedding is ("capabilities" in changes)


def test_more_than_the_budget_is_refused_by_number(wish, a_cpu):
    """A model that the budget can never hold is refused with both numbers, also while others are loaded."""
    settings = replace(AUTOMATIC, memory_budget_bytes=1000)
    with pytest.raises(OutOfMemory, match="requires 2000 bytes of memory, more than the 1000 bytes"):
        make_plan(wish(size_bytes=2000), settings, on_cpu(a_cpu, GIB, used=10, others_loaded=True))


def test_first_model_loads_over_the_estimate(wish, a_cpu):
    """Alone, a model starts although less than it needs is free, as long as the machine has it at all."""
    machine = replace(on_cpu(a_cpu, 1000), host=HostMemory(1000, 100))
    assert isinstance(make_plan(wish(size_bytes=900), ONE, machine), Plan)
    assert isinstance(make_plan(wish(size_bytes=900), ONE, replace(machine, others_loaded=True)), NoRoom)


def test_context_follows_tier_training_and_limits(wish, a_cpu, a_gpu):
    """An unknown default becomes the tier of the GPUs; nothing exceeds the trained context or a retry's limit."""
    unknown = wish(load=LoadParameters(num_ctx=0, num_ctx_automatic=True))
    machine = Machine((a_gpu(total=24 * GIB),), HostMemory(100 * GIB, 100 * GIB))
    assert make_plan(unknown, ONE, machine).spec.ctx_len == 32768
    assert make_plan(unknown, ONE, on_cpu(a_cpu, GIB)).spec.ctx_len == 4096
    trained = wish(load=LoadParameters(num_ctx=8192), facts=ModelFacts(context_length=2048))
    assert make_plan(trained, ONE, machine).spec.ctx_len == 2048
    assert make_plan(trained, ONE, machine, limits=Limits(num_ctx=512)).spec.ctx_len == 512


def test_batch_and_mmap_are_effective_values(wish, a_cpu):
    """The plan remembers the derived batch and mmap choice, which the reload decision compares."""
    plan = make_plan(wish(load=LoadParameters(num_ctx=8192)), ONE, on_cpu(a_cpu, 100 * GIB))
    assert (plan.spec.n_batch, plan.spec.use_mmap) == (1024, False)
    assert (plan.loaded.load.num_batch, plan.loaded.load.use_mmap, plan.loaded.mmap_automatic) == (1024, False, True)
    embed = wish(capabilities=("embedding",), load=LoadParameters(num_ctx=300, num_batch=0, num_batch_automatic=False))
    assert make_plan(embed, ONE, on_cpu(a_cpu, 100 * GIB)).spec.n_batch == 300


def test_learned_bytes_replace_the_estimate(wish, a_cpu):
    """What a load really took counts from then on, for the same file, context, slots and device."""
    key = ("sha256:a", 4096, 1, "f16", "cpu")
    learned = {key: (Memory("cpu", "cpu", 70, 20, 10),)}
    plan = make_plan(wish(), ONE, on_cpu(a_cpu, GIB), learned=learned)
    assert plan.learned_key == key
    assert plan.use == {"cpu": 100}


def test_no_flash_attention_is_another_load(wish, a_cpu):
    """What a load took with flash attention says nothing about the same one without it."""
    plain, without = (make_plan(wish(), replace(ONE, flash_attention=fa), on_cpu(a_cpu, GIB)) for fa in (None, False))
    assert plain.learned_key != without.learned_key


def test_num_gpu_0_stays_off_the_gpu(wish, a_cpu, a_gpu):
    """No layers on the GPU means main memory and no GPU in the placement."""
    machine = Machine((a_gpu(), a_cpu()), HostMemory(10**11, 10**11))
    plan = make_plan(wish(load=LoadParameters(num_gpu=0)), ONE, machine)
    assert [(p.device_id, p.layers) for p in plan.spec.placement] == [("cpu", 0)]


def test_group_shares_the_bytes(wish, a_gpu):
    """A model spread over a group is counted on each device by what that has free."""
    machine = Machine((a_gpu(0, 3000), a_gpu(1, 1000)), HostMemory(10**6, 10**6))
    plan = make_plan(wish(size_bytes=2000), replace(ONE, spread=True), machine)
    assert plan.use == {"cuda0": 1500, "cuda1": 500}


def test_backend_of_an_architecture_comes_first(wish, a_cpu):
    """A backend that names the architecture runs it; the others run on the devices that name theirs."""
    settings = replace(ONE, architectures={"echo": "echo-backend"}, backend="general")
    devices = (replace(a_cpu(), backend="llama-cpu"), replace(a_cpu(), id="echo", backend="echo-backend"))
    machine = Machine(devices, HostMemory(10**9, 10**9))
    assert make_plan(wish(facts=ModelFacts(architecture="echo")), settings, machine).spec.backend == "echo-backend"
    assert make_plan(wish(), settings, machine).spec.backend == "llama-cpu"
    assert make_plan(wish(), settings, Machine((a_cpu(),))).spec.backend == "general"


def test_no_device_at_all_is_the_processor(wish):
    """Without any device the plan says cpu and counts against what is known of main memory."""
    plan = make_plan(wish(), ONE, Machine((), HostMemory(10**6, 10**6)))
    assert [(p.device_id, p.bytes) for p in plan.spec.placement] == [("cpu", 1000)]


def test_processor_under_any_name_is_main_memory(wish, a_cpu):
    """A backend that calls the processor otherwise uses the same memory; two that list it are one device."""
    devices = (replace(a_cpu(), id="host"), replace(a_cpu(), id="cpu"))
    settings = replace(ONE, memory_budget_bytes=1500)
    plan = make_plan(wish(), settings, Machine(devices, HostMemory(10**6, 10**6)))
    assert plan.use == {"host": 1000}
    beside = Machine(devices, HostMemory(10**6, 10**6), {"host": 1000}, others_loaded=True)
    assert isinstance(make_plan(wish("b"), settings, beside), NoRoom)
