"""Runs models on NVIDIA GPUs, with a llama.cpp that was built for CUDA."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from ollamad.plugin import Backend, Device, LoadProgress, LoadSpec, Model, hookimpl
from ollamad_llama.offload import offload_of

#: Name of the ggml registry. Source: ggml-cuda.h, GGML_CUDA_NAME.
REGISTRY = "CUDA"


class CudaBackend(Backend):
    """Available where the installed llama.cpp knows CUDA and a device answers."""

    name = "llama-cuda"

    def devices(self) -> Sequence[Device]:
        """The devices that llama.cpp's CUDA part finds; none if it was built without."""
        from ollamad_llama import binding

        return binding.devices(REGISTRY)

    def load(self, spec: LoadSpec, files: Mapping[str, Path], progress: LoadProgress) -> Model:
        from ollamad_llama import binding

        return binding.load(spec, files, progress, offload_of(spec))


@hookimpl
def ollamad_register_backends(register: Callable[[Backend], None]) -> None:
    register(CudaBackend())
