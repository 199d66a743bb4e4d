"""What a start does to an old store (appendix C2, C3)."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from ollamad.store import FileLock, Pruned, Store
from ollamad.store.prune import repair_names
from ollamad.store.store import CORRUPT

HEX = "ab" * 32
NOW = 1_000_000.0
Files = Callable[[], set[str]]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (["sha256-1234"], ["sha256-1234"]),
        (["sha256:1234"], ["sha256-1234"]),
        (["sha259:5678"], ["sha259:5678"]),
        (["sha256:abcd"], ["sha256-abcd"]),
        (["x/y/sha256:abcd"], ["x/y/sha256-abcd"]),
        (["x:y/sha256:abcd"], ["x:y/sha256-abcd"]),
        (["x:y/sha256:abcd", "sha256:1234"], ["x:y/sha256-abcd", "sha256-1234"]),
        (["x:y/sha256:abcd", "sha256-1234"], ["x:y/sha256-abcd", "sha256-1234"]),
    ],
)
def test_names_are_repaired(tmp_path: Path, before: list[str], after: list[str]) -> None:
    """C2: old blobs get their new names; directories and other files keep theirs."""
    for path in before:
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_bytes(b"")
    assert repair_names(tmp_path) == sum(a != b for a, b in zip(before, after, strict=True))
    assert {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()} == set(after)


def test_nothing_to_repair(tmp_path: Path) -> None:
    """A store without blobs needs no repair."""
    assert repair_names(tmp_path / "none") == 0


def put(root: Path, name: str, age_s: float) -> None:
    path = root / "blobs" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x")
    os.utime(path, (NOW - age_s, NOW - age_s))


def test_only_what_is_old_and_unused_goes(root: Path, store: Store, files: Files) -> None:
    """C3: unreferenced blobs, partial and temporary files go after an hour; younger ones and directories stay."""
    for age_s, mark in ((7200, "aa"), (600, "bb")):
        put(root, f"sha256-{mark * 32}", age_s)
        put(root, f"sha256-{HEX}-partial-{mark}", age_s)
        put(root, f"sha256-{mark}", age_s)
        put(root, f"notes-{mark}", age_s)
    (root / "blobs" / "directory").mkdir()
    os.utime(root / "blobs" / "directory", (0, 0))
    (root / "manifests/host/namespace").mkdir(parents=True)
    assert store.prune(NOW) == Pruned(blobs=1, temporary=3)
    assert files() == {
        f"blobs/sha256-{'bb' * 32}",
        f"blobs/sha256-{HEX}-partial-bb",
        "blobs/sha256-bb",
        "blobs/notes-bb",
    }
    assert (root / "blobs" / "directory").is_dir()
    assert not (root / "manifests").exists()


def test_what_a_manifest_names_stays(root: Path, store: Store, make_model: Callable[..., object], files: Files) -> None:
    """Layers and configs of readable manifests stay, however old."""
    make_model(store, "one", b"config", b"layer")
    before = files()
    for path in (root / "blobs").iterdir():
        os.utime(path, (0, 0))
    assert store.prune(NOW) == Pruned()
    assert files() == before


def test_the_grace_time_is_given(root: Path, store: Store) -> None:
    """The grace hour is a parameter."""
    put(root, f"sha256-{HEX}", 60)
    assert store.prune(NOW, grace_s=61) == Pruned()
    assert store.prune(NOW, grace_s=59) == Pruned(blobs=1)


def test_a_broken_manifest_stops_everything(root: Path, store: Store, files: Files) -> None:
    """C3: while one manifest cannot be read, nothing is removed."""
    put(root, f"sha256-{HEX}", 7200)
    put(root, "sha256-temporary", 7200)
    path = root / "manifests/h/n/m/t"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"no json")
    before = files()
    assert store.prune(NOW).skipped == CORRUPT
    assert files() == before


def test_noprune(root: Path, tmp_path: Path, files: Files) -> None:
    """With pruning turned off, nothing is removed at the start."""
    put(root, f"sha256-{HEX}", 7200)
    assert Store(root, lock=FileLock(tmp_path / "lock"), noprune=True).prune(NOW).skipped == "pruning is turned off"
    assert len(files()) == 1


def test_another_daemon_prunes(root: Path, store: Store, tmp_path: Path, files: Files) -> None:
    """While another daemon has the lock, this one removes nothing."""
    put(root, f"sha256-{HEX}", 7200)
    with FileLock(tmp_path / "state" / "lock").hold():
        assert store.prune(NOW).skipped == "another daemon works on this store"
    assert len(files()) == 1


def test_pinned_blobs_stay(root: Path, store: Store) -> None:
    """A prune leaves alone what a create of this process works with."""
    put(root, f"sha256-{HEX}", 7200)
    with store.pinned([f"sha256:{HEX}"]):
        assert store.prune(NOW) == Pruned()
    assert store.prune(NOW) == Pruned(blobs=1)


def test_an_empty_place(store: Store) -> None:
    """A store that does not exist yet has nothing to prune and nothing to repair."""
    assert store.prune(NOW) == Pruned()
    assert store.repair_names() == 0
