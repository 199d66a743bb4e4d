"""Which devices a model goes to, and whether it fits: pure arithmetic over headers, devices and what is loaded.

Nothing here knows a request, a runner or the state of the scheduler. Source: runtime contract, fit
estimate and GPU choice, automatic batch size, mmap defaults.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

from ollamad.types import Device, ModelFacts

GIB = 2**30
MIB = 2**20

#: Context length by total GPU memory. 47 and 23 stand for cards sold as 48 and 24 GiB.
CONTEXT_TIERS = ((47 * GIB, 262144), (23 * GIB, 32768))
SMALLEST_TIER = 4096

#: Scratch memory that a bigger batch costs.
BATCH_SURCHARGE = {2048: 2 * GIB, 1024: 768 * MIB}

#: Bytes per cached number: 32 numbers share one 16-bit scale in the quantised forms.
KV_BYTES = {"f16": 2.0, "q8_0": 34 / 32, "q4_0": 18 / 32}

MmapReason: TypeAlias = Literal["cpu", "windows_cuda", "metal_partial_offload", "host_pressure"]


@dataclass(frozen=True, slots=True)
class HostMemory:
    """Main memory. 0: unknown."""

    total_bytes: int = 0
    free_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Available:
    """Memory of a group of devices; ``limited_by_host`` if an integrated one made main memory count."""

    bytes: int
    limited_by_host: bool = False


@dataclass(frozen=True, slots=True)
class Choice:
    """The devices of a launch. ``main_gpu`` is an index into ``devices``."""

    devices: tuple[Device, ...]
    main_gpu: int | None = None


def gpus(devices: Iterable[Device]) -> tuple[Device, ...]:
    """The devices that are not the processor itself."""
    return tuple(device for device in devices if device.kind != "cpu")


def kv_bytes(facts: ModelFacts, total_ctx: int, kv_type: str = "f16") -> int:
    """Bytes of keys and values of *total_ctx* tokens, by the model's header."""
    heads = facts.head_count_kv_min or 1
    head_dim = facts.embedding_length // facts.head_count_max if facts.head_count_max else 0
    return int(2 * facts.block_count * heads * head_dim * total_ctx * KV_BYTES.get(kv_type, 2.0))


def predict(facts: ModelFacts, size_bytes: int, total_ctx: int, kv_type: str = "f16") -> int:
    """Bytes that a load will take: the main file and its keys and values."""
    return size_bytes + kv_bytes(facts, total_ctx, kv_type)


def most(available: int) -> int:
    """Four fifths: what may be planned of *available*, since an estimate leaves scratch memory out."""
    return available * 4 // 5


def available(devices: Iterable[Device], host_free: int) -> Available:
    """Memory of a group: discrete devices add up, integrated ones share what the host has free."""
    discrete = integrated = 0
    shared = False
    for device in devices:
        if device.integrated:
            shared = True
            integrated += device.free_bytes
        else:
            discrete += device.free_bytes
    if not shared:
        return Available(discrete)
    limited = integrated > host_free
    # A group with an integrated device beside discrete ones is always counted as bound to the host.
    return Available(discrete + min(integrated, host_free), limited)


def with_tracked_use(devices: Iterable[Device], used: Mapping[str, int]) -> tuple[Device, ...]:
    """Lower each device's free memory to what loaded runners leave of its total."""
    return tuple(
        replace(device, free_bytes=min(device.free_bytes, max(0, device.total_bytes - used[device.id])))
        if used.get(device.id)
        else device
        for device in devices
    )


def context_tier(devices: Iterable[Device], overhead_bytes: int = 0) -> int:
    """The default context length for the GPUs of this machine."""
    total = sum(max(0, device.total_bytes - overhead_bytes) for device in gpus(devices))
    return next((tokens for floor, tokens in CONTEXT_TIERS if total >= floor), SMALLEST_TIER)


def lower_tier(num_ctx: int) -> int | None:
    """The next smaller tier after a failed load; None when there is none."""
    if num_ctx > 32768:
        return 32768
    return SMALLEST_TIER if num_ctx > SMALLEST_TIER else None


def automatic_batch(
    total_ctx: int,
    predicted: int | None,
    available_bytes: int | None,
    *,
    flash_attention: bool | None = None,
    devices: Sequence[Device] = (),
) -> int:
    """The batch size of a completion model that nobody set one for. None and 0 are unknown and fit."""
    cuda = [device for device in devices if device.kind == "cuda"]
    if flash_attention is False and cuda:
        small = any(_free_or_total(device) <= 8 * GIB for device in cuda)
        return 256 if total_ctx > 4096 and small else 512
    batch = 2048 if total_ctx > 32768 else 1024 if total_ctx > 4096 else 512
    while batch > 512 and not _batch_fits(batch, predicted, available_bytes):
        batch //= 2
    return batch


def _free_or_total(device: Device) -> int:
    return device.free_bytes if 0 < device.free_bytes <= device.total_bytes else device.total_bytes


def _batch_fits(batch: int, predicted: int | None, available_bytes: int | None) -> bool:
    if not predicted or not available_bytes:
        return True
    share = {2048: 60, 1024: 75}.get(batch, 80)
    room = most(available_bytes)
    return (
        predicted <= room
        and predicted * 100 <= available_bytes * share
        and BATCH_SURCHARGE.get(batch, 0) <= room - predicted
    )


def choose_devices(
    devices: Sequence[Device],
    predicted: int,
    *,
    host_free: int,
    main_gpu: int | None = None,
    num_gpu: int = -1,
    spread: bool = False,
) -> Choice:
    """Pick the devices of a launch among GPUs: one that holds all, else the best group of one kind."""
    if len(devices) <= 1 or num_gpu == 0:
        return Choice(tuple(devices), main_gpu)
    groups: dict[str, list[Device]] = {}
    for device in devices:
        groups.setdefault(device.kind, []).append(device)

    def rank(device: Device) -> tuple[bool, int]:
        return not device.integrated, available([device], host_free).bytes

    if main_gpu is not None:
        named = [group[main_gpu] for group in groups.values() if 0 <= main_gpu < len(group)]
        if named:
            return Choice((max(named, key=rank),), 0)
    elif not spread:
        enough = [d for d in devices if predicted <= most(available([d], host_free).bytes)]
        if enough:
            return Choice((max(enough, key=rank),), 0)
    best = max(
        groups.values(),
        key=lambda group: (any(not d.integrated for d in group), available(group, host_free).bytes),
    )
    return Choice(tuple(best), main_gpu)


def is_partial_offload(num_gpu: int, block_count: int) -> bool:
    """Whether somebody asked for some layers on the GPU, not all: then nothing is refused for size."""
    return 0 < num_gpu < block_count + 1


def mmap_off_reason(
    *,
    system: str,
    num_gpu: int,
    use_mmap: bool | None,
    devices: Sequence[Device],
    block_count: int = 0,
    predicted: int = 0,
    available_bytes: int = 0,
    host: HostMemory = HostMemory(),
    file_bytes: int = 0,
    mapped_bytes: int = 0,
) -> MmapReason | None:
    """Why mapping the file is turned off when nobody said; None when it stays as it is.

    *system* is ``linux``, ``darwin`` or ``windows``; *mapped_bytes* are the files of loaded models that are mapped.
    """
    if use_mmap is not None:
        return None
    if num_gpu == 0 or not gpus(devices):
        return "cpu"
    kinds = {device.kind for device in devices}
    if system == "windows" and "cuda" in kinds:
        return "windows_cuda"
    if "metal" in kinds:
        partial = 0 <= num_gpu < block_count + 1 if num_gpu >= 0 else predicted > available_bytes
        return "metal_partial_offload" if partial else None
    if system == "linux" and not any(device.integrated for device in devices):
        reserve = max(8 * 10**9, host.total_bytes // 10)
        tight = host.free_bytes < file_bytes + mapped_bytes + reserve
        if host.free_bytes and tight and predicted and predicted <= most(available_bytes):
            return "host_pressure"
    return None
