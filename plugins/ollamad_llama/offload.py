"""Where layers go: a placement turned into the numbers that llama.cpp wants. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from ollamad.plugin import LoadSpec


@dataclass(frozen=True, slots=True)
class Offload:
    """What of a model is given to devices beside the CPU.

    ``gpu_layers`` -1 means all. ``devices`` are names of ggml devices, ``split`` their shares in the same
    order. ``main_gpu`` is an index into ``devices``: that one takes everything.
    """

    gpu_layers: int = 0
    devices: tuple[str, ...] = ()
    split: tuple[float, ...] = ()
    main_gpu: int | None = None


def offload_of(spec: LoadSpec) -> Offload:
    """Return what the placement of *spec* means; without one for a GPU nothing is offloaded."""
    placed = [one for one in spec.placement if one.kind != "cpu" and one.layers != 0]
    if not placed:
        return Offload()
    counted = all(one.layers > 0 for one in placed)
    return Offload(
        gpu_layers=sum(one.layers for one in placed) if counted else -1,
        devices=tuple(one.device_id for one in placed),
        split=tuple(float(one.layers) for one in placed) if counted and len(placed) > 1 else (),
        main_gpu=spec.main_gpu if spec.main_gpu is not None and spec.main_gpu < len(placed) else None,
    )
