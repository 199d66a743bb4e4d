"""The files of ``blobs/``: written once under a temporary name, then named after the hash of their bytes."""

from __future__ import annotations

import hashlib
import os
import threading
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

from ollamad.errors import BlobNotFound, DigestMismatch, StoreError
from ollamad.store.paths import (
    FILE_MODE,
    TEMPORARY_PREFIX,
    blob_file_name,
    disk_errors,
    make_directory,
    sync_directory,
)

#: Small bodies only (configs, templates, parameters): more than this is no such body.
SMALL_BLOB_BYTES = 16 * 2**20

_CHUNK_BYTES = 2**20


@dataclass(frozen=True, slots=True)
class WrittenBlob:
    """A blob that is in the store now; ``created`` is False where it was there before."""

    digest: str
    size_bytes: int
    created: bool


class BlobWriter:
    """One blob on its way to disk: hashed while it is written, visible only after `commit`.

    As a context manager it removes its temporary file unless it was committed. Memory does not
    grow with the blob. One thread at a time.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._hash = hashlib.sha256()
        self._size_bytes = 0
        self._path = directory / f"{TEMPORARY_PREFIX}{os.urandom(8).hex()}"
        make_directory(directory)
        with disk_errors("blob"):
            # Unbuffered: the caller's chunks are written through as they are.
            self._file: BinaryIO | None = open(self._path, "xb", buffering=0)  # noqa: SIM115 - closed by commit or abort

    @property
    def size_bytes(self) -> int:
        """How much was written so far."""
        return self._size_bytes

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Append *data*.

        Raises:
            StoreError: The disk refused; the writer can only be aborted.
        """
        assert self._file is not None, "written after commit or abort"
        view = memoryview(data)
        with disk_errors("blob"):
            while view:
                written = self._file.write(view)
                self._hash.update(view[:written])
                self._size_bytes += written
                view = view[written:]

    def commit(self, expected: str | None = None) -> WrittenBlob:
        """Give the blob its name. *expected* is compared as text, so only ``sha256:`` and lower case can match.

        Raises:
            DigestMismatch: The bytes hash to something else; like Ollama we keep them, under their own digest.
            StoreError: The disk refused; nothing is left behind.
        """
        assert self._file is not None, "committed after commit or abort"
        digest = f"sha256:{self._hash.hexdigest()}"
        try:
            blob = self._publish(self._file, digest)
        finally:
            self.abort()
        if expected is not None and expected != digest:
            raise DigestMismatch(expected, digest)
        return blob

    def _publish(self, file: BinaryIO, digest: str) -> WrittenBlob:
        target = self._directory / blob_file_name(digest)
        with disk_errors("blob"):
            # A file of another length was left by a power cut or a foreign hand: ours replaces it.
            if _size_of(target) == self._size_bytes and _touch(target):
                return WrittenBlob(digest, self._size_bytes, created=False)
            os.fchmod(file.fileno(), FILE_MODE)
            os.fsync(file.fileno())
            os.replace(self._path, target)
            sync_directory(self._directory)
        return WrittenBlob(digest, self._size_bytes, created=True)

    def abort(self) -> None:
        """Drop what was written. Does nothing after `commit` or a second time."""
        if self._file is None:
            return
        self._file.close()
        self._file = None
        with disk_errors("blob"):
            self._path.unlink(missing_ok=True)

    def __enter__(self) -> BlobWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.abort()


def _touch(path: Path) -> bool:
    """Set the file's time to now; False if it is gone."""
    try:
        os.utime(path)
    except FileNotFoundError:
        return False
    return True


def _size_of(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return None


class Blobs:
    """The directory of blobs, and the pins that keep some of them from being removed."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._pins: Counter[str] = Counter()
        self._pins_lock = threading.Lock()

    def path(self, digest: str) -> Path:
        """Where the blob is or would be. Raises: InvalidRequest (``invalid digest format``)."""
        return self.directory / blob_file_name(digest)

    def size_bytes(self, digest: str) -> int | None:
        """The blob's size, None if it is not there."""
        with disk_errors("blob"):
            return _size_of(self.path(digest))

    def writer(self) -> BlobWriter:
        """Start a blob. Raises: StoreError."""
        return BlobWriter(self.directory)

    def write(self, data: bytes) -> WrittenBlob:
        """Store *data* as a blob, or touch the one that has these bytes."""
        with self.writer() as writer:
            writer.write(data)
            return writer.commit()

    def touch(self, digest: str) -> None:
        """Set the blob's time to now, so that no pruning takes it for forgotten. Raises: BlobNotFound."""
        with disk_errors("blob"):
            if not _touch(self.path(digest)):
                raise BlobNotFound(digest)

    def read(self, digest: str, *, limit: int = SMALL_BLOB_BYTES) -> bytes:
        """Read a small blob and check it against its name.

        Raises:
            BlobNotFound: It is not there.
            DigestMismatch: The file was changed.
            StoreError: The disk refused, or the blob is longer than *limit*.
        """
        with self._open(digest) as file:
            data = file.read(limit + 1)
        if len(data) > limit:
            raise StoreError(f"blob {digest} is longer than {limit} bytes")
        _require_digest(digest, hashlib.sha256(data).hexdigest())
        return data

    def verify(self, digest: str) -> None:
        """Hash the whole blob. Raises: BlobNotFound, DigestMismatch, StoreError."""
        sha256 = hashlib.sha256()
        with self._open(digest) as file:
            while chunk := file.read(_CHUNK_BYTES):
                sha256.update(chunk)
        _require_digest(digest, sha256.hexdigest())

    @contextmanager
    def _open(self, digest: str) -> Iterator[BinaryIO]:
        with disk_errors("blob"):
            try:
                file = open(self.path(digest), "rb")  # noqa: SIM115 - closed below
            except FileNotFoundError:
                raise BlobNotFound(digest) from None
            with file:
                yield file

    @contextmanager
    def pinned(self, digests: Iterable[str] = ()) -> Iterator[Pins]:
        """Keep *digests*, and what is added to the `Pins`, from being removed by this process while inside."""
        pins = Pins(self)
        try:
            for digest in digests:
                pins.add(digest)
            yield pins
        finally:
            pins.release()

    def pin(self, name: str, change: int) -> None:
        """Count a pin on the file *name* up or down."""
        with self._pins_lock:
            self._pins[name] += change
            if not self._pins[name]:
                del self._pins[name]

    def remove(self, digest: str) -> bool:
        """Remove a blob unless it is pinned; True if a file went."""
        name = blob_file_name(digest)
        with self._pins_lock, disk_errors("blob"):
            if name in self._pins:
                return False
            try:
                os.unlink(self.directory / name)
            except FileNotFoundError:
                return False
        return True


class Pins:
    """The blobs that one piece of work still needs, though no manifest may name them yet."""

    def __init__(self, blobs: Blobs) -> None:
        self._blobs = blobs
        self._names: list[str] = []

    def add(self, digest: str) -> None:
        """Keep *digest*, whether it is there or not. Raises: InvalidRequest."""
        name = blob_file_name(digest)
        self._blobs.pin(name, 1)
        self._names.append(name)

    def write(self, data: bytes) -> WrittenBlob:
        """Store a small body and keep it. Raises: StoreError."""
        # Pinned first: a delete of another model with the same body may run at this moment.
        self.add(f"sha256:{hashlib.sha256(data).hexdigest()}")
        return self._blobs.write(data)

    def use(self, digest: str) -> None:
        """Keep a blob that is in the store and set its time to now. Raises: InvalidRequest, BlobNotFound."""
        self.add(digest)
        self._blobs.touch(digest)

    def release(self) -> None:
        """Let all go."""
        while self._names:
            self._blobs.pin(self._names.pop(), -1)


def _require_digest(digest: str, actual_hex: str) -> None:
    # A blob may be asked for in other spellings than the one that the server writes.
    if digest[7:].lower() != actual_hex:
        raise DigestMismatch(digest, f"sha256:{actual_hex}")
