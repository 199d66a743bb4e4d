"""`show` as sections (runtime contract, SHW cases)."""

import pytest

from ollamad.cli.show import metadata_value, sections

DETAILS = {"family": "test", "parameter_size": "7B", "quantization_level": "FP16"}
MODEL = "  Model\n    architecture    test    \n    parameters      7B      \n    quantization    FP16    \n\n"


def test_without_model_info() -> None:
    """SHW-01."""
    assert sections({"details": DETAILS}) == MODEL


def test_with_model_info() -> None:
    """SHW-02."""
    info = {
        "general.architecture": "test",
        "general.parameter_count": 7_000_000_000,
        "test.context_length": 0,
        "test.embedding_length": 0,
    }
    details = {**DETAILS, "parameter_size": ""}
    lines = [line.split() for line in sections({"details": details, "model_info": info}).splitlines()]
    assert lines[1:6] == [
        ["architecture", "test"],
        ["parameters", "7B"],
        ["context", "length", "0"],
        ["embedding", "length", "0"],
        ["quantization", "FP16"],
    ]


def test_verbose() -> None:
    """SHW-03."""
    info = {
        "general.architecture": "test",
        "general.parameter_count": 8_000_000_000,
        "some.true_bool": True,
        "some.false_bool": False,
        "test.context_length": 1000,
        "test.embedding_length": 11434,
    }
    tensors = [
        {"name": "blk.0.attn_k.weight", "type": "BF16", "shape": [42, 3117]},
        {"name": "blk.0.attn_q.weight", "type": "FP16", "shape": [3117, 42]},
    ]
    answer = {"details": DETAILS, "model_info": info, "parameters": "stop    up", "tensors": tensors}
    text = sections(answer, verbose=True)
    assert [line for line in text.splitlines() if line.startswith("  ") and line[2] != " "] == [
        "  Model",
        "  Parameters",
        "  Metadata",
        "  Tensors",
    ]
    assert "    stop    up    \n" in text
    for row in ("8e+09", "true", "false", "1000", "11434"):
        assert f" {row} " in text
    assert "    blk.0.attn_k.weight    BF16    [42 3117]    \n" in text
    assert sections(answer) == text[: text.index("  Metadata")]


def test_parameters_in_columns() -> None:
    """SHW-04."""
    words = ("never", "gonna", "give", "you", "up")
    lines = [f"stop    {word}" for word in words]
    text = sections({"details": DETAILS, "parameters": "\n".join([*lines, "temperature    99"])})
    rows = [*(("stop", word) for word in words), ("temperature", "99")]
    expected = "".join(f"    {name:<11}    {value:<5}    \n" for name, value in rows)
    assert text == f"{MODEL}  Parameters\n{expected}\n"


def test_projector() -> None:
    """SHW-05."""
    projector = {
        "general.architecture": "clip",
        "general.parameter_count": 133_700_000,
        "clip.vision.embedding_length": 0,
        "clip.vision.projection_dim": 0,
    }
    text = sections({"details": DETAILS, "projector_info": projector})
    assert text.endswith(
        "  Projector\n    architecture        clip       \n    parameters          133.70M    \n"
        "    embedding length    0          \n    dimensions          0          \n\n"
    )


@pytest.mark.parametrize(
    ("key", "value", "shown"),
    [
        ("system", "You are a pirate!\nAhoy, matey!\nWeigh anchor!\n", ["You are a pirate!", "Ahoy, matey!", "..."]),
        ("license", "MIT License\nCopyright (c) Ollama", ["MIT License", "Copyright (c) Ollama"]),
    ],
)
def test_the_head_of_a_long_text(key: str, value: str, shown: list[str]) -> None:
    """SHW-06, SHW-07."""
    text = sections({"details": DETAILS, key: value}).removeprefix(MODEL)
    assert [line.strip() for line in text.splitlines()] == [key.title(), *shown, ""]


def test_capabilities_and_requires() -> None:
    """SHW-08, SHW-09, SHW-10."""
    answer = {"details": DETAILS, "capabilities": ["vision", "tools"], "requires": "0.19.0", "license": "x"}
    text = sections(answer)
    assert "    quantization    FP16      \n    requires        0.19.0    \n\n  Capabilities\n" in text
    assert "    vision    \n    tools     \n" in text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (['!"#$%&'[i % 6] for i in range(32000)], '[! " # ...+31997 more]'),
        (["longer than the cell", "b"], "[longer than the cell ...+1 more]"),
        ([], "[]"),
        (None, "<nil>"),
    ],
)
def test_lists_show_what_fits(value: object, text: str) -> None:
    """SHW-11, and the edges."""
    assert metadata_value(value) == text
