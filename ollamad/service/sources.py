"""Where models lie: what the resolver asks of the store, of the demo layer, and of sources to come."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from ollamad.errors import BlobNotFound
from ollamad.store import Manifest, Store, StoredManifest
from ollamad.types import ModelConfig, ModelName

SourceKind = Literal["store", "demo"]


class Source(Protocol):
    """A place with the bytes of layers. Synchronous: callers use threads."""

    @property
    def kind(self) -> SourceKind: ...

    def body(self, digest: str) -> bytes:
        """A small body. Raises: BlobNotFound, DigestMismatch, StoreError."""

    def file(self, digest: str) -> Path:
        """The file of a layer. Raises: BlobNotFound, InvalidRequest."""

    def config(self, manifest: Manifest) -> ModelConfig:
        """The config of a manifest. Raises: BlobNotFound, StoreError."""


@dataclass(frozen=True, slots=True)
class Found:
    """A manifest, and the source that has its layers. ``name`` is in the source's own spelling."""

    stored: StoredManifest
    source: Source

    @property
    def name(self) -> ModelName:
        return self.stored.name

    @property
    def manifest(self) -> Manifest:
        return self.stored.manifest


class StoreSource:
    """The store on disk as a source."""

    kind: SourceKind = "store"

    def __init__(self, store: Store) -> None:
        self._store = store

    def body(self, digest: str) -> bytes:
        return self._store.read_blob(digest)

    def file(self, digest: str) -> Path:
        path = self._store.blob_path(digest)
        if not path.is_file():
            raise BlobNotFound(digest)
        return path

    def config(self, manifest: Manifest) -> ModelConfig:
        return self._store.read_config(manifest)
