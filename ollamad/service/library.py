"""Models on disk as frontends see them: list, show, copy, delete, blobs; `create` has a module of its own."""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ollamad.errors import CloudDisabled, DigestMismatch, InvalidName, ModelNotFound, OllamadError
from ollamad.names import fold, is_valid, parse_name, parse_reference, short, stored_text
from ollamad.plugin import CreateRequest, ListedModel, ShownModel, TransferProgress
from ollamad.service import capabilities
from ollamad.service.create import Creator
from ollamad.service.demo import DemoLayer
from ollamad.service.go_values import quoted
from ollamad.service.off_loop import off_loop
from ollamad.service.resolve import Resolver
from ollamad.service.show import shown
from ollamad.service.sources import Found
from ollamad.store import Store
from ollamad.store.blobs import BlobWriter
from ollamad.store.manifests import MODEL_MEDIA_TYPE, PROJECTOR_MEDIA_TYPE
from ollamad.types import ModelConfig, ModelName

log = logging.getLogger(__name__)

#: An upload is handed to the disk in pieces of this size: few enough for speed, small enough for memory.
UPLOAD_PIECE_BYTES = 2**20
#: Rows of the list that are kept; one is a few hundred bytes.
CACHED_ROWS = 4096


@dataclass(frozen=True, slots=True)
class _Row:
    """The part of a list row that a manifest's digest decides."""

    config: ModelConfig
    parent_model: str
    context_length: int
    embedding_length: int
    capabilities: tuple[str, ...]


class ModelLibrary:
    """Fulfils `ollamad.plugin.Library`. Every method works on threads and may raise `StoreError`."""

    def __init__(self, store: Store, demo: DemoLayer, resolver: Resolver, creator: Creator) -> None:
        self._store = store
        self._demo = demo
        self._resolver = resolver
        self._creator = creator
        self._rows: OrderedDict[str, _Row] = OrderedDict()
        self._rows_lock = threading.Lock()

    async def list(self) -> Sequence[ListedModel]:
        """All models, newest first. One whose layers are broken is listed without details: it can be deleted."""
        return await off_loop(self._list)

    def _list(self) -> tuple[ListedModel, ...]:
        return tuple(self._listed(found) for found in self._resolver.all())

    def _listed(self, found: Found) -> ListedModel:
        row = self._row(found)
        return ListedModel(
            name=short(found.name),
            digest=found.stored.digest,
            size_bytes=found.manifest.size_bytes,
            modified_ns=found.stored.modified_ns,
            config=row.config,
            parent_model=row.parent_model,
            context_length=row.context_length,
            embedding_length=row.embedding_length,
            capabilities=row.capabilities,
            read_only=found.source.kind == "demo",
        )

    def _row(self, found: Found) -> _Row:
        digest = found.stored.digest
        with self._rows_lock:
            if known := self._rows.get(digest):
                return known
        try:
            row = self._read_row(found)
        except (OllamadError, OSError) as error:
            log.warning("model %s is listed without details: %s", short(found.name), error)
            return _Row(ModelConfig(), "", 0, 0, ())
        with self._rows_lock:
            self._rows[digest] = row
            while len(self._rows) > CACHED_ROWS:
                self._rows.popitem(last=False)
        return row

    def _read_row(self, found: Found) -> _Row:
        content = self._resolver.content(found)
        listed = self._resolver.listed_facts(found)
        parents = [layer.from_name for layer in found.manifest.of_type(MODEL_MEDIA_TYPE)]
        return _Row(
            config=content.config,
            parent_model=parents[-1] if parents else "",
            context_length=content.config.context_length or (listed.context_length if listed else 0),
            embedding_length=content.config.embedding_length or (listed.embedding_length if listed else 0),
            capabilities=capabilities.of_listing(
                content.config,
                listed,
                content.template,
                has_projector=bool(found.manifest.of_type(PROJECTOR_MEDIA_TYPE)),
            ),
        )

    async def show(
        self,
        name: str,
        *,
        verbose: bool,
        system: str = "",
        options: Mapping[str, Any] | None = None,
        basename: str = "",
    ) -> ShownModel:
        """Everything about a model. Raises: InvalidName, ModelNotFound, CloudDisabled, BlobNotFound."""
        reference = parse_reference(name)
        if reference.source == "cloud":
            raise CloudDisabled("remote model details are unavailable")

        def work() -> ShownModel:
            found = self._resolver.find(reference)
            model = self._resolver.load(found, name)
            if reference.source == "local" and model.config.remote_host:
                raise ModelNotFound(name, model.short_name)
            return shown(
                self._resolver, found, model, verbose=verbose, system=system, options=options, basename=basename
            )

        return await off_loop(work)

    async def copy(self, source: str, destination: str) -> None:
        """Give a model a second name; the demo model becomes real blobs. Raises: InvalidName, ModelNotFound."""
        from_name, to_name = parse_name(source), parse_name(destination)
        if not is_valid(from_name):
            raise InvalidName(source, f"source {quoted(source)} is invalid")
        if not is_valid(to_name):
            raise InvalidName(destination, f"destination {quoted(destination)} is invalid")
        try:
            await off_loop(self._copy, from_name, to_name)
        except ModelNotFound:
            raise ModelNotFound(source, short(from_name)) from None

    def _copy(self, from_name: ModelName, to_name: ModelName) -> None:
        found = self._resolver.find_name(from_name)
        target = self._store.align_case(to_name)
        if found.source.kind == "store":
            self._store.copy(found.name, target)
        elif fold(target) != fold(found.name):
            with self._store.pinned(found.manifest.digests()):
                self._store.write_manifest(target, self._demo.materialise(self._store))

    async def delete(self, name: str) -> None:
        """Remove a name; the demo model is hidden. Raises: InvalidName, ModelNotFound."""
        parsed = parse_name(stored_text(parse_reference(name)))
        if not is_valid(parsed):
            raise InvalidName(name, f"name {quoted(name)} is invalid")
        try:
            await off_loop(self._delete, parsed)
        except ModelNotFound:
            raise ModelNotFound(name, short(parsed)) from None

    def _delete(self, name: ModelName) -> None:
        found = self._resolver.find_name(name)
        if found.source.kind == "demo":
            self._demo.hide()
        else:
            self._store.delete(found.name)

    async def has_blob(self, digest: str) -> bool:
        """Whether a blob is in the store. Raises: InvalidRequest (``invalid digest format``)."""
        return await off_loop(self._store.has_blob, digest)

    async def write_blob(self, digest: str, chunks: AsyncIterator[bytes]) -> bool:
        """Store an upload under the hash of its bytes; False, and nothing read, if *digest* is there already.

        Memory does not grow with the upload. What *chunks* raises goes through, and nothing is left behind.

        Raises:
            InvalidRequest: ``invalid digest format``.
            DigestMismatch: The bytes hash to something else, under which they are kept; spelling counts.
        """
        if await off_loop(self._store.has_blob, digest):
            return False
        writer = await off_loop(self._store.open_writer)
        try:
            await _receive(writer, chunks)
            written = await off_loop(writer.commit)
        finally:
            await off_loop(writer.abort)
        if written.digest != digest:
            raise DigestMismatch(digest, written.digest)
        return True

    def create(self, request: CreateRequest) -> AsyncIterator[TransferProgress]:
        """Make a model; see `Creator.create`."""
        return self._creator.create(request)


async def _receive(writer: BlobWriter, chunks: AsyncIterator[bytes]) -> None:
    piece = bytearray()
    async for chunk in chunks:
        piece += chunk
        if len(piece) >= UPLOAD_PIECE_BYTES:
            await off_loop(writer.write, piece)
            piece = bytearray()
    if piece:
        await off_loop(writer.write, piece)
