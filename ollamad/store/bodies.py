"""The JSON bodies of layers: config, parameters and messages, with the bytes that Ollama writes."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from typing import Any

from ollamad.errors import InvalidRequest, StoreError
from ollamad.gojson import Struct, encoder_json
from ollamad.types import Message, ModelConfig

#: Keys that stand even when empty, in their order, and those that do not.
_CONFIG_KEYS = ("model_format", "model_family", "model_families", "model_type", "file_type")
_OPTIONAL_CONFIG_KEYS = (
    "renderer",
    "parser",
    "requires",
    "remote_host",
    "remote_model",
    "capabilities",
    "context_length",
    "embedding_length",
    "base_name",
)
_LIST_KEYS = ("model_families", "capabilities")
_NUMBER_KEYS = ("context_length", "embedding_length")

#: Go reads every number of a request as a float64, which holds whole numbers up to here.
_EXACT_INTEGER = 2**53


def encode_config(config: ModelConfig) -> bytes:
    """Return the bytes of a config blob. Source: models contract, config blob."""
    fields = Struct((key, getattr(config, key)) for key in _CONFIG_KEYS)
    for key in _OPTIONAL_CONFIG_KEYS:
        value = getattr(config, key)
        if value:
            fields[key] = value
    return encoder_json(Struct(**fields, architecture="amd64", os="linux"))


def decode_config(data: bytes) -> ModelConfig:
    """Read a config blob; unknown keys are ignored.

    Raises:
        StoreError: Not JSON, or a known key of the wrong type.
    """
    fields = _object(_parse(data, "config"), "config")
    known: dict[str, Any] = {}
    for key in (*_CONFIG_KEYS, *_OPTIONAL_CONFIG_KEYS):
        value = fields.get(key)
        if value is None:
            continue
        if key in _LIST_KEYS:
            known[key] = tuple(_typed(item, str, f"config {key}") for item in _typed(value, list, f"config {key}"))
        else:
            known[key] = _typed(value, int if key in _NUMBER_KEYS else str, f"config {key}")
    return ModelConfig(**known)


def encode_parameters(parameters: Mapping[str, Any]) -> bytes:
    """Return the bytes of a params layer: keys sorted, numbers as Go's float64 shows them.

    Raises:
        InvalidRequest: A number that no float64 holds.
    """
    try:
        return encoder_json({key: _as_go_number(value) for key, value in parameters.items()})
    except (OverflowError, ValueError):
        raise InvalidRequest("a parameter is out of range", field="parameters") from None


def _as_go_number(value: Any) -> Any:
    if isinstance(value, list):
        return [_as_go_number(item) for item in value]
    if isinstance(value, dict):
        return {key: _as_go_number(item) for key, item in value.items()}
    if isinstance(value, int) and abs(value) > _EXACT_INTEGER:
        return float(value)
    return value


def decode_parameters(data: bytes) -> dict[str, Any]:
    """Read a params layer. Raises: StoreError."""
    return _object(_parse(data, "parameters"), "parameters")


def encode_messages(messages: Sequence[Message]) -> bytes:
    """Return the bytes of a messages layer."""
    return encoder_json([_encode_message(message) for message in messages])


def _encode_message(message: Message) -> Struct:
    fields = Struct(role=message.role, content=message.content)
    optional = {
        "thinking": message.thinking,
        "images": message.images,
        "tool_calls": [_encode_call(call) for call in message.tool_calls],
        "tool_name": message.tool_name,
        "tool_call_id": message.tool_call_id,
    }
    fields.update((key, value) for key, value in optional.items() if value)
    return fields


def _encode_call(call: Mapping[str, Any]) -> Struct:
    function = call.get("function") or {}
    fields = Struct(id=call["id"]) if call.get("id") else Struct()
    fields["function"] = Struct(
        index=function.get("index", 0),
        name=function.get("name", ""),
        # Arguments keep the order in which they came; what is nested in them does not.
        arguments=Struct(function.get("arguments") or {}),
    )
    return fields


def decode_messages(data: bytes) -> tuple[Message, ...]:
    """Read a messages layer. Raises: StoreError."""
    items = _typed(_parse(data, "messages"), list, "messages")
    return tuple(_decode_message(_object(item, "message")) for item in items)


def _decode_message(fields: dict[str, Any]) -> Message:
    texts = {
        key: _typed(fields[key], str, f"message {key}")
        for key in ("role", "content", "thinking", "tool_name", "tool_call_id")
        if fields.get(key) is not None
    }
    calls = _typed(fields.get("tool_calls") or [], list, "message tool_calls")
    return Message(
        role=texts.pop("role", ""),
        content=texts.pop("content", ""),
        images=tuple(_decode_image(item) for item in _typed(fields.get("images") or [], list, "message images")),
        tool_calls=tuple(_object(call, "tool call") for call in calls),
        **texts,
    )


def _decode_image(value: Any) -> bytes:
    try:
        return base64.b64decode(_typed(value, str, "message image"), validate=True)
    except ValueError:
        raise StoreError("message image is not valid") from None


def _parse(data: bytes, what: str) -> Any:
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        raise StoreError(f"{what} layer is not valid JSON") from None


def _object(value: Any, what: str) -> dict[str, Any]:
    return _typed(value, dict, what)  # type: ignore[no-any-return]


def _typed(value: Any, kind: type, what: str) -> Any:
    if not isinstance(value, kind) or isinstance(value, bool):
        raise StoreError(f"{what} is not valid")
    return value
