"""The files of ``manifests/``: found, read through a cache, and replaced in one step."""

from __future__ import annotations

import errno
import hashlib
import logging
import os
import stat
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from ollamad import names
from ollamad.errors import ModelNotFound, StoreError
from ollamad.store.manifests import StoredManifest, decode_manifest
from ollamad.store.paths import (
    FILE_MODE,
    TEMPORARY_PREFIX,
    disk_errors,
    make_directory,
    sync_directory,
)
from ollamad.types import ModelName

log = logging.getLogger(__name__)

#: Larger than any real manifest; one of a tensor-layer model has a few thousand layers.
MANIFEST_BYTES = 16 * 2**20

#: What an interrupted write leaves in the tree where ``blobs/`` is on another file system.
HIDDEN_TEMPORARY_PREFIX = f".{TEMPORARY_PREFIX}"

#: Another server may prune an empty directory between our making and our using it.
_PUBLISH_ATTEMPTS = 5

_LEVELS = 4

#: A host may be longer (350 bytes) than a file's name (255): nothing is stored under such a name.
_ABSENT = (errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG)


@dataclass(frozen=True, slots=True)
class _Seen:
    """What a file held when it had this state; ``stored`` None: no manifest."""

    state: tuple[int, ...]  # inode, mtime, ctime, size: a replaced or changed file differs in one of them
    stored: StoredManifest | None


class ManifestTree:
    """All manifests below one directory. Thread-safe for readers; writers hold the store's lock."""

    def __init__(self, directory: Path, temporary_directory: Path) -> None:
        self.directory = directory
        self._temporary_directory = temporary_directory
        self._seen: dict[str, _Seen] = {}
        self._seen_lock = threading.Lock()

    def path(self, name: ModelName) -> Path:
        """Where the name's manifest is or would be. Raises: InvalidName."""
        return self.directory / names.relative_path(name)

    def names(self) -> tuple[ModelName, ...]:
        """The names of all manifests, readable or not, in path order."""
        with disk_errors("model list"):
            return tuple(name for name, _ in self._files())

    def scan(self) -> tuple[tuple[StoredManifest, ...], tuple[ModelName, ...]]:
        """All manifests in path order, and the names of those that cannot be read."""
        readable: list[StoredManifest] = []
        broken: list[ModelName] = []
        with disk_errors("model list"):
            for name, state in self._files():
                stored = self._load(name, state)
                if stored is None:
                    broken.append(name)
                else:
                    readable.append(stored)
        self._forget_all_but({names.relative_path(name) for name in (*broken, *(item.name for item in readable))})
        return tuple(readable), tuple(broken)

    def exists(self, name: ModelName) -> bool:
        """Tell whether there is a file for exactly this spelling. Raises: InvalidName, StoreError."""
        try:
            with _absence_means_not_found(name):
                return stat.S_ISREG(self.path(name).stat().st_mode)
        except ModelNotFound:
            return False

    def read(self, name: ModelName) -> StoredManifest:
        """Raises: ModelNotFound, InvalidName, StoreError (unreadable or no manifest)."""
        with _absence_means_not_found(name):
            state = self.path(name).stat()
        stored = self._load(name, state)
        if stored is None:
            raise StoreError(f"manifest of {names.short(name)} is not valid")
        return stored

    def read_bytes(self, name: ModelName) -> bytes:
        """The manifest's file as it is. Raises: ModelNotFound, StoreError."""
        with _absence_means_not_found(name):
            return self.path(name).read_bytes()

    def publish(self, name: ModelName, data: bytes) -> None:
        """Put *data* in place of the name's manifest: a reader, or a crash, sees the old or the new bytes."""
        target = self.path(name)
        make_directory(self._temporary_directory)
        with disk_errors(f"manifest of {names.short(name)}"):
            try:
                self._replace(target, data, self._temporary_directory / _temporary_name())
            except OSError as error:
                if error.errno != errno.EXDEV:
                    raise
                self._replace(target, data, target.parent / f".{_temporary_name()}")

    def _replace(self, target: Path, data: bytes, temporary: Path) -> None:
        for attempt in range(1, _PUBLISH_ATTEMPTS + 1):
            new_directory = not target.parent.is_dir()
            make_directory(target.parent)
            try:
                _write_durably(temporary, data)
                os.replace(temporary, target)
            except FileNotFoundError:
                if attempt == _PUBLISH_ATTEMPTS:
                    raise
            else:
                for directory in target.parents[: _LEVELS if new_directory else 1]:
                    sync_directory(directory)
                return
            finally:
                temporary.unlink(missing_ok=True)

    def remove(self, name: ModelName) -> None:
        """Remove the name's manifest and the directories that are empty then. Raises: ModelNotFound."""
        with _absence_means_not_found(name):
            self.path(name).unlink()
        self.prune_directories()

    def prune_directories(self) -> None:
        """Remove empty directories, `directory` itself included; links to directories are left alone."""
        if self.directory.is_dir():
            with disk_errors("manifest directories"):
                _remove_empty(self.directory)

    def remove_temporary(self, older_than: float) -> int:
        """Remove interrupted writes of before *older_than* (Unix time); return how many."""
        removed = 0
        with disk_errors("manifest directories"):
            for path, state in _walk(str(self.directory), _LEVELS):
                if os.path.basename(path).startswith(HIDDEN_TEMPORARY_PREFIX) and state.st_mtime < older_than:
                    os.unlink(path)
                    removed += 1
        return removed

    def _files(self) -> Iterator[tuple[ModelName, os.stat_result]]:
        root = len(str(self.directory)) + 1
        for path, state in _walk(str(self.directory), _LEVELS):
            name = names.from_relative_path(path[root:])
            if name is not None:
                yield name, state

    def _load(self, name: ModelName, state: os.stat_result) -> StoredManifest | None:
        key = names.relative_path(name)
        now = (state.st_ino, state.st_mtime_ns, state.st_ctime_ns, state.st_size)
        with self._seen_lock:
            seen = self._seen.get(key)
        if seen is None or seen.state != now:
            seen = _Seen(now, self._parse(name, state))
            with self._seen_lock:
                self._seen[key] = seen
        return seen.stored

    def _parse(self, name: ModelName, state: os.stat_result) -> StoredManifest | None:
        try:
            with open(self.path(name), "rb") as file:
                data = file.read(MANIFEST_BYTES + 1)
            if len(data) > MANIFEST_BYTES:
                raise ValueError(f"longer than {MANIFEST_BYTES} bytes")
            manifest = decode_manifest(data)
        except (OSError, ValueError) as error:
            log.warning("skipped the manifest of %s: %s", names.short(name), error)
            return None
        return StoredManifest(name, manifest, hashlib.sha256(data).hexdigest(), state.st_mtime_ns, len(data))

    def _forget_all_but(self, keys: set[str]) -> None:
        with self._seen_lock:
            for key in self._seen.keys() - keys:
                del self._seen[key]


@contextmanager
def _absence_means_not_found(name: ModelName) -> Iterator[None]:
    """Turn a missing file into `ModelNotFound` and any other disk error into `StoreError`."""
    with disk_errors(f"manifest of {names.short(name)}"):
        try:
            yield
        except OSError as error:
            if error.errno in _ABSENT:
                raise ModelNotFound(names.short(name)) from None
            raise


def _temporary_name() -> str:
    return f"{TEMPORARY_PREFIX}{os.urandom(8).hex()}"


def _write_durably(path: Path, data: bytes) -> None:
    with open(path, "xb") as file:
        file.write(data)
        file.flush()
        os.fchmod(file.fileno(), FILE_MODE)
        os.fsync(file.fileno())


def _walk(directory: str, level: int) -> Iterator[tuple[str, os.stat_result]]:
    """Yield the files exactly *level* levels below *directory*, sorted level by level."""
    try:
        entries = sorted(os.scandir(directory), key=lambda entry: entry.name)
    except FileNotFoundError:
        return
    for entry in entries:
        if level > 1:
            if entry.is_dir():
                yield from _walk(entry.path, level - 1)
            continue
        # Another server may remove the file while we list; a link may lead nowhere.
        with suppress(FileNotFoundError):
            if not entry.is_dir():
                yield entry.path, entry.stat()


def _remove_empty(directory: Path) -> None:
    with os.scandir(directory) as entries:
        children = [entry.path for entry in entries if entry.is_dir(follow_symlinks=False)]
    for child in children:
        _remove_empty(Path(child))
    try:
        directory.rmdir()
    except OSError as error:
        # Not empty, a link, a mount point, or gone already: all leave things as they have to be.
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR, errno.EBUSY, errno.ENOENT):
            raise
