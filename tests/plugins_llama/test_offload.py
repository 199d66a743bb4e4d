"""A placement in llama.cpp's numbers."""

from __future__ import annotations

import pytest
from ollamad_llama.offload import Offload, offload_of

from ollamad.types import Placed
from ollamad.wire.messages import LoadSpec


def gpu(name: str, layers: int) -> Placed:
    return Placed(name, "cuda", layers, 0)


@pytest.mark.parametrize(
    ("placement", "main_gpu", "expected"),
    [
        ((), None, Offload()),
        ((Placed("CPU", "cpu", 32, 0),), None, Offload()),
        ((gpu("CUDA0", 0),), None, Offload()),
        ((gpu("CUDA0", 20), Placed("CPU", "cpu", 12, 0)), None, Offload(20, ("CUDA0",))),
        ((gpu("CUDA0", -1),), None, Offload(-1, ("CUDA0",))),
        ((gpu("CUDA0", 20), gpu("CUDA1", 10)), None, Offload(30, ("CUDA0", "CUDA1"), (20.0, 10.0))),
        ((gpu("CUDA0", -1), gpu("CUDA1", -1)), 1, Offload(-1, ("CUDA0", "CUDA1"), (), 1)),
        ((gpu("CUDA0", -1),), 3, Offload(-1, ("CUDA0",))),
    ],
)
def test_placement_becomes_offload(placement: tuple[Placed, ...], main_gpu: int | None, expected: Offload) -> None:
    """Layers are added up, shares follow the layers, and a main GPU must be one of the placed."""
    assert offload_of(LoadSpec("llama-cuda", (), placement=placement, main_gpu=main_gpu)) == expected
