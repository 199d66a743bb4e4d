"""The store at start."""

import logging
import os
from pathlib import Path

import pytest

from ollamad.daemon.upkeep import tidy
from ollamad.store import FileLock, Store

OLD = 1_000_000_000


def store(root: Path) -> Store:
    return Store(root / "models", lock=FileLock(root / "lock"))


def blob(root: Path, name: str) -> Path:
    path = root / "models" / "blobs" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x")
    os.utime(path, (OLD, OLD))
    return path


async def test_old_names_and_unused_blobs(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Blobs of old stores are renamed, then those that nothing uses are removed and counted."""
    old = blob(tmp_path, "sha256:" + "a" * 64)
    unused = blob(tmp_path, "sha256-" + "b" * 64)
    with caplog.at_level(logging.INFO):
        await tidy(store(tmp_path), prune=True)
    assert not old.exists()
    assert not unused.exists()
    assert any(record.message.startswith("total unused blobs removed: ") for record in caplog.records)


async def test_pruning_can_be_off(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """With ``store.noprune`` nothing is removed and nothing is said."""
    kept = blob(tmp_path, "sha256-" + "b" * 64)
    await tidy(store(tmp_path), prune=False)
    assert kept.exists()
    assert caplog.text == ""


async def test_a_broken_manifest_keeps_everything(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """While a manifest cannot be read nothing is removed, and why is logged."""
    kept = blob(tmp_path, "sha256-" + "b" * 64)
    manifest = tmp_path / "models/manifests/registry.ollama.ai/library/m/latest"
    manifest.parent.mkdir(parents=True)
    manifest.write_text("{")
    await tidy(store(tmp_path), prune=True)
    assert kept.exists()
    assert "corrupt manifests detected, skipping prune operation" in caplog.text


async def test_an_unreadable_store_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A store that cannot be tidied is no reason to end."""
    (tmp_path / "models").write_text("a file, not a directory")
    (tmp_path / "lock").mkdir()
    await tidy(store(tmp_path), prune=True)
    assert "store cannot be tidied" in caplog.text
