"""Models of real shapes with random weights: speed depends on shapes, and nothing has to be downloaded.

They have the vocabulary of Qwen2 (151,936 entries, from the sdist) and the quantisation that people use (Q4_K_M). The
rows of all control tokens are zero, so that they are never among the 40 most likely: nothing ends before its limit.
"""

from __future__ import annotations

import ctypes
import sys
from dataclasses import dataclass
from pathlib import Path

from tests.bench.build import source
from tests.bench.cache import cache_folder

#: LLAMA_FTYPE_MOSTLY_Q4_K_M, and GGUF's general.file_type of halves.
_Q4_K_M = 15
_MOSTLY_F16 = 1
_FIRST_CONTROL_TOKEN = 151643


@dataclass(frozen=True)
class Shape:
    """The numbers of a Qwen2 model."""

    layers: int
    width: int
    feed_forward: int
    heads: int
    kv_heads: int
    context: int = 32768


SHAPES = {
    "q05": Shape(24, 896, 4864, 14, 2),
    "q15": Shape(28, 1536, 8960, 12, 2),
    "tiny": Shape(4, 128, 512, 4, 2),
}


def model(name: str) -> Path:
    """Return the GGUF of *name*, made if it is not in the cache."""
    path = cache_folder() / f"{name}.gguf"
    if not path.is_file():
        print(f"+ making {path}", file=sys.stderr, flush=True)
        halves = path.with_suffix(".f16")
        _write(halves, SHAPES[name], name)
        _quantise(halves, path)
        halves.unlink()
    return path


def _write(path: Path, shape: Shape, name: str) -> None:
    import gguf
    import numpy as np

    writer = gguf.GGUFWriter(path, "qwen2")
    n_vocab = _copy_vocabulary(writer)
    writer.add_name(f"synthetic {name}")
    writer.add_file_type(_MOSTLY_F16)
    writer.add_context_length(shape.context)
    writer.add_embedding_length(shape.width)
    writer.add_block_count(shape.layers)
    writer.add_feed_forward_length(shape.feed_forward)
    writer.add_head_count(shape.heads)
    writer.add_head_count_kv(shape.kv_heads)
    writer.add_rope_freq_base(1e6)
    writer.add_layer_norm_rms_eps(1e-6)
    tensors = _tensors(shape, n_vocab)
    for tensor, (rows, columns) in tensors.items():
        kind = np.float16 if columns else np.float32
        dimensions = (rows, columns) if columns else (rows,)
        size = rows * max(columns, 1) * np.dtype(kind).itemsize
        writer.add_tensor_info(tensor, dimensions, np.dtype(kind), size)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    random = np.random.default_rng(1)
    for tensor, (rows, columns) in tensors.items():
        if not columns:
            data = np.full(rows, 1.0 if "norm" in tensor else 0.0, dtype=np.float32)
        else:
            data = (random.standard_normal((rows, columns), dtype=np.float32) * 0.05).astype(np.float16)
        if tensor == "token_embd.weight":
            data[_FIRST_CONTROL_TOKEN:] = 0
        writer.write_tensor_data(data)
    writer.close()


def _copy_vocabulary(writer: object) -> int:
    """Copy every ``tokenizer.*`` key of the vocabulary in the sdist; return how many tokens it has."""
    import gguf

    reader = gguf.GGUFReader(source() / "models" / "ggml-vocab-qwen2.gguf")
    for key, field in reader.fields.items():
        if key.startswith("tokenizer.") and key != "tokenizer.chat_template":
            sub_type = field.types[1] if field.types[0] == gguf.GGUFValueType.ARRAY else None
            writer.add_key_value(key, field.contents(), field.types[0], sub_type)  # type: ignore[attr-defined]
    return len(reader.fields["tokenizer.ggml.tokens"].data)


def _tensors(shape: Shape, n_vocab: int) -> dict[str, tuple[int, int]]:
    """Name -> (rows, columns); 0 columns is a vector. The output is the embedding, as in Qwen2.5-0.5B."""
    width, kv_width = shape.width, shape.width // shape.heads * shape.kv_heads
    found = {"token_embd.weight": (n_vocab, width), "output_norm.weight": (width, 0)}
    for layer in range(shape.layers):
        parts = {
            "attn_norm.weight": (width, 0),
            "attn_q.weight": (width, width),
            "attn_q.bias": (width, 0),
            "attn_k.weight": (kv_width, width),
            "attn_k.bias": (kv_width, 0),
            "attn_v.weight": (kv_width, width),
            "attn_v.bias": (kv_width, 0),
            "attn_output.weight": (width, width),
            "ffn_norm.weight": (width, 0),
            "ffn_gate.weight": (shape.feed_forward, width),
            "ffn_up.weight": (shape.feed_forward, width),
            "ffn_down.weight": (width, shape.feed_forward),
        }
        found |= {f"blk.{layer}.{part}": size for part, size in parts.items()}
    return found


def _quantise(halves: Path, path: Path) -> None:
    import llama_cpp

    parameters = llama_cpp.llama_model_quantize_default_params()
    parameters.ftype = _Q4_K_M
    partial = path.with_suffix(".partial")
    if llama_cpp.llama_model_quantize(str(halves).encode(), str(partial).encode(), ctypes.byref(parameters)):
        raise SystemExit(f"llama_model_quantize failed for {halves}")
    partial.rename(path)


if __name__ == "__main__":
    for each in sys.argv[1:] or ("tiny", "q05"):
        print(model(each))
