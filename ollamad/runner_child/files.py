"""Turns the weights of a `LoadSpec`, named without paths, into files of this host."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

from ollamad.types import WeightsRef
from ollamad.wire.messages import LoadSpec


def resolve(spec: LoadSpec, store_root: Path) -> dict[str, Path]:
    """Return a file for each digest of *spec*.

    Raises:
        FileNotFoundError: One is missing; the message names the digest, not the path.
    """
    found = {}
    for ref in (*spec.weights, *spec.adapters, *spec.projectors, *spec.draft):
        path = _path(ref, store_root)
        if not path.is_file():
            raise FileNotFoundError(f"the file of {ref.digest} is missing")
        found[ref.digest] = path
    return found


def _path(ref: WeightsRef, store_root: Path) -> Path:
    if ref.source == "demo":
        return Path(str(files("ollamad") / "_data" / "demo.gguf"))
    algorithm, _, digits = ref.digest.partition(":")
    return store_root / "blobs" / f"{algorithm}-{digits}"
