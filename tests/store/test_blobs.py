"""Blobs: hashed while written, visible when whole, touched when used again."""

import hashlib
import os
import tracemalloc
from pathlib import Path

import pytest

from ollamad.errors import BlobNotFound, DigestMismatch, InvalidRequest, StoreError
from ollamad.store import Store
from ollamad.store.blobs import Blobs

HELLO = f"sha256:{hashlib.sha256(b'hello').hexdigest()}"
OTHER = f"sha256:{'0' * 64}"


@pytest.fixture
def blobs(root: Path) -> Blobs:
    return Blobs(root / "blobs")


def names_in(blobs: Blobs) -> list[str]:
    return sorted(os.listdir(blobs.directory))


def test_a_blob_appears_with_its_commit(blobs: Blobs) -> None:
    """Before the commit there is one temporary file, after it one blob with mode 0644."""
    with blobs.writer() as writer:
        writer.write(b"hel")
        writer.write(bytearray(b"lo"))
        (temporary,) = names_in(blobs)
        assert temporary.startswith("sha256-")
        assert len(temporary) < len("sha256-") + 64
        written = writer.commit(HELLO)
    assert (written.digest, written.size_bytes, written.created) == (HELLO, 5, True)
    assert names_in(blobs) == [HELLO.replace(":", "-")]
    assert blobs.path(HELLO).read_bytes() == b"hello"
    assert blobs.path(HELLO).stat().st_mode & 0o777 == 0o644


def test_the_same_bytes_again(blobs: Blobs) -> None:
    """A second write of the same bytes touches the blob and drops the temporary file."""
    blobs.write(b"hello")
    os.utime(blobs.path(HELLO), (1000, 1000))
    before = blobs.path(HELLO).stat()
    assert not blobs.write(b"hello").created
    after = blobs.path(HELLO).stat()
    assert after.st_ino == before.st_ino
    assert after.st_mtime > before.st_mtime
    assert len(names_in(blobs)) == 1


def test_a_torn_blob_is_replaced(blobs: Blobs) -> None:
    """A file of the wrong length under the name, as a power cut leaves it, is replaced."""
    blobs.write(b"hello")
    blobs.path(HELLO).write_bytes(b"he")
    assert blobs.write(b"hello").created
    assert blobs.read(HELLO) == b"hello"


def test_a_wrong_digest(blobs: Blobs) -> None:
    """Bytes that hash to something else are an error that names both digests, and are kept under their own."""
    with blobs.writer() as writer:
        writer.write(b"hello")
        with pytest.raises(DigestMismatch) as caught:
            writer.commit(OTHER)
    assert str(caught.value) == f'digest mismatch, expected "{OTHER}", got "{HELLO}"'
    assert names_in(blobs) == [HELLO.replace(":", "-")]


@pytest.mark.parametrize("expected", [HELLO.upper().replace("SHA", "sha"), HELLO.replace(":", "-")])
def test_the_comparison_is_textual(blobs: Blobs, expected: str) -> None:
    """Another spelling of the right digest does not match."""
    with blobs.writer() as writer:
        writer.write(b"hello")
        with pytest.raises(DigestMismatch):
            writer.commit(expected)


def test_an_aborted_write_leaves_nothing(blobs: Blobs) -> None:
    """An abort, or leaving without a commit, removes the temporary file; aborting twice is fine."""
    writer = blobs.writer()
    writer.write(b"x" * 100)
    assert writer.size_bytes == 100
    writer.abort()
    writer.abort()
    with blobs.writer() as second:
        second.write(b"x")
    assert names_in(blobs) == []


def test_a_full_disk_is_told_without_a_path(blobs: Blobs, monkeypatch: pytest.MonkeyPatch) -> None:
    """A refused rename is a `StoreError` without a path, and leaves nothing behind."""

    def refuse(*_: object) -> None:
        raise OSError(28, "No space left on device", str(blobs.directory))

    with blobs.writer() as writer:
        writer.write(b"hello")
        monkeypatch.setattr(os, "replace", refuse)
        with pytest.raises(StoreError) as caught:
            writer.commit()
    assert str(caught.value) == "blob: no space left on device"
    assert names_in(blobs) == []


def test_memory_does_not_grow_with_the_blob(blobs: Blobs) -> None:
    """Writing 64 MiB in pieces of 64 KiB takes the memory of a few pieces."""
    piece = bytes(2**16)
    tracemalloc.start()
    try:
        with blobs.writer() as writer:
            for _ in range(1024):
                writer.write(piece)
            assert writer.commit().size_bytes == 2**26
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 2**20


def test_reading(blobs: Blobs) -> None:
    """A small blob is read whole and checked; too long, missing and changed ones are told apart."""
    blobs.write(b"hello")
    assert blobs.read(HELLO) == b"hello"
    assert blobs.read(HELLO, limit=5) == b"hello"
    with pytest.raises(StoreError, match="longer than 4 bytes"):
        blobs.read(HELLO, limit=4)
    with pytest.raises(BlobNotFound):
        blobs.read(OTHER)
    with pytest.raises(InvalidRequest):
        blobs.read("abc")
    blobs.path(HELLO).write_bytes(b"jello")
    with pytest.raises(DigestMismatch):
        blobs.read(HELLO)


def test_verify(blobs: Blobs) -> None:
    """A whole blob can be hashed against its name."""
    blobs.write(b"hello")
    blobs.verify(HELLO)
    blobs.path(HELLO).write_bytes(b"jello")
    with pytest.raises(DigestMismatch):
        blobs.verify(HELLO)
    with pytest.raises(BlobNotFound):
        blobs.verify(OTHER)


def test_touch(blobs: Blobs) -> None:
    """A touch makes a blob young; a missing one cannot be touched."""
    blobs.write(b"hello")
    os.utime(blobs.path(HELLO), (1000, 1000))
    blobs.touch(HELLO)
    assert blobs.path(HELLO).stat().st_mtime > 1000
    with pytest.raises(BlobNotFound):
        blobs.touch(OTHER)


def test_pins(blobs: Blobs) -> None:
    """A pinned blob is not removed, and two pins hold until both are gone."""
    blobs.write(b"hello")
    with blobs.pinned([HELLO]):
        with blobs.pinned() as pins:
            pins.use(HELLO)
            assert pins.write(b"world").created
            assert not blobs.remove(HELLO)
        assert not blobs.remove(HELLO)
        assert blobs.remove(f"sha256:{hashlib.sha256(b'world').hexdigest()}")
    assert blobs.remove(HELLO)
    assert not blobs.remove(HELLO)
    with pytest.raises(BlobNotFound), blobs.pinned() as pins:
        pins.use(HELLO)


def test_store_speaks_of_blobs(store: Store) -> None:
    """The store passes on what concerns blobs."""
    assert not store.has_blob(HELLO)
    with pytest.raises(BlobNotFound):
        store.blob_size(HELLO)
    with store.open_writer() as writer:
        writer.write(b"hello")
        writer.commit(HELLO)
    assert store.has_blob(HELLO)
    assert store.blob_size(HELLO) == 5
    assert store.read_blob(HELLO) == b"hello"
    store.verify_blob(HELLO)
    store.touch_blob(HELLO)
    assert store.blob_path(HELLO).read_bytes() == b"hello"
