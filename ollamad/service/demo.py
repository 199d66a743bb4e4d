"""The demo model: a read-only layer over the store, always listed until someone hides it.

It has a manifest like any model, but its bodies are package data and constants. A stored ``demo`` wins
over it; ``rm`` hides it by a mark in the state directory; a copy becomes real blobs (`materialise`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from functools import cached_property
from pathlib import Path

from ollamad.errors import BlobNotFound
from ollamad.names import fold, parse_name
from ollamad.service.sources import Found, SourceKind
from ollamad.state import State
from ollamad.store import Layer, Manifest, Store, StoredManifest, encode_config, encode_parameters
from ollamad.store.manifests import (
    CONFIG_MEDIA_TYPE,
    LICENSE_MEDIA_TYPE,
    MODEL_MEDIA_TYPE,
    PARAMS_MEDIA_TYPE,
    encode_manifest,
)
from ollamad.types import ModelConfig, ModelName

NAME = parse_name("demo")

#: Of the packaged ``demo.gguf``; a test compares. Written here so that no start has to hash it.
WEIGHTS_DIGEST = "sha256:aca39b7733afd02e2ffd7e51a09246a17bb35b5b82c6c3916c8b8007ee0b0afa"
WEIGHTS_BYTES = 4389152

CONFIG = ModelConfig(
    model_format="gguf", model_family="qwen3", model_families=("qwen3",), model_type="4.07M", file_type="Q8_0"
)
PARAMETERS: Mapping[str, object] = {
    "num_ctx": 2048,
    "repeat_penalty": 1,
    "stop": ["<|im_start|>", "<|im_end|>", "<|endoftext|>"],
    "temperature": 0,
}
LICENSE = (
    "Apache License 2.0. The model was trained from scratch on synthetic text that was written for it; "
    "weights and text belong to the ollamad authors."
)
_CHUNK_BYTES = 2**20


class DemoLayer:
    """The demo model as a source with one name. ``enabled``: not turned off by configuration."""

    kind: SourceKind = "demo"

    def __init__(self, state: State, *, enabled: bool = True) -> None:
        self._state = state
        self._enabled = enabled

    def found(self) -> Found | None:
        """The model, None while it is turned off or hidden."""
        if not self._enabled or self._state.demo_hidden:
            return None
        return Found(self._stored, self)

    def match(self, name: ModelName) -> Found | None:
        """The model if *name* means it, letter case ignored."""
        return self.found() if fold(name) == fold(NAME) else None

    def is_among(self, names: Iterable[ModelName]) -> bool:
        """Whether one of *names* is the demo's own, and so hides it from a list."""
        return any(fold(name) == fold(NAME) for name in names)

    def hide(self) -> None:
        """Take it off the list for good. Raises: StoreError."""
        self._state.hide_demo()

    def body(self, digest: str) -> bytes:
        try:
            return self._bodies[digest]
        except KeyError:
            raise BlobNotFound(digest) from None

    def file(self, digest: str) -> Path:
        if digest != WEIGHTS_DIGEST:
            raise BlobNotFound(digest)
        return weights_path()

    def config(self, manifest: Manifest) -> ModelConfig:
        return CONFIG

    def materialise(self, store: Store) -> Manifest:
        """Write its bodies to the store as blobs; the manifest returned is the caller's to publish."""
        with store.open_writer() as writer, weights_path().open("rb") as weights:
            while chunk := weights.read(_CHUNK_BYTES):
                writer.write(chunk)
            writer.commit(WEIGHTS_DIGEST)
        for body in self._bodies.values():
            store.write_blob(body)
        return self._stored.manifest

    @cached_property
    def _bodies(self) -> Mapping[str, bytes]:
        bodies = (encode_config(CONFIG), LICENSE.encode(), encode_parameters(PARAMETERS))
        return {_digest(body): body for body in bodies}

    @cached_property
    def _stored(self) -> StoredManifest:
        config, *layers = (
            Layer(kind, digest, len(body))
            for kind, (digest, body) in zip(
                (CONFIG_MEDIA_TYPE, LICENSE_MEDIA_TYPE, PARAMS_MEDIA_TYPE), self._bodies.items(), strict=True
            )
        )
        manifest = Manifest(config, (Layer(MODEL_MEDIA_TYPE, WEIGHTS_DIGEST, WEIGHTS_BYTES), *layers))
        data = encode_manifest(manifest)
        return StoredManifest(
            name=NAME,
            manifest=manifest,
            digest=hashlib.sha256(data).hexdigest(),
            modified_ns=weights_path().stat().st_mtime_ns,
            file_size_bytes=len(data),
        )


def weights_path() -> Path:
    """The packaged GGUF."""
    from importlib.resources import files  # costs start-up time, and only users of the demo need it

    return Path(str(files("ollamad") / "_data" / "demo.gguf"))


def _digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"
