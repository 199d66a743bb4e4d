"""Manifests on disk: which files count, how they are replaced, what the cache sees."""

import errno
import hashlib
import os
from pathlib import Path

import pytest

from ollamad import names
from ollamad.errors import InvalidName, ModelNotFound, StoreError
from ollamad.names import parse_name
from ollamad.store.tree import ManifestTree
from ollamad.types import ModelName

TAGS = (
    *("latest", "q4_0", "q4_1", "q8_0", "q5_0", "q5_1", "q2_K", "q3_K_S"),
    *("q3_K_M", "q3_K_L", "q4_K_S", "q4_K_M", "q5_K_S", "q5_K_M", "q6_K"),
)
NAME = parse_name("test")


@pytest.fixture
def tree(root: Path) -> ManifestTree:
    return ManifestTree(root / "manifests", root / "blobs")


def put(tree: ManifestTree, path: str, data: bytes = b"{}") -> Path:
    file = tree.directory / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(data)
    return file


@pytest.mark.parametrize(
    ("paths", "count"),
    [
        ([], 0),
        (["host/namespace/model/tag"], 1),
        ([f"registry.ollama.ai/library/llama3/{tag}" for tag in TAGS], 15),
        (["host/namespace/model/tag", "host/namespace/model/.hidden"], 1),
        (["host/namespace/model/tag/one", "host/namespace/model/tag/another/one"], 0),
        (["host/namespace/model/TAG"], 1),
        (["host/namespace/MODEL/tag"], 1),
        (["host/NAMESPACE/model/tag"], 1),
        (["HOST/namespace/model/tag"], 1),
        (["tag", "model/tag", "namespace/model/tag", "host/name.space/model/tag"], 0),
    ],
)
def test_which_files_are_listed(tree: ManifestTree, paths: list[str], count: int) -> None:
    """C1: only files four levels deep whose path is a valid name."""
    for path in paths:
        put(tree, path)
    readable, broken = tree.scan()
    assert len(readable) == len(tree.names()) == count
    assert broken == ()
    assert {names.relative_path(name) for name in tree.names()} <= set(paths)


def test_order_of_names(tree: ManifestTree) -> None:
    """Names come sorted level by level, not as joined texts."""
    for path in ("h/n/m/t", "h/n/m-x/t", "h/n/M/t", "a/n/z/t"):
        put(tree, path)
    assert [names.relative_path(name) for name in tree.names()] == ["a/n/z/t", "h/n/M/t", "h/n/m/t", "h/n/m-x/t"]


def test_broken_manifests_are_told_apart(tree: ManifestTree, caplog: pytest.LogCaptureFixture) -> None:
    """A file that is no manifest is skipped with a warning, and is an error when asked for."""
    put(tree, "h/n/good/t")
    put(tree, "h/n/bad/t", b"no json")
    readable, broken = tree.scan()
    assert [stored.name.model for stored in readable] == ["good"]
    assert [name.model for name in broken] == ["bad"]
    assert "h/n/bad:t" in caplog.text
    with pytest.raises(StoreError, match="manifest of h/n/bad:t is not valid"):
        tree.read(ModelName("h", "n", "bad", "t"))


def test_a_giant_is_no_manifest(tree: ManifestTree) -> None:
    """A file far too long is skipped, not read into memory."""
    file = put(tree, "h/n/m/t")
    os.truncate(file, 2**34)
    assert tree.scan()[0] == ()


def test_missing_names(tree: ManifestTree) -> None:
    """What is not there is not found, also where a file stands in the way of a directory."""
    with pytest.raises(ModelNotFound) as caught:
        tree.read(NAME)
    assert caught.value.short_name == "test:latest"
    put(tree, "registry.ollama.ai", b"")
    for action in (tree.read, tree.read_bytes, tree.remove):
        with pytest.raises(ModelNotFound):
            action(NAME)
    with pytest.raises(InvalidName):
        tree.read(parse_name("-"))


def test_a_name_too_long_for_a_file(tree: ManifestTree) -> None:
    """A valid name whose host is longer than a file's name may be is not found, and cannot be written."""
    name = ModelName("h" * 350, "n", "m", "t")
    assert not tree.exists(name)
    with pytest.raises(ModelNotFound):
        tree.read(name)
    with pytest.raises(StoreError, match=r"^file name too long: ensure path elements are traversable$"):
        tree.publish(name, b"{}")


def test_publish_and_read(tree: ManifestTree) -> None:
    """A published manifest is the given bytes with mode 0644, and its digest is that of the file."""
    tree.publish(NAME, b'{"schemaVersion":2}\n')
    path = tree.directory / "registry.ollama.ai/library/test/latest"
    assert path.read_bytes() == tree.read_bytes(NAME) == b'{"schemaVersion":2}\n'
    assert path.stat().st_mode & 0o777 == 0o644
    stored = tree.read(NAME)
    assert stored.digest == hashlib.sha256(path.read_bytes()).hexdigest()
    assert (stored.modified_ns, stored.file_size_bytes) == (path.stat().st_mtime_ns, 20)
    assert list((tree.directory.parent / "blobs").iterdir()) == []


def test_the_cache_follows_the_disk(tree: ManifestTree) -> None:
    """A manifest is parsed once while its file stays, and again when it was replaced or changed in place."""
    tree.publish(NAME, b'{"schemaVersion":1}')
    first = tree.read(NAME)
    assert tree.read(NAME) is first
    assert tree.scan()[0] == (first,)
    assert tree.scan()[0][0] is first
    tree.publish(NAME, b'{"schemaVersion":2}')
    assert tree.read(NAME).manifest.schema_version == 2
    put(tree, names.relative_path(NAME), b'{"schemaVersion":30}')
    assert tree.read(NAME).manifest.schema_version == 30
    tree.remove(NAME)
    assert tree.scan() == ((), ())
    assert tree._seen == {}


def test_another_file_system_for_blobs(tree: ManifestTree, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where `blobs/` is on another file system, the temporary file lies hidden beside its target."""
    real = os.replace
    seen: list[str] = []

    def replace(source: Path, target: Path) -> None:
        seen.append(source.name)
        if source.parent != target.parent:
            raise OSError(errno.EXDEV, "Invalid cross-device link")
        real(source, target)

    monkeypatch.setattr(os, "replace", replace)
    tree.publish(NAME, b"{}")
    assert tree.read_bytes(NAME) == b"{}"
    assert [name.startswith(".sha256-") for name in seen] == [False, True]
    assert [path.name for path in tree.directory.rglob("*") if path.is_file()] == ["latest"]


def test_a_directory_that_vanishes(tree: ManifestTree, monkeypatch: pytest.MonkeyPatch) -> None:
    """A directory that another server prunes between our making and our using it is made again."""
    real = os.replace
    attempts: list[int] = []

    def replace(source: Path, target: Path) -> None:
        attempts.append(1)
        if len(attempts) < 3:
            target.parent.rmdir()
        real(source, target)

    monkeypatch.setattr(os, "replace", replace)
    tree.publish(NAME, b"{}")
    assert tree.exists(NAME)
    assert len(attempts) == 3


def test_a_file_in_the_way(tree: ManifestTree) -> None:
    """A file where a directory has to be is a `StoreError` without a path."""
    put(tree, "registry.ollama.ai", b"")
    with pytest.raises(StoreError) as caught:
        tree.publish(NAME, b"{}")
    assert str(caught.value) == "not a directory: ensure path elements are traversable"


def test_removing_prunes_directories(tree: ManifestTree) -> None:
    """Removing the last name removes all empty directories, but no link and nothing behind it."""
    tree.publish(NAME, b"{}")
    tree.publish(parse_name("other"), b"{}")
    tree.remove(NAME)
    assert [path.name for path in (tree.directory / "registry.ollama.ai/library").iterdir()] == ["other"]
    outside = tree.directory.parent / "outside"
    (outside / "empty").mkdir(parents=True)
    (tree.directory / "link").symlink_to(outside)
    tree.remove(parse_name("other"))
    assert [path.name for path in tree.directory.iterdir()] == ["link"]
    assert (outside / "empty").is_dir()
    (tree.directory / "link").unlink()
    tree.prune_directories()
    assert not tree.directory.exists()
    tree.prune_directories()


def test_linked_directories_are_listed(tree: ManifestTree, tmp_path: Path) -> None:
    """A namespace that is a link to a directory counts; a link to nowhere does not."""
    (tmp_path / "elsewhere/model").mkdir(parents=True)
    (tmp_path / "elsewhere/model/tag").write_bytes(b"{}")
    (tree.directory / "host").mkdir(parents=True)
    (tree.directory / "host/linked").symlink_to(tmp_path / "elsewhere")
    put(tree, "host/n/m/t").unlink()
    (tree.directory / "host/n/m/t").symlink_to(tmp_path / "nowhere")
    assert [names.full(stored.name) for stored in tree.scan()[0]] == ["host/linked/model:tag"]


def test_old_temporary_files_go(tree: ManifestTree) -> None:
    """A hidden leftover of an interrupted write goes when it is old; other hidden files stay."""
    old = put(tree, "h/n/m/.sha256-0011")
    kept = put(tree, "h/n/m/.hidden")
    young = put(tree, "h/n/m/.sha256-2233")
    for path, when in ((old, 1000), (kept, 1000), (young, 3000)):
        os.utime(path, (when, when))
    assert tree.remove_temporary(2000) == 1
    assert (old.exists(), kept.exists(), young.exists()) == (False, True, True)
