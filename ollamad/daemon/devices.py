"""Asks a job for the devices of this machine, and says in the log what was found."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace

from ollamad.jobs.job import Jobs
from ollamad.jobs.probe import probe
from ollamad.scheduler.placement import context_tier, gpus
from ollamad.types import Device

log = logging.getLogger(__name__)


def device_finder(
    jobs: Jobs, *, extra: Sequence[str], disabled: Sequence[str], gpu_overhead_bytes: int
) -> Callable[[], Awaitable[Sequence[Device]]]:
    """A function that probes all backends; only its first answer is logged."""
    told = False

    async def find() -> Sequence[Device]:
        nonlocal told
        if not told:
            log.info("discovering available GPUs...")
        found = []
        for one in await probe(jobs, extra=extra, disabled=disabled):
            if one.error:
                log.warning("backend finds no devices", extra={"backend": one.backend, "error": one.error})
            found += [replace(device, backend=one.backend) for device in one.devices]
        if not told:
            _tell(found, gpu_overhead_bytes)
        told = True
        return found

    return find


def _tell(found: Sequence[Device], gpu_overhead_bytes: int) -> None:
    """One line for each device, and the context length that follows from the GPUs among them."""
    for device in found:
        log.info(
            "inference compute",
            extra={
                "id": device.id,
                "library": device.kind,
                "attributes": {"name": device.backend},
                "description": device.description,
                "type": "iGPU" if device.integrated else "discrete" if device.kind != "cpu" else "cpu",
                "total": binary_size(device.total_bytes),
                "available": binary_size(device.free_bytes),
            },
        )
    total_vram = binary_size(sum(device.total_bytes for device in gpus(found)))
    default_num_ctx = context_tier(found, gpu_overhead_bytes)
    log.info("vram-based default context", extra={"total_vram": total_vram, "default_num_ctx": default_num_ctx})


def binary_size(size_bytes: int) -> str:
    """Bytes as the log prints memory: ``1.5 GiB``. Source: runtime contract 7.2."""
    for unit, name in ((1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")):
        if size_bytes >= unit:
            return f"{size_bytes / unit:.1f} {name}"
    return f"{size_bytes} B"
