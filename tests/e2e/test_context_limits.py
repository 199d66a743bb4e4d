"""Prompts that do not fit, and options at and beyond their limits."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from unharmed import error_of, unharmed

LONG = " ".join(f"word{number}" for number in range(3000))
TOO_LONG = (
    "the prompt is longer than the context length currently available to the model; shorten the prompt, adjust the "
    "context length in settings, or use a model with a longer context length"
)


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory, daemon_class: Callable[..., Any]) -> Iterator[Any]:
    """A daemon of its own, for the options here reload its model."""
    one = daemon_class(tmp_path_factory.mktemp("limits")).start()
    yield one
    one.close()


def generate(daemon: Any, **body: Any) -> tuple[int, Any]:
    """Status and record, or the error's text."""
    status, answer = daemon.request("POST", "/api/generate", {"model": "demo", "stream": False, **body})
    return status, json.loads(answer) if status == 200 else error_of(answer)


#: num_keep 4, context 64: 64 - (64 - 4) / 2 tokens are left. Source: http contract 7.5.
KEPT = 34


@pytest.mark.parametrize("raw", [True, False])
@pytest.mark.parametrize("shift", [None, True, False])
@pytest.mark.parametrize("truncate", [None, True, False])
def test_prompt_longer_than_the_context(daemon: Any, truncate: bool | None, shift: bool | None, raw: bool) -> None:
    """A prompt that does not fit is cut by the contract's rule, or refused where it must not be or cannot shift."""
    flags = {name: value for name, value in (("truncate", truncate), ("shift", shift)) if value is not None}
    with unharmed(daemon):
        status, got = generate(daemon, prompt=LONG, raw=raw, options={"num_ctx": 64, "num_predict": 4}, **flags)
    if truncate is False:
        assert status == 400
        assert got.endswith(" tokens) exceeds the available context size (256 tokens), try increasing it")
    elif shift is False:
        assert (status, got) == (400, TOO_LONG)
    else:
        assert (status, got["prompt_eval_count"], got["eval_count"]) == (200, KEPT, 4)


def test_embedding_longer_than_the_context(daemon: Any) -> None:
    """An input that must not be cut is refused; one that may be is cut, down to the smallest context."""
    body = {"model": "demo", "input": LONG, "options": {"num_ctx": 64}}
    with unharmed(daemon):
        status, answer = daemon.request("POST", "/api/embed", {**body, "truncate": False})
        assert (status, error_of(answer)) == (400, "the input length exceeds the context length")
        cut = daemon.json("POST", "/api/embed", body)
        assert cut["prompt_eval_count"] <= 64
        assert len(cut["embeddings"]) == 1


#: Asked for -> what the model is loaded with: at least 4, at most the trained length. Source: http contract 6.2.
CONTEXTS = {0: 4, -1: 4, 4: 4, 5: 5, 257: 257, 10.9: 10, 2**40: 2048, 2**63: 2048, 1e300: 2048, -(2**63): 4}


@pytest.mark.parametrize(("asked", "loaded"), CONTEXTS.items())
def test_context_length(daemon: Any, asked: float, loaded: int) -> None:
    """Every number is a context length; what cannot be is brought into the model's range and nothing is allocated."""
    with unharmed(daemon):
        status, got = generate(daemon, prompt="Who are you?", options={"num_ctx": asked, "num_predict": 3})
        assert (status, got["done_reason"], got["eval_count"]) == (200, "length", 3)
        assert got["prompt_eval_count"] < max(loaded, 5)
        assert daemon.json("GET", "/api/ps")["models"][0]["context_length"] == loaded


#: Values that no sensible client sends; each is taken or refused in words, and none ends a runner.
ODD = [
    ("num_predict", 2**62),
    ("num_keep", 2**40),
    ("num_keep", -1),
    ("top_k", 2**40),
    ("top_k", -(2**40)),
    ("seed", 2**63),
    ("repeat_last_n", 2**31),
    ("num_batch", 2**40),
    ("num_batch", 0),
    ("num_batch", -1),
    ("num_thread", 2**31),
    ("num_thread", -1),
    ("num_gpu", 2**40),
    ("main_gpu", 99),
    ("temperature", 1e39),
    ("temperature", -1),
    ("top_p", -1),
    ("top_p", 1e300),
    ("typical_p", 0),
    ("min_p", 2),
    ("presence_penalty", 1e308),
]


def test_odd_values(daemon: Any) -> None:
    """Options far outside of what makes sense are answered, and the same runner is not ended by any."""
    refused = []
    with unharmed(daemon):
        for name, value in ODD:
            options = {"num_ctx": 256, "num_predict": 3, "temperature": 0, name: value}
            status, got = generate(daemon, prompt="Who are you?", options=options)
            if status != 200:
                refused.append((name, value, got))
        assert refused == []
        assert b"terminated" not in daemon.log.read_bytes()


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("repeat_penalty", 0, "repeat_penalty must be greater than 0"),
        ("repeat_penalty", -1, "repeat_penalty must be greater than 0"),
        ("repeat_last_n", -(2**40), "repeat_last_n must be at least -1"),
    ],
)
def test_values_that_cannot_be(daemon: Any, name: str, value: float, text: str) -> None:
    """A value that the arithmetic does not admit is refused by name."""
    with unharmed(daemon):
        assert generate(daemon, prompt="x", options={"num_ctx": 256, name: value}) == (400, text)


@pytest.mark.parametrize("token", [2**31, -1, 10**9, 2048])
def test_tokens_that_are_none(daemon: Any, token: int) -> None:
    """A `context` with numbers outside the vocabulary is refused, with the recorded status."""
    with unharmed(daemon):
        status, text = generate(daemon, prompt="x", context=[token] * 1000, options={"num_ctx": 256})
    assert status == 500
    assert f"detokenize error: token {token} is not in the vocabulary of 2048" in text
    assert b"terminated" not in daemon.log.read_bytes()


def test_context_longer_than_the_context(daemon: Any) -> None:
    """A `context` of 100,000 tokens is cut as a prompt is."""
    with unharmed(daemon):
        status, got = generate(daemon, prompt="x", context=[40] * 100_000, options={"num_predict": 2, "num_ctx": 256})
    assert status == 200
    assert got["prompt_eval_count"] <= 256
