"""A manifest: what a name is made of, as a value and as bytes."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from ollamad.gojson import Struct, encoder_json
from ollamad.types import ModelName

MANIFEST_MEDIA_TYPE = "application/vnd.docker.distribution.manifest.v2+json"
CONFIG_MEDIA_TYPE = "application/vnd.docker.container.image.v1+json"

_IMAGE = "application/vnd.ollama.image."
MODEL_MEDIA_TYPE = _IMAGE + "model"
PROJECTOR_MEDIA_TYPE = _IMAGE + "projector"
ADAPTER_MEDIA_TYPE = _IMAGE + "adapter"
DRAFT_MEDIA_TYPE = _IMAGE + "draft"
TEMPLATE_MEDIA_TYPE = _IMAGE + "template"
PROMPT_MEDIA_TYPE = _IMAGE + "prompt"
SYSTEM_MEDIA_TYPE = _IMAGE + "system"
PARAMS_MEDIA_TYPE = _IMAGE + "params"
MESSAGES_MEDIA_TYPE = _IMAGE + "messages"
LICENSE_MEDIA_TYPE = _IMAGE + "license"
TENSOR_MEDIA_TYPE = _IMAGE + "tensor"
JSON_MEDIA_TYPE = _IMAGE + "json"


@dataclass(frozen=True, slots=True)
class Layer:
    """An entry of a manifest. ``from_name``: the model or file it came from; ``name``: its tensor or file name."""

    media_type: str
    digest: str
    size_bytes: int
    from_name: str = ""
    name: str = ""


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a name is made of. ``config`` None or with an empty digest: the model has no config blob."""

    config: Layer | None
    layers: tuple[Layer, ...] = ()
    schema_version: int = 2
    media_type: str = MANIFEST_MEDIA_TYPE

    @property
    def size_bytes(self) -> int:
        """The sizes of all layers and the config; a layer that stands twice counts twice."""
        return sum(layer.size_bytes for layer in self.layers) + (self.config.size_bytes if self.config else 0)

    def digests(self) -> frozenset[str]:
        """Every digest that keeps a blob alive."""
        config = (self.config,) if self.config else ()
        return frozenset(layer.digest for layer in (*self.layers, *config) if layer.digest)

    def of_type(self, media_type: str) -> tuple[Layer, ...]:
        """The layers of one media type, in order."""
        return tuple(layer for layer in self.layers if layer.media_type == media_type)


@dataclass(frozen=True, slots=True)
class StoredManifest:
    """A manifest as it lies on disk. ``digest`` is the hex SHA-256 of the file's bytes, without prefix."""

    name: ModelName
    manifest: Manifest
    digest: str
    modified_ns: int
    file_size_bytes: int


def encode_manifest(manifest: Manifest) -> bytes:
    """Return the bytes that Ollama would write for *manifest*."""
    config = manifest.config or Layer("", "", 0)
    return encoder_json(
        Struct(
            schemaVersion=manifest.schema_version,
            mediaType=manifest.media_type,
            config=_encode_layer(config),
            layers=[_encode_layer(layer) for layer in manifest.layers],
        )
    )


def _encode_layer(layer: Layer) -> Struct:
    fields = Struct(mediaType=layer.media_type, digest=layer.digest, size=layer.size_bytes)
    if layer.from_name:
        fields["from"] = layer.from_name
    if layer.name:
        fields["name"] = layer.name
    return fields


def decode_manifest(data: bytes) -> Manifest:
    """Read a manifest in any field order, with unknown fields; missing ones are empty.

    Raises:
        ValueError: Not JSON, or not of a manifest's shape.
    """
    try:
        fields = json.loads(data)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    if not isinstance(fields, dict):
        raise ValueError("a manifest is a JSON object")
    config = fields.get("config")
    return Manifest(
        config=None if config is None else _decode_layer(config),
        layers=tuple(_decode_layer(layer) for layer in _typed(fields, "layers", list, [])),
        schema_version=_typed(fields, "schemaVersion", int, 0),
        media_type=_typed(fields, "mediaType", str, ""),
    )


def _decode_layer(fields: Any) -> Layer:
    if not isinstance(fields, dict):
        raise ValueError("a layer is a JSON object")
    return Layer(
        media_type=_typed(fields, "mediaType", str, ""),
        digest=_typed(fields, "digest", str, ""),
        size_bytes=_typed(fields, "size", int, 0),
        from_name=_typed(fields, "from", str, ""),
        name=_typed(fields, "name", str, ""),
    )


def _typed(fields: dict[str, Any], key: str, kind: type, default: Any) -> Any:
    value = fields.get(key)
    if value is None:
        return default
    if not isinstance(value, kind) or isinstance(value, bool):
        raise ValueError(f"{key} is not a {kind.__name__}")
    return value
