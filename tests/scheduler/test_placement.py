"""Arithmetic of fit, devices, batches and mmap: the tables of the runtime contract."""

from __future__ import annotations

import pytest

from ollamad.scheduler.placement import (
    GIB,
    MIB,
    HostMemory,
    automatic_batch,
    available,
    choose_devices,
    context_tier,
    kv_bytes,
    lower_tier,
    mmap_off_reason,
    predict,
    with_tracked_use,
)
from ollamad.types import Device, ModelFacts

GB = 10**9


def device(name: str, free_gb: float, *, integrated: bool = False) -> Device:
    kind = name.rstrip("0123456789").lower()
    return Device(name, kind, name, int(free_gb * GB), int(free_gb * GB), integrated)


CUDA_14 = Device("CUDA0", "cuda", "", 14 * GIB, 14 * GIB)
CUDA_6 = Device("CUDA0", "cuda", "", 6 * GIB, 6 * GIB)


@pytest.mark.parametrize(
    ("ctx", "predicted", "room", "flash", "devices", "batch"),
    [
        pytest.param(4096, None, None, None, (), 512, id="BAT-01"),
        pytest.param(32768, None, None, None, (), 1024, id="BAT-02"),
        pytest.param(131072, 8 * GIB, 14 * GIB, None, (), 2048, id="BAT-03"),
        pytest.param(131072, 9 * GIB, 14 * GIB, None, (), 1024, id="BAT-04"),
        pytest.param(131072, 8 * GIB, 11 * GIB, None, (), 1024, id="BAT-05"),
        pytest.param(32768, 8500 * MIB, 11 * GIB, None, (), 512, id="BAT-06"),
        pytest.param(131072, 8 * GIB, 14 * GIB, False, (CUDA_14,), 512, id="BAT-07"),
        pytest.param(131072, 3 * GIB, 6 * GIB, False, (CUDA_6,), 256, id="BAT-08"),
    ],
)
def test_automatic_batch(ctx, predicted, room, flash, devices, batch):
    """The batch grows with the context and shrinks until it fits beside the model."""
    assert automatic_batch(ctx, predicted, room, flash_attention=flash, devices=devices) == batch


@pytest.mark.parametrize(
    ("host_gb", "devices", "room_gb", "limited"),
    [
        pytest.param(80, [device("Metal0", 300, integrated=True)], 80, True, id="MEM-01"),
        pytest.param(6, [device("Vulkan0", 12, integrated=True)], 6, True, id="MEM-02"),
        pytest.param(6, [device("Metal0", 12)], 12, False, id="MEM-03"),
        pytest.param(6, [device("CUDA0", 12)], 12, False, id="MEM-04"),
        pytest.param(6, [device("CUDA0", 12), device("Vulkan0", 10, integrated=True)], 18, True, id="MEM-05"),
        pytest.param(20, [device("Metal0", 12, integrated=True)], 12, False, id="MEM-06"),
    ],
)
def test_available(host_gb, devices, room_gb, limited):
    """Discrete devices add up; integrated ones share what the host has free."""
    found = available(devices, host_gb * GB)
    assert (found.bytes, found.limited_by_host) == (room_gb * GB, limited)


@pytest.mark.parametrize(
    ("devices", "predicted_gb", "options", "chosen", "main"),
    [
        pytest.param([device("CUDA0", 10), device("CUDA1", 20)], 8, {}, ["CUDA1"], 0, id="PLC-01"),
        pytest.param(
            [device("CUDA0", 10), device("ROCm0", 20), device("ROCm1", 24)],
            8,
            {"main_gpu": 1},
            ["ROCm1"],
            0,
            id="PLC-02",
        ),
        pytest.param([device("Metal0", 32, integrated=True), device("Metal1", 16)], 12, {}, ["Metal1"], 0, id="PLC-03"),
        pytest.param(
            [device("Vulkan0", 32, integrated=True), device("Vulkan1", 10)], 8, {}, ["Vulkan1"], 0, id="PLC-04"
        ),
        pytest.param(
            [device("CUDA0", 10), device("CUDA1", 20)], 8, {"spread": True}, ["CUDA0", "CUDA1"], None, id="PLC-05"
        ),
        pytest.param(
            [device("CUDA0", 10), device("CUDA1", 18), device("ROCm0", 12)],
            30,
            {},
            ["CUDA0", "CUDA1"],
            None,
            id="PLC-06",
        ),
    ],
)
def test_choice_of_devices(devices, predicted_gb, options, chosen, main):
    """One device that holds all comes before a group, discrete before integrated, more room before less."""
    choice = choose_devices(devices, predicted_gb * GB, host_free=14 * GB, **options)
    assert ([device.id for device in choice.devices], choice.main_gpu) == (chosen, main)


def test_main_gpu_that_nobody_has_is_passed_on():
    """A device index that no group has keeps the best group and the index."""
    choice = choose_devices([device("CUDA0", 10), device("CUDA1", 20)], GB, host_free=0, main_gpu=7)
    assert ([d.id for d in choice.devices], choice.main_gpu) == (["CUDA0", "CUDA1"], 7)


CUDA, METAL = [device("CUDA0", 24)], [device("Metal0", 24, integrated=True)]


@pytest.mark.parametrize(
    ("system", "num_gpu", "use_mmap", "devices", "more", "reason"),
    [
        pytest.param("windows", -1, True, CUDA, {}, None, id="MMP-01"),
        pytest.param("linux", 0, None, CUDA, {}, "cpu", id="MMP-02"),
        pytest.param("linux", -1, None, [], {}, "cpu", id="MMP-03"),
        pytest.param("windows", -1, None, CUDA, {}, "windows_cuda", id="MMP-04"),
        pytest.param("darwin", 10, None, METAL, {"block_count": 20}, "metal_partial_offload", id="MMP-05"),
        pytest.param("darwin", 21, None, METAL, {"block_count": 20}, None, id="MMP-06"),
        pytest.param(
            "darwin", -1, None, METAL, {"predicted": 30, "available_bytes": 20}, "metal_partial_offload", id="MMP-07"
        ),
        pytest.param("darwin", -1, None, METAL, {"predicted": 10, "available_bytes": 20}, None, id="MMP-08"),
        pytest.param("linux", -1, None, CUDA, {}, None, id="MMP-09"),
    ],
)
def test_mmap_default(system, num_gpu, use_mmap, devices, more, reason):
    """Mapping is turned off where it only costs; what somebody asked for stays."""
    assert mmap_off_reason(system=system, num_gpu=num_gpu, use_mmap=use_mmap, devices=devices, **more) == reason


@pytest.mark.parametrize(
    ("system", "use_mmap", "integrated", "predicted_gb", "reason"),
    [
        pytest.param("linux", None, False, 30, "host_pressure", id="HPR-01"),
        pytest.param("linux", True, False, 30, None, id="HPR-02"),
        pytest.param("darwin", None, False, 30, None, id="HPR-03"),
        pytest.param("linux", None, True, 30, None, id="HPR-04"),
        pytest.param("linux", None, False, 70, None, id="HPR-05"),
    ],
)
def test_mmap_under_host_pressure(system, use_mmap, integrated, predicted_gb, reason):
    """A model that fits into discrete GPUs is not mapped when main memory is short."""
    found = mmap_off_reason(
        system=system,
        num_gpu=-1,
        use_mmap=use_mmap,
        devices=[device("CUDA0", 80, integrated=integrated)],
        predicted=predicted_gb * GB,
        available_bytes=80 * GB,
        host=HostMemory(100 * GB, 50 * GB),
        file_bytes=20 * GB,
        mapped_bytes=25 * GB,
    )
    assert found == reason


def test_tracked_use_lowers_free_memory():
    """SCH-18, SCH-33: what loaded runners take is not free, whatever the device reports."""
    two = (Device("0", "cuda", "", 1000, 900), Device("1", "cuda", "", 2000, 1900))
    assert [d.free_bytes for d in with_tracked_use(two, {"0": 175, "1": 125})] == [825, 1875]
    assert [d.free_bytes for d in with_tracked_use(two, {"0": 5000})] == [0, 1900]
    (one,) = with_tracked_use([device("CUDA0", 24)], {"CUDA0": 12 * GB})
    assert one.free_bytes == 12 * GB


def test_prediction_counts_keys_and_values():
    """SCH-25: one layer, 32 heads of 128 and 65536 tokens are 1 GiB; quantised numbers take less."""
    facts = ModelFacts(block_count=1, head_count_max=32, head_count_kv_min=32, embedding_length=4096)
    assert kv_bytes(facts, 65536) == GIB
    assert predict(facts, 100, 65536) == GIB + 100
    assert kv_bytes(facts, 65536, "q8_0") == GIB * 34 // 64
    assert kv_bytes(ModelFacts(), 65536) == 0


@pytest.mark.parametrize(
    ("gib", "tokens"), [((), 4096), ((22,), 4096), ((23,), 32768), ((12, 12), 32768), ((46,), 32768), ((47,), 262144)]
)
def test_context_tier(gib, tokens):
    """The default context grows with the memory of all GPUs together."""
    devices = [Device(str(n), "cuda", "", size * GIB, 0) for n, size in enumerate(gib)]
    assert context_tier([*devices, Device("cpu", "cpu", "", 500 * GIB, 0)]) == tokens


def test_overhead_never_makes_memory():
    """An overhead larger than a GPU counts that GPU as nothing."""
    assert context_tier([Device("0", "cuda", "", 10 * GIB, 0), Device("1", "cuda", "", 50 * GIB, 0)], 20 * GIB) == 32768


def test_lower_tier():
    """A failed load comes down one tier, and not below the smallest."""
    assert [lower_tier(n) for n in (262144, 32769, 32768, 4097, 4096, 4)] == [32768, 32768, 4096, 4096, None, None]
