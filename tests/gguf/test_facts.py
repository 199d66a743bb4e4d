"""What headers tell: facts, the kind of a layer, sizes as people write them."""

from pathlib import Path
from typing import Any

import gguf_writer as w
import pytest

from ollamad.gguf import Array, facts, layer_kind, parameter_size_text, read_header

LLAMA: dict[str, Any] = {
    "general.architecture": "llama",
    "general.file_type": 15,
    "llama.block_count": 2,
    "llama.context_length": 4096,
    "llama.embedding_length": 64,
    "llama.attention.head_count": 8,
    "llama.attention.head_count_kv": 2,
    "tokenizer.ggml.tokens": ["a", "b", "c"],
    "tokenizer.chat_template": "{{ messages }}",
}


def header_of(tmp_path: Path, metadata: dict[str, Any]) -> Any:
    return read_header(w.write(tmp_path / "x.gguf", metadata, [w.TensorSpec("t", (10,))]))


def test_facts_of_a_model(tmp_path: Path) -> None:
    """Every fact comes from its key under the architecture."""
    told = facts(header_of(tmp_path, LLAMA))
    assert (told.architecture, told.context_length, told.embedding_length, told.block_count) == ("llama", 4096, 64, 2)
    assert (told.head_count_max, told.head_count_kv_min, told.vocab_size) == (8, 2, 3)
    assert (told.file_type, told.chat_template, told.parameter_count) == ("Q4_K_M", "{{ messages }}", 10)
    assert (told.has_pooling, told.has_vision, told.has_audio) == (False, False, False)
    assert told.size_bytes == (tmp_path / "x.gguf").stat().st_size


def test_facts_of_an_empty_file(tmp_path: Path) -> None:
    """What the header does not tell is zero, unknown or None."""
    told = facts(header_of(tmp_path, {}))
    assert (told.architecture, told.context_length, told.file_type, told.chat_template) == (
        "unknown",
        0,
        "unknown",
        None,
    )


def test_values_of_the_wrong_type_count_as_absent(tmp_path: Path) -> None:
    """A key of the wrong type is no fact and no error."""
    wrong = {
        **LLAMA,
        "llama.context_length": "long",
        "llama.embedding_length": True,
        "llama.block_count": -1,
        "tokenizer.chat_template": 1,
        "general.file_type": "Q8",
        "tokenizer.ggml.tokens": 5,
        "llama.attention.head_count": [1.5],
    }
    told = facts(header_of(tmp_path, wrong))
    assert (told.context_length, told.embedding_length, told.block_count, told.vocab_size) == (0, 0, 0, 0)
    assert (told.chat_template, told.file_type, told.head_count_max) == (None, "unknown", 0)


@pytest.mark.parametrize(("value", "expected"), [([1, 5, 3, 4], 5), (3, 3)])
def test_head_counts(tmp_path: Path, value: Any, expected: int) -> None:
    """G7: a head count may be one number or one per block."""
    assert facts(header_of(tmp_path, {**LLAMA, "llama.attention.head_count": value})).head_count_max == expected


def test_blocks_without_heads(tmp_path: Path) -> None:
    """Recurrent blocks, which say 0, do not make the smallest count."""
    told = facts(header_of(tmp_path, {**LLAMA, "llama.attention.head_count_kv": [0, 8, 0, 4]}))
    assert told.head_count_kv_min == 4


def test_file_type_zero_is_unknown(tmp_path: Path) -> None:
    """Ollama's accessor cannot tell F32 from a missing key."""
    assert facts(header_of(tmp_path, {**LLAMA, "general.file_type": 0})).file_type == "unknown"


def test_modalities(tmp_path: Path) -> None:
    """Pooling, vision and audio are told by the presence of their keys."""
    more = {"llama.pooling_type": 0, "llama.vision.block_count": 1, "llama.audio.block_count": 1}
    told = facts(header_of(tmp_path, {**LLAMA, **more}))
    assert (told.has_pooling, told.has_vision, told.has_audio) == (True, True, True)


def test_lookup(tmp_path: Path) -> None:
    """G6: a key is looked up under the architecture unless it is general or of the tokenizer."""
    header = header_of(tmp_path, {"general.architecture": "test", "test.strings": ["a"], "test.float32s": [0.5]})
    assert header.get("strings") == Array(8, 1)
    assert header.get("float32s") == Array(6, 1, (0.5,))
    assert header.get("general.architecture") == "test"
    assert (header.get("none"), header.text("none"), header.count("none"), header.flag("none")) == (None, "", 0, False)


@pytest.mark.parametrize(
    ("metadata", "kind"),
    [
        (LLAMA, "model"),
        ({}, "model"),
        ({"general.type": "adapter"}, "adapter"),
        ({"general.type": "projector"}, "projector"),
        ({"general.type": "mmproj", "general.architecture": "clip"}, "projector"),
        ({**LLAMA, "llama.vision.block_count": 1}, "model"),
        ({"general.architecture": "x", "x.vision.block_count": 1}, "projector"),
        ({"general.architecture": "clip", "clip.has_vision_encoder": True}, "projector"),
        ({"general.architecture": "clip", "clip.has_audio_encoder": True}, "projector"),
        ({"general.architecture": "clip", "clip.has_audio_encoder": False}, "model"),
        ({"general.architecture": "clip"}, "model"),
    ],
)
def test_layer_kinds(tmp_path: Path, metadata: dict[str, Any], kind: str) -> None:
    """A create tells models, projectors and adapters apart by their keys."""
    assert layer_kind(header_of(tmp_path, metadata)) == kind


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0"),
        (999, "999"),
        (1_000, "1K"),
        (999_999, "1000K"),
        (1_000_000, "1M"),
        (1_234_567, "1.23M"),
        (4_066_944, "4.07M"),
        (26_000_000, "26M"),
        (1_000_000_000, "1B"),
        (8_030_261_248, "8.0B"),
        (25_200_000_000, "25.2B"),
    ],
)
def test_parameter_sizes(count: int, text: str) -> None:
    """G8: sizes are written with one unit and its number of decimals."""
    assert parameter_size_text(count) == text
