"""Runs models on the CPU."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from ollamad.plugin import Backend, Device, LoadProgress, LoadSpec, Model, hookimpl
from ollamad_llama.host_memory import host_memory
from ollamad_llama.offload import Offload


class CpuBackend(Backend):
    """Always available; whatever a placement says, nothing leaves the CPU."""

    name = "llama-cpu"

    def devices(self) -> Sequence[Device]:
        """One device: this machine's processor with the memory that this process may use."""
        from ollamad_llama import binding

        total, free = host_memory()
        return [replace(one, total_bytes=total, free_bytes=free) for one in binding.devices("CPU")[:1]]

    def load(self, spec: LoadSpec, files: Mapping[str, Path], progress: LoadProgress) -> Model:
        from ollamad_llama import binding

        return binding.load(spec, files, progress, Offload())


@hookimpl
def ollamad_register_backends(register: Callable[[Backend], None]) -> None:
    register(CpuBackend())
