"""The daemon's own small files."""

import os
from pathlib import Path

import pytest

from ollamad.errors import StoreError
from ollamad.state import State


def test_the_hidden_demo(tmp_path: Path) -> None:
    """The mark is remembered across processes, can be set twice, and taken back twice."""
    state = State(tmp_path / "state")
    assert not state.demo_hidden
    assert not (tmp_path / "state").exists()
    state.hide_demo()
    state.hide_demo()
    assert State(tmp_path / "state").demo_hidden
    state.show_demo()
    state.show_demo()
    assert not state.demo_hidden


def test_small_files(tmp_path: Path) -> None:
    """A file is replaced as a whole and private to its owner's directory."""
    state = State(tmp_path / "state")
    assert state.read("x") is None
    state.write("x", b"1")
    state.write("x", b"22")
    assert state.read("x") == b"22"
    assert [path.name for path in state.root.iterdir()] == ["x"]
    assert state.root.stat().st_mode & 0o777 == 0o700
    state.remove("x")
    state.remove("x")
    assert state.read("x") is None


def test_a_failed_write_keeps_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the disk refuses, the old bytes stay and no temporary file is left; the text has no path."""
    state = State(tmp_path / "state")
    state.write("x", b"old")

    def refuse(*_: object) -> None:
        raise OSError(28, "No space left on device", "/secret")

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(StoreError) as caught:
        state.write("x", b"new")
    assert str(caught.value) == "state directory: no space left on device"
    assert [(path.name, path.read_bytes()) for path in state.root.iterdir()] == [("x", b"old")]


def test_a_file_in_the_way(tmp_path: Path) -> None:
    """A state directory that is a file reads as empty and refuses to be written."""
    (tmp_path / "state").write_bytes(b"")
    state = State(tmp_path / "state")
    assert state.read("x") is None
    assert not state.demo_hidden
    with pytest.raises(StoreError):
        state.write("x", b"")
    with pytest.raises(StoreError):
        State(tmp_path).remove("state/x")


def test_a_directory_in_the_way(tmp_path: Path) -> None:
    """What cannot be read is an error, not an absence."""
    (tmp_path / "x").mkdir()
    with pytest.raises(StoreError, match="is a directory"):
        State(tmp_path).read("x")


def test_lock_paths(tmp_path: Path) -> None:
    """Each store has a lock file of its own, the same by whatever way its root is named."""
    state = State(tmp_path / "state")
    (tmp_path / "a").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "a")
    assert state.lock_path(tmp_path / "a") == state.lock_path(tmp_path / "link")
    assert state.lock_path(tmp_path / "a") != state.lock_path(tmp_path / "b")
    assert state.lock_path(tmp_path / "a").parent == state.root
