"""The store as the services see it."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import AbstractContextManager
from pathlib import Path

from ollamad.store.blobs import SMALL_BLOB_BYTES, BlobWriter, WrittenBlob
from ollamad.store.lock import FileLock
from ollamad.store.manifests import Manifest, StoredManifest
from ollamad.store.prune import Pruned
from ollamad.types import ModelConfig, ModelName

GRACE_S = 3600.0


class Store:
    """Models on disk in Ollama's layout, below *root*.

    Every method may raise `StoreError` for the disk. Thread-safe. After a crash at any point each listed
    name has all its blobs and each blob hashes to its name; only temporary files are left, which
    `prune` removes after the grace time.
    """

    def __init__(self, root: Path, *, lock: FileLock, noprune: bool = False) -> None:
        self.root = root
        raise NotImplementedError

    # --- blobs

    def blob_path(self, digest: str) -> Path:
        """Where the blob is or would be. Raises: InvalidRequest (``invalid digest format``)."""
        raise NotImplementedError

    def has_blob(self, digest: str) -> bool:
        """Raises: InvalidRequest."""
        raise NotImplementedError

    def blob_size(self, digest: str) -> int:
        """Bytes of a blob. Raises: InvalidRequest, BlobNotFound."""
        raise NotImplementedError

    def read_blob(self, digest: str, *, limit: int = SMALL_BLOB_BYTES) -> bytes:
        """Read a small blob and check it against its name. Raises: InvalidRequest, BlobNotFound, DigestMismatch."""
        raise NotImplementedError

    def verify_blob(self, digest: str) -> None:
        """Hash a whole blob. Raises: InvalidRequest, BlobNotFound, DigestMismatch."""
        raise NotImplementedError

    def open_writer(self) -> BlobWriter:
        """Start a blob of any size; see `BlobWriter`."""
        raise NotImplementedError

    def write_blob(self, data: bytes) -> WrittenBlob:
        """Store a small body; an existing blob of these bytes is touched and used."""
        raise NotImplementedError

    def touch_blob(self, digest: str) -> None:
        """Mark a blob as just used, as create does with those it takes over. Raises: InvalidRequest, BlobNotFound."""
        raise NotImplementedError

    def pinned(self, digests: Iterable[str]) -> AbstractContextManager[None]:
        """Keep blobs from being removed while a create still works with them."""
        raise NotImplementedError

    def remove_unreferenced(self, digests: Iterable[str]) -> tuple[str, ...]:
        """Remove those of *digests* that no readable manifest refers to; return the removed ones. Ignores ``noprune``."""
        raise NotImplementedError

    # --- manifests

    def names(self) -> tuple[ModelName, ...]:
        """The names of all manifests, readable or not, in path order."""
        raise NotImplementedError

    def models(self) -> tuple[StoredManifest, ...]:
        """All readable manifests, newest first (in whole seconds; ties in path order)."""
        raise NotImplementedError

    def align_case(self, name: ModelName) -> ModelName:
        """Return *name* in the spelling of the store: part by part, letter case ignored."""
        raise NotImplementedError

    def read_manifest(self, name: ModelName) -> StoredManifest:
        """Raises: ModelNotFound, StoreError (not a manifest)."""
        raise NotImplementedError

    def read_config(self, manifest: Manifest) -> ModelConfig:
        """The config blob of a manifest, an empty config if it has none. Raises: BlobNotFound, StoreError."""
        raise NotImplementedError

    def write_manifest(self, name: ModelName, manifest: Manifest) -> StoredManifest:
        """Publish *name*: the last step of a create.

        Layers of the manifest that was there before and that are used no more are removed, unless ``noprune``.

        Raises:
            InvalidName: Not a fully qualified name.
            BlobNotFound: A layer's blob is not in the store; nothing was written.
        """
        raise NotImplementedError

    def copy(self, source: ModelName, destination: ModelName) -> None:
        """Give the bytes of *source*'s manifest a second name. Raises: ModelNotFound, InvalidName."""
        raise NotImplementedError

    def delete(self, name: ModelName) -> None:
        """Remove a name and the blobs that only it used. Raises: ModelNotFound."""
        raise NotImplementedError

    # --- start

    def repair_names(self) -> int:
        """Rename blobs of old stores from ``sha256:…`` to ``sha256-…``; return how many."""
        raise NotImplementedError

    def prune(self, now: float, grace_s: float = GRACE_S) -> Pruned:
        """Remove unreferenced blobs, temporary files and empty directories older than *grace_s*.

        Does nothing when ``noprune``, when a manifest cannot be read, or while another daemon holds the lock.
        *now* is Unix time.
        """
        raise NotImplementedError
