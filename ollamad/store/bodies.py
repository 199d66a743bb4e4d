"""The JSON bodies of layers: config, parameters and messages, with the bytes that Ollama writes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ollamad.types import Message, ModelConfig


def encode_config(config: ModelConfig) -> bytes:
    """Return the bytes of a config blob. Source: models contract, config blob."""
    raise NotImplementedError


def decode_config(data: bytes) -> ModelConfig:
    """Read a config blob; unknown keys are ignored.

    Raises:
        StoreError: Not JSON, or a known key of the wrong type.
    """
    raise NotImplementedError


def encode_parameters(parameters: Mapping[str, Any]) -> bytes:
    """Return the bytes of a params layer: keys sorted, numbers as given."""
    raise NotImplementedError


def decode_parameters(data: bytes) -> dict[str, Any]:
    """Read a params layer. Raises: StoreError."""
    raise NotImplementedError


def encode_messages(messages: Sequence[Message]) -> bytes:
    """Return the bytes of a messages layer."""
    raise NotImplementedError


def decode_messages(data: bytes) -> tuple[Message, ...]:
    """Read a messages layer. Raises: StoreError."""
    raise NotImplementedError
