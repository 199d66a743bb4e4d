"""The store as the services see it."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from contextlib import AbstractContextManager
from pathlib import Path

from ollamad import names
from ollamad.errors import BlobNotFound, StoreError
from ollamad.store.blobs import SMALL_BLOB_BYTES, Blobs, BlobWriter, Pins, WrittenBlob
from ollamad.store.bodies import decode_config
from ollamad.store.lock import FileLock
from ollamad.store.manifests import Manifest, StoredManifest, encode_manifest
from ollamad.store.prune import Pruned, file_names, prune_blobs, repair_names
from ollamad.store.tree import ManifestTree
from ollamad.types import ModelConfig, ModelName

#: Another server may be writing into the same store; what is younger is left alone.
GRACE_S = 3600.0

#: Why nothing is removed while a manifest cannot be read: what its model uses is not known. Ollama's text.
CORRUPT = "corrupt manifests detected, skipping prune operation.  Re-pull or delete to clear"

_CACHED_CONFIGS = 1024


class Store:
    """Models on disk in Ollama's layout, below *root*.

    Every method may raise `StoreError` for the disk. Thread-safe. After a crash at any point each listed
    name has all its blobs and each blob hashes to its name; only temporary files are left, which
    `prune` removes after the grace time.
    """

    def __init__(self, root: Path, *, lock: FileLock, noprune: bool = False) -> None:
        self.root = root
        self._lock = lock
        self._noprune = noprune
        self._blobs = Blobs(root / "blobs")
        self._tree = ManifestTree(root / "manifests", temporary_directory=root / "blobs")
        self._configs: dict[str, ModelConfig] = {}
        self._configs_lock = threading.Lock()

    # --- blobs

    def blob_path(self, digest: str) -> Path:
        """Where the blob is or would be. Raises: InvalidRequest (``invalid digest format``)."""
        return self._blobs.path(digest)

    def has_blob(self, digest: str) -> bool:
        """Tell whether the blob is there; letter case counts. Raises: InvalidRequest."""
        return self._blobs.size_bytes(digest) is not None

    def blob_size(self, digest: str) -> int:
        """Return the bytes of a blob. Raises: InvalidRequest, BlobNotFound."""
        size_bytes = self._blobs.size_bytes(digest)
        if size_bytes is None:
            raise BlobNotFound(digest)
        return size_bytes

    def read_blob(self, digest: str, *, limit: int = SMALL_BLOB_BYTES) -> bytes:
        """Read a small blob and check it against its name. Raises: InvalidRequest, BlobNotFound, DigestMismatch."""
        return self._blobs.read(digest, limit=limit)

    def verify_blob(self, digest: str) -> None:
        """Hash a whole blob. Raises: InvalidRequest, BlobNotFound, DigestMismatch."""
        self._blobs.verify(digest)

    def open_writer(self) -> BlobWriter:
        """Start a blob of any size; see `BlobWriter`."""
        return self._blobs.writer()

    def write_blob(self, data: bytes) -> WrittenBlob:
        """Store a small body; an existing blob of these bytes is touched and used."""
        return self._blobs.write(data)

    def touch_blob(self, digest: str) -> None:
        """Mark a blob as just used, as create does with those it takes over. Raises: InvalidRequest, BlobNotFound."""
        self._blobs.touch(digest)

    def pinned(self, digests: Iterable[str] = ()) -> AbstractContextManager[Pins]:
        """Keep blobs from being removed while a create works with them: *digests*, and what is added to the `Pins`."""
        return self._blobs.pinned(digests)

    def remove_unreferenced(self, digests: Iterable[str]) -> tuple[str, ...]:
        """Remove those of *digests* that no readable manifest names; return the removed ones. Ignores ``noprune``."""
        with self._lock.hold():
            kept = self._referenced(self._tree.scan()[0])
            unused = [digest for digest in digests if file_names({digest}) - kept]
            return tuple(digest for digest in unused if self._blobs.remove(digest))

    # --- manifests

    def names(self) -> tuple[ModelName, ...]:
        """The names of all manifests, readable or not, in path order."""
        return self._tree.names()

    def models(self) -> tuple[StoredManifest, ...]:
        """All readable manifests, newest first (in whole seconds; ties in path order)."""
        return tuple(sorted(self._tree.scan()[0], key=lambda stored: -(stored.modified_ns // 10**9)))

    def align_case(self, name: ModelName) -> ModelName:
        """Return *name* in the spelling of the store: part by part, letter case ignored.

        A name that is stored in exactly this spelling stays; one that differs in letter case alone is
        preferred to parts of several names.
        """
        if not names.is_valid(name) or self._tree.exists(name):
            return name
        stored = self._tree.names()
        wanted = names.fold(name)
        whole = next((other for other in stored if names.fold(other) == wanted), None)
        return whole or ModelName(
            host=_spelling(name.host, (other.host for other in stored)),
            namespace=_spelling(name.namespace, (other.namespace for other in stored)),
            model=_spelling(name.model, (other.model for other in stored)),
            tag=_spelling(name.tag, (other.tag for other in stored)),
        )

    def read_manifest(self, name: ModelName) -> StoredManifest:
        """Return what is stored under exactly this spelling. Raises: ModelNotFound, InvalidName, StoreError."""
        return self._tree.read(name)

    def read_config(self, manifest: Manifest) -> ModelConfig:
        """Return the config of a manifest, an empty one if it has none. Raises: BlobNotFound, StoreError."""
        digest = manifest.config.digest if manifest.config else ""
        if not digest:
            return ModelConfig()
        with self._configs_lock:
            known = self._configs.get(digest)
        if known is None:
            known = decode_config(self._blobs.read(digest))
            with self._configs_lock:
                while len(self._configs) >= _CACHED_CONFIGS:
                    del self._configs[next(iter(self._configs))]
                self._configs[digest] = known
        return known

    def write_manifest(self, name: ModelName, manifest: Manifest) -> StoredManifest:
        """Publish *name*: the last step of a create.

        Layers of the manifest that was there before and that are used no more are removed, unless ``noprune``.

        Raises:
            InvalidName: Not a fully qualified name.
            BlobNotFound: A layer's blob is not in the store; nothing was written.
        """
        with self._lock.hold():
            for digest in sorted(manifest.digests()):
                self.blob_size(digest)
            before = self._digests_of(name)
            self._tree.publish(name, encode_manifest(manifest))
            if not self._noprune:
                self.remove_unreferenced(before - manifest.digests())
            return self._tree.read(name)

    def copy(self, source: ModelName, destination: ModelName) -> None:
        """Give the bytes of *source*'s manifest a second name. Raises: ModelNotFound, InvalidName."""
        if source == destination:
            self._tree.read_bytes(source)
            return
        with self._lock.hold():
            self._tree.publish(destination, self._tree.read_bytes(source))

    def delete(self, name: ModelName) -> None:
        """Remove a name and the blobs that only it used. Raises: ModelNotFound, InvalidName."""
        with self._lock.hold():
            digests = self._digests_of(name)
            self._tree.remove(name)
            self.remove_unreferenced(digests)

    def _digests_of(self, name: ModelName) -> frozenset[str]:
        """The digests under *name*; none where there is no manifest or one that cannot be read."""
        if not self._tree.exists(name):
            return frozenset()
        try:
            return self._tree.read(name).manifest.digests()
        except StoreError:
            return frozenset()

    # --- start

    def repair_names(self) -> int:
        """Rename blobs of old stores from ``sha256:…`` to ``sha256-…``; return how many."""
        return repair_names(self._blobs.directory)

    def prune(self, now: float, grace_s: float = GRACE_S) -> Pruned:
        """Remove unreferenced blobs, temporary files and empty directories older than *grace_s*.

        Does nothing when ``noprune``, when a manifest cannot be read, or while another daemon holds the lock.
        *now* is Unix time.
        """
        if self._noprune:
            return Pruned(skipped="pruning is turned off")
        with self._lock.try_hold() as held:
            if not held:
                return Pruned(skipped="another daemon works on this store")
            readable, broken = self._tree.scan()
            if broken:
                return Pruned(skipped=CORRUPT)
            pruned = prune_blobs(self._blobs, self._referenced(readable), now - grace_s)
            hidden = self._tree.remove_temporary(now - grace_s)
            self._tree.prune_directories()
            return Pruned(pruned.blobs, pruned.temporary + hidden)

    def _referenced(self, manifests: Iterable[StoredManifest]) -> set[str]:
        """The file names of all blobs that a manifest names."""
        return {name for stored in manifests for name in file_names(stored.manifest.digests())}


def _spelling(part: str, stored: Iterable[str]) -> str:
    """The stored spelling of *part*, itself if there is none; an equal one wins over one in other letters."""
    folded = part.lower()
    alike = [other for other in stored if other.lower() == folded]
    return part if part in alike or not alike else alike[0]
