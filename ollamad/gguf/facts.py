"""What a header tells those who do not want to know its keys."""

from __future__ import annotations

from typing import Literal

from ollamad.gguf.header import Array, Header
from ollamad.gguf.numbers import file_type_name
from ollamad.types import ModelFacts


def facts(header: Header) -> ModelFacts:
    """Return what the rest of the daemon wants to know of a header; a key of the wrong type counts as absent."""
    return ModelFacts(
        architecture=header.architecture,
        context_length=header.count("context_length"),
        embedding_length=header.count("embedding_length"),
        block_count=header.count("block_count"),
        head_count_max=max(header.counts("attention.head_count"), default=0),
        # Recurrent blocks of hybrid models say 0: they have no such heads.
        head_count_kv_min=min((n for n in header.counts("attention.head_count_kv") if n > 0), default=0),
        vocab_size=_vocab_size(header),
        has_pooling=header.get("pooling_type") is not None,
        has_vision=header.get("vision.block_count") is not None,
        has_audio=header.get("audio.block_count") is not None,
        chat_template=header.text("tokenizer.chat_template") or None,
        # Source: models contract, names for types: Ollama's accessor takes 0 (F32) for absent.
        file_type=file_type_name(header.count("general.file_type") or -1),
        parameter_count=header.parameter_count,
        size_bytes=header.size_bytes,
    )


def _vocab_size(header: Header) -> int:
    tokens = header.get("tokenizer.ggml.tokens")
    return tokens.length if isinstance(tokens, Array) else header.count("vocab_size")


def layer_kind(header: Header) -> Literal["model", "projector", "adapter"]:
    """Return what a file becomes in a create. Source: models contract, ``/api/create``."""
    kind = header.text("general.type")
    if kind == "adapter":
        return "adapter"
    if kind in ("projector", "mmproj"):
        return "projector"
    if header.count("block_count"):
        return "model"
    encoder = header.flag("has_vision_encoder") or header.flag("has_audio_encoder")
    if header.count("vision.block_count") or (header.architecture == "clip" and encoder):
        return "projector"
    return "model"


def parameter_size_text(count: int) -> str:
    """Return a parameter count as people write it: ``26M``, ``1.23M``, ``8.0B``."""
    for unit, letter, decimals in ((1e9, "B", 1), (1e6, "M", 2)):
        if count >= unit:
            number = count / unit
            return f"{number:.{0 if number.is_integer() else decimals}f}{letter}"
    return f"{count / 1e3:.0f}K" if count >= 1e3 else str(count)
