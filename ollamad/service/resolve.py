"""A name turned into everything that it stands for, once per request.

Sources are the store and the demo layer; a later kind (aliases, extra folders) is one more look-up in
`Resolver.find`. Scheduler and frontends see a `ResolvedModel` only.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ollamad.errors import CloudDisabled, InvalidName, ModelNotFound
from ollamad.names import Reference, is_valid, parse_name, parse_reference, short
from ollamad.service import capabilities
from ollamad.service.demo import DemoLayer
from ollamad.service.model_facts import FactsCache, FileFacts, ListedFacts
from ollamad.service.off_loop import off_loop
from ollamad.service.sources import Found, Source, StoreSource
from ollamad.store import Layer, Manifest, Store, decode_messages, decode_parameters
from ollamad.store.manifests import (
    ADAPTER_MEDIA_TYPE,
    DRAFT_MEDIA_TYPE,
    LICENSE_MEDIA_TYPE,
    MESSAGES_MEDIA_TYPE,
    MODEL_MEDIA_TYPE,
    PARAMS_MEDIA_TYPE,
    PROJECTOR_MEDIA_TYPE,
    PROMPT_MEDIA_TYPE,
    SYSTEM_MEDIA_TYPE,
    TEMPLATE_MEDIA_TYPE,
)
from ollamad.types import Message, ModelConfig, ModelFacts, ModelName, ResolvedModel, WeightsRef

#: Models whose layers are kept read, more than anyone uses in turn, and how large these may be: images in
#: stored messages are read again for each request rather than held.
CACHED_CONTENTS = 128
CACHED_CONTENT_BYTES = 2**18

_BODIES = frozenset(
    (
        TEMPLATE_MEDIA_TYPE,
        PROMPT_MEDIA_TYPE,
        SYSTEM_MEDIA_TYPE,
        PARAMS_MEDIA_TYPE,
        MESSAGES_MEDIA_TYPE,
        LICENSE_MEDIA_TYPE,
    )
)


@dataclass(frozen=True, slots=True)
class Content:
    """The bodies of a manifest, read: everything of a model but its files and its name."""

    config: ModelConfig
    parameters: Mapping[str, Any] = field(default_factory=dict)
    template: str | None = None
    system: str = ""
    messages: tuple[Message, ...] = ()
    licenses: tuple[str, ...] = ()


class Resolver:
    """Finds models. ``use_go_template`` is ``OLLAMA_GO_TEMPLATE``, None where it is not set."""

    def __init__(
        self, store: Store, demo: DemoLayer, *, facts: FactsCache | None = None, use_go_template: bool | None = None
    ) -> None:
        self.facts = facts or FactsCache()
        self._store = store
        self._store_source = StoreSource(store)
        self._demo = demo
        self._use_go_template = use_go_template
        self._contents: OrderedDict[str, Content] = OrderedDict()
        self._lock = threading.Lock()

    async def resolve(self, name: str, *, align_case: bool = True) -> ResolvedModel:
        """Look *name* up, off the event loop.

        Raises:
            InvalidName: Empty (``model is required``), marked twice, or no name.
            ModelNotFound: Nothing of this name; or a stub of a remote model, asked for as a local one.
            CloudDisabled: The name asks for a model in the cloud.
            BlobNotFound, InvalidModelFile, StoreError: Its files are not what they should be.
        """
        reference = parse_reference(name)
        if reference.source == "cloud":
            raise CloudDisabled
        return await off_loop(self._resolve, reference, align_case)

    def _resolve(self, reference: Reference, align_case: bool) -> ResolvedModel:
        model = self.load(self.find(reference, align_case=align_case), reference.text)
        if reference.source == "local" and model.config.remote_host:
            raise ModelNotFound(reference.text, model.short_name)
        return model

    def find(self, reference: Reference, *, align_case: bool = True) -> Found:
        """The manifest that a reference's base names. Blocks.

        Raises:
            InvalidName: No valid name.
            ModelNotFound: Nothing of this name.
        """
        name = parse_name(reference.base)
        if not is_valid(name):
            raise InvalidName(reference.text)
        try:
            return self.find_name(name, align_case=align_case)
        except ModelNotFound:
            raise ModelNotFound(reference.text, short(name)) from None

    def find_name(self, name: ModelName, *, align_case: bool = True) -> Found:
        """The manifest of a valid name: the store's, else the demo's. Blocks. Raises: ModelNotFound, StoreError."""
        spelled = self._store.align_case(name) if align_case else name
        try:
            return Found(self._store.read_manifest(spelled), self._store_source)
        except ModelNotFound:
            if demo := self._demo.match(name):
                return demo
            raise

    def all(self) -> list[Found]:
        """Every model, newest first by whole seconds. Blocks."""
        found = [Found(stored, self._store_source) for stored in self._store.models()]
        demo = self._demo.found()
        if demo is not None and not self._demo.is_among(item.name for item in found):
            found.append(demo)
            found.sort(key=lambda item: -(item.stored.modified_ns // 10**9))
        return found

    def load(self, found: Found, requested: str) -> ResolvedModel:
        """Read what *found* is made of. Blocks. Raises: BlobNotFound, InvalidModelFile, StoreError."""
        content = self.content(found)
        manifest, source = found.manifest, found.source
        weights = _refs(manifest.of_type(MODEL_MEDIA_TYPE)[-1:], source)
        projectors = _refs(manifest.of_type(PROJECTOR_MEDIA_TYPE), source)
        facts = self.file_facts(weights[0], source).facts if weights else None
        path = capabilities.prompt_path(
            content.config,
            facts.chat_template if facts else None,
            content.template,
            use_go=self._use_go_template,
        )
        return ResolvedModel(
            requested=requested,
            name=found.name,
            short_name=short(found.name),
            digest=found.stored.digest,
            weights=weights,
            adapters=_refs(manifest.of_type(ADAPTER_MEDIA_TYPE), source),
            projectors=projectors,
            draft=_refs(manifest.of_type(DRAFT_MEDIA_TYPE), source),
            config=content.config,
            facts=facts or ModelFacts(),
            capabilities=capabilities.of_model(
                content.config,
                facts,
                [self.file_facts(projector, source) for projector in projectors],
                content.template,
                path,
            ),
            parameters=content.parameters,
            template=content.template,
            prompt_path=path,
            system=content.system,
            messages=content.messages,
            source=source.kind,
        )

    def file_facts(self, file: WeightsRef, source: Source) -> FileFacts:
        """What one of the model's files says. Blocks. Raises: BlobNotFound, InvalidModelFile, StoreError."""
        return self.facts.read(file.digest, source.file(file.digest))

    def listed_facts(self, found: Found) -> ListedFacts | None:
        """What the list tells of the model's file, None without one. Blocks. Raises as `file_facts`."""
        weights = _refs(found.manifest.of_type(MODEL_MEDIA_TYPE)[-1:], found.source)
        return self.file_facts(weights[0], found.source).listed if weights else None

    def content(self, found: Found) -> Content:
        """The small bodies of a model; kept by the manifest's digest, which they cannot differ from. Blocks."""
        digest = found.stored.digest
        with self._lock:
            if known := self._contents.get(digest):
                self._contents.move_to_end(digest)
                return known
        content = read_content(found)
        if _body_bytes(found.manifest) > CACHED_CONTENT_BYTES:
            return content
        with self._lock:
            self._contents[digest] = content
            while len(self._contents) > CACHED_CONTENTS:
                self._contents.popitem(last=False)
        return content


def read_content(found: Found) -> Content:
    """Read the bodies of a manifest's layers. Blocks. Raises: BlobNotFound, DigestMismatch, StoreError."""
    manifest, source = found.manifest, found.source
    parameters: dict[str, Any] = {}
    for layer in manifest.of_type(PARAMS_MEDIA_TYPE):
        parameters.update(decode_parameters(source.body(layer.digest)))
    messages = manifest.of_type(MESSAGES_MEDIA_TYPE)[-1:]
    return Content(
        config=source.config(manifest),
        parameters=parameters,
        template=_last_text(manifest, source, TEMPLATE_MEDIA_TYPE, PROMPT_MEDIA_TYPE),
        system=_last_text(manifest, source, SYSTEM_MEDIA_TYPE) or "",
        messages=decode_messages(source.body(messages[0].digest)) if messages else (),
        licenses=tuple(_text(source, layer) for layer in manifest.of_type(LICENSE_MEDIA_TYPE)),
    )


def _body_bytes(manifest: Manifest) -> int:
    return sum(layer.size_bytes for layer in manifest.layers if layer.media_type in _BODIES)


def _last_text(manifest: Manifest, source: Source, *media_types: str) -> str | None:
    layers = [layer for layer in manifest.layers if layer.media_type in media_types]
    return _text(source, layers[-1]) if layers else None


def _text(source: Source, layer: Layer) -> str:
    return source.body(layer.digest).decode("utf-8", "replace")


def _refs(layers: tuple[Layer, ...], source: Source) -> tuple[WeightsRef, ...]:
    return tuple(WeightsRef(layer.digest, layer.size_bytes, source.kind) for layer in layers)
