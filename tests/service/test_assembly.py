"""Which messages a model gets."""

from __future__ import annotations

import pytest

from ollamad.plugin.frontend import InferenceRequest
from ollamad.service.assembly import chat_messages, generate_messages
from ollamad.types import Message, ModelConfig, ModelName, ResolvedModel


def model(name: str = "m", family: str = "llama", **changes) -> ResolvedModel:
    full = ModelName("registry.ollama.ai", "library", name, "latest")
    return ResolvedModel(name, full, name, "d", (), config=ModelConfig(model_family=family), **changes)


def talk(*turns: str) -> tuple[Message, ...]:
    """``"u:text"`` is a user message; s, a and t stand for system, assistant and tool."""
    roles = {"u": "user", "s": "system", "a": "assistant", "t": "tool"}
    return tuple(Message(roles[turn[0]], turn[2:]) for turn in turns)


STORED = {"messages": talk("u:stored", "a:yes")}


@pytest.mark.parametrize(
    ("changes", "request_", "expected"),
    [
        pytest.param({}, ("u:hi",), ("u:hi",), id="CH-06"),
        pytest.param({"system": "S"}, ("u:hi",), ("s:S", "u:hi"), id="CH-07"),
        pytest.param({"system": "S"}, ("s:mine", "u:hi"), ("s:mine", "u:hi"), id="CH-08"),
        pytest.param({"system": "S"}, ("u:1", "a:2", "s:3", "u:4"), ("s:S", "u:1", "a:2", "s:3", "u:4"), id="CH-09"),
        pytest.param({"system": "S", **STORED}, ("u:hi",), ("s:S", "u:stored", "a:yes", "u:hi"), id="stored"),
        pytest.param({"system": "S", **STORED}, ("s:mine",), ("u:stored", "a:yes", "s:mine"), id="stored-own-system"),
    ],
)
def test_chat(changes, request_, expected):
    """Stored messages come before the request's; the model's system text is first unless the request has its own."""
    assert chat_messages(InferenceRequest(model(**changes), messages=talk(*request_))) == talk(*expected)


@pytest.mark.parametrize(
    ("changes", "request_", "expected"),
    [
        pytest.param({}, {}, ("u:hi",), id="GE-09"),
        pytest.param({"system": "S"}, {}, ("s:S", "u:hi"), id="GE-10"),
        pytest.param({"system": "S"}, {"system": "mine"}, ("s:mine", "u:hi"), id="GE-11"),
        pytest.param({"system": "S", **STORED}, {}, ("s:S", "u:stored", "a:yes", "u:hi"), id="stored"),
        pytest.param({"system": "S", **STORED}, {"prefix_tokens": (1,)}, ("s:S", "u:hi"), id="context"),
    ],
)
def test_generate(changes, request_, expected):
    """A prompt is a user message after system text and stored messages, which an earlier context replaces."""
    assert generate_messages(InferenceRequest(model(**changes), prompt="hi", **request_)) == talk(*expected)


@pytest.mark.parametrize(
    ("of", "turns", "expected"),
    [
        pytest.param(("m", "qwen3"), ("u:1", "a:<think>x</think>abc", "u:2"), "abc", id="CH-28"),
        pytest.param(("m", "qwen3"), ("u:1", "a:<think>\nx\n</think>\n\nabc\ndef", "u:2"), "abc\ndef", id="CH-29"),
        pytest.param(("m", "llama"), ("u:1", "a:<think>x</think>abc", "u:2"), "<think>x</think>abc", id="CH-31"),
        pytest.param(("deepseek-r1", "llama"), ("u:1", "a:<think>x</think>abc", "u:2"), "abc", id="CH-32"),
        pytest.param(("m", "qwen3"), ("u:1", "a:plain <think>", "u:2"), "plain <think>", id="no-block"),
        pytest.param(("m", "qwen3"), ("u:1", "a:<think>never closed", "u:2"), "", id="open"),
        pytest.param(("m", "qwen3"), ("u:1", "a:  abc", "u:2"), "  abc", id="space-kept"),
    ],
)
def test_old_thoughts_are_taken_out(of, turns, expected):
    """Answers before the last question lose their leading thoughts, for families that were made so."""
    messages = chat_messages(InferenceRequest(model(*of), messages=talk(*turns)))
    assert messages[1].content == expected


def test_recent_thoughts_stay():
    """CH-30: answers after the last question keep their thoughts; the one before loses them."""
    turns = ("u:1", "a:<think>a</think>b", "u:2", "a:<think>c</think>d", "a:<think>e</think>f")
    messages = chat_messages(InferenceRequest(model("m", "qwen3"), messages=talk(*turns)))
    assert [m.content for m in messages if m.role == "assistant"] == ["b", "<think>c</think>d", "<think>e</think>f"]
