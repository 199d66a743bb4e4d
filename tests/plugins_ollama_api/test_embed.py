"""POST /api/embed and /api/embeddings; ids from http-api contract A.13."""

import struct
from typing import Any

import pytest

from ollamad.plugin import InvalidRequest, PromptTooLong, QueueFull


@pytest.mark.parametrize(
    ("path", "body", "status", "error"),
    [
        pytest.param("embed", None, 400, "missing request body", id="EM-01"),
        pytest.param("embed", {"model": "nope", "input": 5}, 400, "invalid input type", id="EM-02a"),
        pytest.param("embed", {"model": "m", "input": [1]}, 400, "invalid input type", id="EM-02b"),
        pytest.param("embed", {"model": "m", "input": ["a", None]}, 400, "invalid input type", id="EM-02c"),
        pytest.param("embed", {"model": "m", "input": {}}, 400, "invalid input type", id="EM-02d"),
        pytest.param("embeddings", {"prompt": "x"}, 400, "model is required", id="EM-19"),
        ("embed", {"input": "x"}, 404, "model '' not found"),
        ("embed", {"model": "-bad", "input": "x"}, 400, "invalid model name"),
        ("embed", {"model": "nope", "input": "x"}, 404, 'model "nope" not found, try pulling it first'),
        ("embeddings", {"model": "nope", "prompt": "x"}, 404, 'model "nope" not found, try pulling it first'),
        ("embeddings", {"model": "-bad"}, 400, "invalid model name"),
    ],
)
async def test_refusals(api: Any, path: str, body: Any, status: int, error: str) -> None:
    """Input types are checked before names; names are told with advice."""
    answer = await api.post(f"/api/{path}", body)
    assert (answer.status, answer.json) == (status, {"error": error})


@pytest.mark.parametrize("extra", [{"input": ""}, {"input": []}, {"input": None}, {}], ids=str)
async def test_nothing_to_embed_loads(api: Any, extra: Any) -> None:
    """EM-03: without an input the model is loaded, and the list is empty."""
    answer = await api.post("/api/embed", {"model": "m", **extra})
    assert answer.body == b'{"model":"m","embeddings":[]}'
    assert api.inference.calls[-1][1].inputs == ()


async def test_vectors(api: Any) -> None:
    """Vectors come in order (EM-16), as the shortest float32, with statistics behind them."""
    api.inference.vectors.append(struct.pack("<f", 0.5))
    body = {"model": "m", "input": ["a", ""], "dimensions": 2, "truncate": False, "options": {"num_ctx": 8}}
    answer = await api.post("/api/embed", body)
    assert answer.body == (
        b'{"model":"m","embeddings":[[0.1,-1,1e-7],[0.5]],"total_duration":900,"load_duration":500,"prompt_eval_count":4}'
    )
    asked = api.inference.calls[-1][1]
    assert (asked.inputs, asked.dimensions, asked.truncate, asked.raw) == (("a", ""), 2, False, False)
    assert asked.options == {"num_ctx": 8}


async def test_long_answers_are_printed_in_a_thread(api: Any) -> None:
    """A large answer is the same as a small one."""
    api.inference.vectors = [struct.pack("<4096f", *[0.25] * 4096)] * 2
    answer = await api.post("/api/embed", {"model": "m", "input": ["a", "b"]})
    assert answer.json["embeddings"] == [[0.25] * 4096] * 2


async def test_a_vector_must_be_finite(api: Any) -> None:
    """EM-07: NaN is told as an error."""
    api.inference.vectors = [struct.pack("<f", float("nan"))]
    answer = await api.post("/api/embed", {"model": "m", "input": "a"})
    assert (answer.status, answer.json) == (400, {"error": "embedding contains NaN or Inf values"})


async def test_the_older_form(api: Any) -> None:
    """EM-17, EM-18: one raw vector of float64; the name's case is not aligned."""
    assert (await api.post("/api/embeddings", {"model": "m"})).body == b'{"embedding":[]}'
    answer = await api.post("/api/embeddings", {"model": "m", "prompt": "x"})
    assert answer.body == b'{"embedding":[0.10000000149011612,-1,1.0000000116860974e-7]}'
    assert api.inference.calls[-1][1].raw
    assert ("resolve", ("m", False)) in api.inference.calls


@pytest.mark.parametrize(
    ("path", "failure", "status"),
    [
        ("embed", PromptTooLong("the input length exceeds the context length"), 400),
        ("embeddings", PromptTooLong("the input length exceeds the context length"), 500),
        ("embeddings", InvalidRequest("x"), 500),
        ("embeddings", QueueFull(waiting=1, limit=1), 503),
    ],
)
async def test_failures(api: Any, path: str, failure: Exception, status: int) -> None:
    """On the older route everything behind the scheduler is a 500."""
    api.inference.failure = failure
    answer = await api.post(f"/api/{path}", {"model": "m", "input": "a", "prompt": "a"})
    assert (answer.status, answer.json["error"]) == (status, str(failure))
