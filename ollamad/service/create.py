"""Make a model from uploaded files or from another model.

Blobs are written first, then the config, the manifest last: whatever happens in between, every listed model is whole.
Source: models contract 4.7, 4.8, http contract 8.12.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeAlias

from ollamad.errors import (
    BlobNotFound,
    CreateFailed,
    InvalidModelFile,
    InvalidName,
    InvalidRequest,
    ModelNotFound,
    StoreError,
    Unsupported,
)
from ollamad.gguf import Header, layer_kind, parameter_size_text, read_header
from ollamad.names import Reference, short
from ollamad.plugin import CreateRequest, TransferProgress
from ollamad.service.create_checks import read_info, source_reference, target_name
from ollamad.service.demo import DemoLayer
from ollamad.service.model_facts import file_facts
from ollamad.service.off_loop import off_loop
from ollamad.service.resolve import Resolver
from ollamad.store import Layer, Manifest, Store, encode_config, encode_messages, encode_parameters
from ollamad.store.blobs import Pins
from ollamad.store.manifests import (
    ADAPTER_MEDIA_TYPE,
    CONFIG_MEDIA_TYPE,
    LICENSE_MEDIA_TYPE,
    MESSAGES_MEDIA_TYPE,
    MODEL_MEDIA_TYPE,
    PARAMS_MEDIA_TYPE,
    PROJECTOR_MEDIA_TYPE,
    PROMPT_MEDIA_TYPE,
    SYSTEM_MEDIA_TYPE,
    TEMPLATE_MEDIA_TYPE,
)
from ollamad.types import ModelConfig, ModelFacts, ModelName

#: Opens a GGUF natively, in a child; raises InvalidModelFile where llama.cpp cannot.
Check: TypeAlias = Callable[[Path], Awaitable[None]]

_KINDS = {"model": MODEL_MEDIA_TYPE, "projector": PROJECTOR_MEDIA_TYPE, "adapter": ADAPTER_MEDIA_TYPE}
_MAGICS = (b"GGUF", b"FUGG")
#: Tensors of Ollama's own engine beside the model's: llama.cpp does not open such a file as it is.
_COMPATIBILITY_TENSORS = ("a.", "mm.", "mtp.", "s.", "v.")
#: Renderer and parser of architectures whose files name none.
_BY_ARCHITECTURE = {
    "gemma4": ("gemma4", "gemma4"),
    "laguna": ("laguna", "laguna"),
    **dict.fromkeys(("nemotron_h", "nemotron_h_moe", "nemotron_h_omni"), ("nemotron-3-nano", "nemotron-3-nano")),
}
_QUANTIZATIONS = ("F32", "F16", "BF16", "Q8_0", "Q4_K_S", "Q4_K_M", "Q4_K")


@dataclass(frozen=True, slots=True)
class _Taken:
    """A layer of the model in the making; ``created``: its blob was not in the store before."""

    layer: Layer
    created: bool = False

    @property
    def status(self) -> str:
        return f"{'creating new' if self.created else 'using existing'} layer {self.layer.digest}"


@dataclass(slots=True)
class _Recipe:
    """A model in the making. ``replaced`` are inherited bodies that something given took the place of."""

    layers: list[_Taken] = field(default_factory=list)
    config: ModelConfig = ModelConfig()
    parameters: dict[str, Any] = field(default_factory=dict)
    replaced: set[str] = field(default_factory=set)


@dataclass(frozen=True, slots=True)
class _Upload:
    """An uploaded GGUF, its header read."""

    file_name: str
    digest: str
    path: Path
    size_bytes: int
    header: Header
    facts: ModelFacts


class Creator:
    """Makes models. ``check`` opens a file natively after its header was found good."""

    def __init__(self, store: Store, demo: DemoLayer, resolver: Resolver, check: Check) -> None:
        self._store = store
        self._demo = demo
        self._resolver = resolver
        self._check = check

    def create(self, request: CreateRequest) -> AsyncIterator[TransferProgress]:
        """Make a model, telling each step; the last line is ``success``.

        Raises:
            InvalidRequest, InvalidName: At once, for what the request shows by itself; by the iteration for
                the rest. No manifest was written then, blobs may be left for pruning.
            CreateFailed, StoreError: By the iteration.
        """
        return self._create(request, target_name(request))

    async def _create(self, request: CreateRequest, name: ModelName) -> AsyncIterator[TransferProgress]:
        reference = source_reference(request)
        recipe = _Recipe()
        with self._store.pinned() as pins:
            if reference is not None:
                await off_loop(self._take_model, recipe, reference, pins)
            else:
                async with aclosing(self._take_files(recipe, request, pins)) as lines:
                    async for line in lines:
                        yield line
            await off_loop(self._finish_layers, recipe, request, pins)
            manifest = await off_loop(self._write_config, recipe, pins)
            for taken in recipe.layers:
                yield TransferProgress(taken.status)
            yield TransferProgress("writing manifest")
            await off_loop(self._publish, name, manifest)
        # Only now, when they are held no more, and also without pruning: they were this model's alone.
        await off_loop(self._store.remove_unreferenced, recipe.replaced)
        yield TransferProgress("success")

    # --- where the layers come from

    def _take_model(self, recipe: _Recipe, reference: Reference, pins: Pins) -> None:
        """Take over every layer of another model, and of its config what is no fact of the file."""
        try:
            found = self._resolver.find(reference)
        except ModelNotFound:
            raise Unsupported(
                f"pull model manifest: model {reference.text!r} is not in the store, "
                "and pulling is not available in this version of ollamad",
                field="from",
            ) from None
        if found.source.config(found.manifest).remote_host:
            raise Unsupported("remote models are not available in this version of ollamad", field="from")
        manifest = found.manifest
        for digest in manifest.digests():
            pins.add(digest)
        if found.source.kind == "demo":
            self._demo.materialise(self._store)
        content = self._resolver.content(found)
        parent = short(found.name)
        for layer in manifest.layers:
            _use(pins, layer.digest)
            recipe.layers.append(_Taken(replace(layer, from_name=parent)))
        inherited = content.config
        recipe.parameters = dict(content.parameters)
        recipe.config = ModelConfig(
            model_format=inherited.model_format,
            renderer=inherited.renderer,
            parser=inherited.parser,
            requires=inherited.requires,
            capabilities=inherited.capabilities,
        )

    async def _take_files(
        self, recipe: _Recipe, request: CreateRequest, pins: Pins
    ) -> AsyncGenerator[TransferProgress, None]:
        files = request.files or {}
        if not await off_loop(self._are_gguf, files):
            raise InvalidRequest("unknown type", field="files")
        uploads = []
        for file_name, digest in sorted(files.items()):
            yield TransferProgress("parsing GGUF")
            uploads.append(await off_loop(self._read_upload, file_name, digest, pins))
        for upload in uploads:
            kind = layer_kind(upload.header)
            rewritten = kind == "model" and not _has_compatibility_tensors(upload.header)
            if kind == "model":
                _check_quantization(request.quantize, upload.facts.file_type)
            if rewritten:
                await self._open_natively(upload.path)
                yield TransferProgress("verifying conversion")
            # Ollama writes such a file anew, and so forgets where it came from; the bytes stay ours.
            origin = "" if rewritten else upload.file_name
            layer = Layer(_KINDS[kind], upload.digest, upload.size_bytes, from_name=origin)
            recipe.layers.append(_Taken(layer))

    def _are_gguf(self, files: Mapping[str, str]) -> bool:
        """Whether a name or a file's first bytes say GGUF."""
        if any(file_name.endswith(".gguf") for file_name in files):
            return True
        return any(self._magic(digest) == b"GGUF" for digest in files.values())

    def _magic(self, digest: str) -> bytes:
        try:
            with self._store.blob_path(digest).open("rb") as file:
                return file.read(4)
        except (InvalidRequest, OSError):
            return b""

    def _read_upload(self, file_name: str, digest: str, pins: Pins) -> _Upload:
        """Read an uploaded file's header, and keep the blob until this create ends."""
        path = self._store.blob_path(digest)
        _use(pins, digest)
        if self._magic(digest) not in _MAGICS:
            raise InvalidRequest("supplied file was not in GGUF format", field="files")
        header = read_header(path)
        if (header.metadata.get("split.count") or header.get("split.count") or 0) not in (0, 1):
            raise Unsupported("split GGUF files are not available in this version of ollamad", field="files")
        # Digests are written in one spelling, however the client wrote this one.
        digest = digest.lower().replace("-", ":")
        return _Upload(file_name, digest, path, path.stat().st_size, header, file_facts(header).facts)

    async def _open_natively(self, path: Path) -> None:
        try:
            await self._check(path)
        except InvalidModelFile as error:
            raise CreateFailed(
                f"failed to validate GGUF with llama-quantize without compatibility patches: {error}"
            ) from error

    # --- what the request adds

    def _finish_layers(self, recipe: _Recipe, request: CreateRequest, pins: Pins) -> None:
        """Fill the config from request and files, and put the request's own layers at the end."""
        config = recipe.config
        config = replace(
            config,
            renderer=request.renderer or config.renderer,
            parser=request.parser or config.parser,
            requires=request.requires or config.requires,
        )
        recipe.config = read_info(request.info, config)
        parameters = dict(request.parameters)
        for taken in recipe.layers:
            if taken.layer.media_type == MODEL_MEDIA_TYPE:
                digest = taken.layer.digest
                facts = self._resolver.facts.read(digest, self._store.blob_path(digest)).facts
                recipe.config = _with_facts(recipe.config, facts, parameters)
        parameters = {**recipe.parameters, **parameters}
        _replace(recipe, (TEMPLATE_MEDIA_TYPE, PROMPT_MEDIA_TYPE), _texts(request.template), pins)
        _replace(recipe, (SYSTEM_MEDIA_TYPE,), _texts(request.system), pins)
        _append(recipe, LICENSE_MEDIA_TYPE, _texts(*request.licenses), pins)
        # Parameters are written anew even where nothing changes, which puts them behind inherited messages.
        _replace(recipe, (PARAMS_MEDIA_TYPE,), [encode_parameters(parameters)] if parameters else [], pins)
        messages = [encode_messages(request.messages)] if request.messages else []
        _replace(recipe, (MESSAGES_MEDIA_TYPE,), messages, pins)

    def _write_config(self, recipe: _Recipe, pins: Pins) -> Manifest:
        config = _write(CONFIG_MEDIA_TYPE, encode_config(recipe.config), pins)
        return Manifest(config.layer, tuple(taken.layer for taken in recipe.layers))

    def _publish(self, name: ModelName, manifest: Manifest) -> None:
        try:
            self._store.write_manifest(self._store.align_case(name), manifest)
        except BlobNotFound as error:
            raise StoreError(str(error)) from None
        except InvalidName as error:
            raise AssertionError("the name was checked before anything else") from error


def _use(pins: Pins, digest: str) -> None:
    """Keep a blob that should be there."""
    try:
        pins.use(digest)
    except BlobNotFound as error:
        # No mistake of a name: the request is well-formed, its file is gone or never came.
        raise StoreError(str(error)) from None


def _replace(recipe: _Recipe, media_types: tuple[str, ...], bodies: Sequence[bytes], pins: Pins) -> None:
    """Put *bodies* in the place of all layers of *media_types*; without any, what is there stays."""
    if bodies:
        recipe.replaced |= {taken.layer.digest for taken in recipe.layers if taken.layer.media_type in media_types}
        recipe.layers = [taken for taken in recipe.layers if taken.layer.media_type not in media_types]
        _append(recipe, media_types[0], bodies, pins)


def _append(recipe: _Recipe, media_type: str, bodies: Iterable[bytes], pins: Pins) -> None:
    for body in bodies:
        recipe.layers.append(_write(media_type, body, pins))


def _write(media_type: str, body: bytes, pins: Pins) -> _Taken:
    written = pins.write(body)
    return _Taken(Layer(media_type, written.digest, written.size_bytes), written.created)


def _texts(*texts: str) -> list[bytes]:
    return [text.encode("utf-8", "replace") for text in texts if text]


def _with_facts(config: ModelConfig, facts: ModelFacts, parameters: dict[str, Any]) -> ModelConfig:
    """What a model file adds to the config; may add an architecture's own stop text to *parameters*."""
    renderer, parser = _BY_ARCHITECTURE.get(facts.architecture, ("", ""))
    if facts.architecture == "gemma4" and not (config.renderer and config.parser):
        parameters.setdefault("stop", ["<turn|>"])
    return replace(
        config,
        model_format="gguf",
        model_family=facts.architecture,
        model_families=(*(config.model_families or ()), facts.architecture),
        model_type=parameter_size_text(facts.parameter_count),
        file_type=facts.file_type,
        renderer=config.renderer or renderer,
        parser=config.parser or parser,
    )


def _has_compatibility_tensors(header: Header) -> bool:
    return any(tensor.name.startswith(_COMPATIBILITY_TENSORS) for tensor in header.tensors)


def _check_quantization(wanted: str, file_type: str) -> None:
    """Refuse what no version can do by the contract's words, and the rest until it is available."""
    kind = wanted.upper()
    if not kind:
        return
    if kind not in _QUANTIZATIONS:
        raise CreateFailed(f"unsupported quantization type {kind} - supported types are F32, F16, Q4_K_S, Q4_K_M, Q8_0")
    if file_type not in ("F16", "BF16", "F32"):
        raise CreateFailed("quantization is only supported for F16, BF16 and F32 models")
    if file_type != kind:
        raise Unsupported("quantization is not available in this version of ollamad", field="quantize")
