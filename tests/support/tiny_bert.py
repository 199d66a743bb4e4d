"""Writes an encoder of a few kilobytes that llama.cpp loads: BERT with a WordPiece vocabulary of letters."""

from __future__ import annotations

import random
import struct
from pathlib import Path

from gguf_writer import TensorSpec, array, u32, write

WIDTH, INNER, LAYERS, CONTEXT = 32, 64, 1, 64
_SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
_NORMAL, _CONTROL = 1, 3


def write_tiny_bert(path: Path) -> Path:
    """A model that tells its inputs apart; mean pooling, [CLS] and [SEP] around each input."""
    words = [chr(letter) for letter in range(ord("a"), ord("z") + 1)]
    tokens = [*_SPECIAL, *(f"\u2581{word}" for word in words), *words]
    metadata = {
        "general.architecture": "bert",
        "general.name": "tiny",
        "bert.context_length": u32(CONTEXT),
        "bert.embedding_length": u32(WIDTH),
        "bert.feed_forward_length": u32(INNER),
        "bert.block_count": u32(LAYERS),
        "bert.attention.head_count": u32(2),
        "bert.attention.layer_norm_epsilon": 1e-12,
        "bert.attention.causal": False,
        "bert.pooling_type": u32(1),
        "tokenizer.ggml.model": "bert",
        "tokenizer.ggml.token_type_count": u32(2),
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": array(5, [_CONTROL if token in _SPECIAL else _NORMAL for token in tokens]),
        "tokenizer.ggml.padding_token_id": u32(0),
        "tokenizer.ggml.unknown_token_id": u32(1),
        "tokenizer.ggml.cls_token_id": u32(2),
        "tokenizer.ggml.bos_token_id": u32(2),
        "tokenizer.ggml.seperator_token_id": u32(3),
        "tokenizer.ggml.mask_token_id": u32(4),
    }
    return write(path, metadata, _tensors(len(tokens)))


def _tensors(n_tokens: int) -> list[TensorSpec]:
    norms = ("token_embd_norm", "blk.0.attn_output_norm", "blk.0.layer_output_norm")
    matrices = {
        "token_embd": (WIDTH, n_tokens),
        "position_embd": (WIDTH, CONTEXT),
        "token_types": (WIDTH, 2),
        "blk.0.attn_q": (WIDTH, WIDTH),
        "blk.0.attn_k": (WIDTH, WIDTH),
        "blk.0.attn_v": (WIDTH, WIDTH),
        "blk.0.attn_output": (WIDTH, WIDTH),
        "blk.0.ffn_up": (WIDTH, INNER),
        "blk.0.ffn_down": (INNER, WIDTH),
    }
    with_bias = [name for name in matrices if name.startswith("blk")]
    specs = [_filled(f"{name}.weight", shape, seed) for seed, (name, shape) in enumerate(matrices.items())]
    specs += [_constant(f"{name}.bias", matrices[name][1], 0.0) for name in with_bias]
    for name in norms:
        specs += [_constant(f"{name}.weight", WIDTH, 1.0), _constant(f"{name}.bias", WIDTH, 0.0)]
    return specs


def _filled(name: str, shape: tuple[int, ...], seed: int) -> TensorSpec:
    numbers = random.Random(seed)
    count = shape[0] * shape[1]
    return TensorSpec(name, shape, data=struct.pack(f"<{count}f", *(numbers.gauss(0, 0.3) for _ in range(count))))


def _constant(name: str, length: int, value: float) -> TensorSpec:
    return TensorSpec(name, (length,), data=struct.pack(f"<{length}f", *[value] * length))
