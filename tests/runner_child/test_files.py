"""Names without paths become files."""

from __future__ import annotations

from pathlib import Path

import pytest

from ollamad.runner_child.files import resolve
from ollamad.types import WeightsRef
from ollamad.wire.messages import LoadSpec


def test_blobs_and_the_demo_are_found(tmp_path: Path) -> None:
    """A digest is a file of the store; the demo model is package data."""
    (tmp_path / "blobs").mkdir()
    blob = tmp_path / "blobs" / "sha256-ab"
    blob.write_bytes(b"x")
    spec = LoadSpec("b", (WeightsRef("sha256:ab", 1), WeightsRef("sha256:demo", 1, "demo")))
    found = resolve(spec, tmp_path)
    assert found["sha256:ab"] == blob
    assert found["sha256:demo"].name == "demo.gguf"
    assert found["sha256:demo"].is_file()


def test_a_missing_one_is_named_by_its_digest(tmp_path: Path) -> None:
    """Adapters count as well; no path is told."""
    spec = LoadSpec("b", (), adapters=(WeightsRef("sha256:cd", 1),))
    with pytest.raises(FileNotFoundError) as caught:
        resolve(spec, tmp_path)
    assert str(caught.value) == "the file of sha256:cd is missing"
