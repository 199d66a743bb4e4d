"""Writes a small, valid GGUF for the fake backend; its tensor is never looked at."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

_UINT32, _FLOAT32, _BOOL, _STRING, _ARRAY = 4, 6, 7, 8, 9
_ALIGNMENT = 32


def write_fake_model(path: Path, *, metadata: dict[str, Any] | None = None, **options: Any) -> Path:
    """Write a model file of architecture ``fake`` and return *path*.

    Args:
        metadata: Further keys, or other values for the usual ones.
        options: Fields of `FakeOptions` for this model, stored as ``fake.NAME``.

    Source: GGUF version 3, as ggml's docs/gguf.md describes it.
    """
    values: dict[str, Any] = {
        "general.architecture": "fake",
        "general.name": "fake",
        "fake.context_length": options.get("n_ctx_train", 4096),
        "fake.embedding_length": options.get("n_embd", 16),
        "fake.block_count": 1,
        "fake.attention.head_count": 1,
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.tokens": ["a", "b"],
        **{f"fake.{name}": value for name, value in options.items()},
        **(metadata or {}),
    }
    if options.get("chat_template"):
        values["tokenizer.chat_template"] = options["chat_template"]
    body = bytearray(b"GGUF" + struct.pack("<IQQ", 3, 1, len(values)))
    for key, value in values.items():
        body += _text(key) + _typed(value)
    body += _text("token_embd.weight") + struct.pack("<IQIQ", 1, 8, 0, 0)  # eight float32 at offset 0
    body += bytes(-len(body) % _ALIGNMENT) + bytes(8 * 4)
    path.write_bytes(body)
    return path


def _text(text: str) -> bytes:
    encoded = text.encode()
    return struct.pack("<Q", len(encoded)) + encoded


def _typed(value: Any) -> bytes:
    if isinstance(value, list):
        return struct.pack("<IIQ", _ARRAY, _STRING, len(value)) + b"".join(map(_text, value))
    if isinstance(value, bool):
        return struct.pack("<IB", _BOOL, value)
    if isinstance(value, int):
        return struct.pack("<II", _UINT32, value)
    if isinstance(value, float):
        return struct.pack("<If", _FLOAT32, value)
    return struct.pack("<I", _STRING) + _text(str(value))
