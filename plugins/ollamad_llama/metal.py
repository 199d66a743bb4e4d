"""Runs models on the GPU of an Apple machine, with a llama.cpp that was built for Metal."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from ollamad.plugin import Backend, Device, LoadProgress, LoadSpec, Model, hookimpl
from ollamad_llama.offload import offload_of

#: Name of the ggml registry and prefix of its devices. Source: ggml-metal.cpp.
REGISTRY = "MTL"


class MetalBackend(Backend):
    """Available where the installed llama.cpp knows Metal and a device answers."""

    name = "llama-metal"

    def devices(self) -> Sequence[Device]:
        """The devices that llama.cpp's Metal part finds; none if it was built without."""
        from ollamad_llama import binding

        return binding.devices(REGISTRY)

    def load(self, spec: LoadSpec, files: Mapping[str, Path], progress: LoadProgress) -> Model:
        from ollamad_llama import binding

        return binding.load(spec, files, progress, offload_of(spec))


@hookimpl
def ollamad_register_backends(register: Callable[[Backend], None]) -> None:
    register(MetalBackend())
