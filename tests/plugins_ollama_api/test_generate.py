"""POST /api/generate; ids from http-api contract A.6 and A.1."""

import asyncio
from typing import Any

import pytest

from ollamad.plugin import (
    CapabilityMissing,
    Finished,
    LoadFailed,
    OllamadError,
    Piece,
    QueueFull,
    RequestCancelled,
    RunnerDied,
    RunnerFailed,
    ShuttingDown,
    Timings,
)

LATER = "not available in this version of ollamad"


@pytest.mark.parametrize(
    ("body", "status", "error"),
    [
        pytest.param({}, 404, "model '' not found", id="GE-01"),
        pytest.param({"model": "nope"}, 404, "model 'nope' not found", id="GE-02"),
        pytest.param({"model": "-bad"}, 400, "invalid model name", id="GE-03"),
        pytest.param({"model": "bert"}, 400, '"bert" does not support generate', id="GE-04"),
        pytest.param(
            {"model": "m", "prompt": "a", "suffix": "b"},
            400,
            "registry.ollama.ai/library/m:latest does not support insert",
            id="GE-05",
        ),
        pytest.param(
            {"model": "m", "prompt": "x", "raw": True, "system": "s"},
            400,
            "raw mode does not support template, system, or context",
            id="GE-16",
        ),
        pytest.param(
            {"model": "m", "prompt": "x", "raw": True, "context": [1]},
            400,
            "raw mode does not support template, system, or context",
            id="GE-17",
        ),
        pytest.param({"top_logprobs": -1}, 400, "top_logprobs must be between 0 and 20", id="GE-21"),
        pytest.param({"model": "nope", "top_logprobs": 21}, 400, "top_logprobs must be between 0 and 20", id="GE-22"),
        pytest.param(
            {"model": "plain", "prompt": "x", "think": True}, 400, '"plain" does not support thinking', id="GE-40"
        ),
        ({"model": "   "}, 404, "model '   ' not found"),
        ({"model": "m", "prompt": "x", "think": "low"}, 400, f"thinking is {LATER}"),
        ({"model": "m", "prompt": "x", "format": "json"}, 400, f"format is {LATER}"),
        ({"model": "m", "prompt": "x", "format": {"type": "object"}}, 400, f"format is {LATER}"),
        ({"model": "m", "prompt": "x", "template": "t"}, 400, f"template is {LATER}"),
        ({"model": "m", "prompt": "x", "images": ["QQ=="]}, 400, f"images are {LATER}"),
        ({"model": "m", "prompt": "x", "logprobs": True}, 400, f"logprobs are {LATER}"),
    ],
)
async def test_refusals(api: Any, body: Any, status: int, error: str) -> None:
    """Checks stand in the contract's order; what belongs to a later version is refused in words."""
    answer = await api.post("/api/generate", body)
    assert (answer.status, answer.json, answer.kind) == (status, {"error": error}, "application/json; charset=utf-8")
    assert [what for what, _ in api.inference.calls if what != "resolve"] == []


async def test_load_and_unload(api: Any) -> None:
    """An empty prompt loads (GE-06); with keep_alive 0 it unloads (GE-07), whatever else is asked."""
    answer = await api.post("/api/generate", {"model": "m", "keep_alive": "5m"})
    assert (answer.status, answer.json["done_reason"], answer.json["response"]) == (200, "load", "")
    assert answer.kind == "application/json; charset=utf-8"
    assert api.inference.calls[-1][1].keep_alive_ns == 300 * 10**9
    answer = await api.post("/api/generate", {"model": "m", "keep_alive": "0", "think": True})
    assert list(answer.json) == ["model", "created_at", "response", "done", "done_reason"]
    assert (answer.json["done_reason"], api.inference.calls[-1]) == ("unload", ("unload", "m"))


async def test_everything_is_passed_on(api: Any) -> None:
    """The request reaches the service translated, defaults as in the contract."""
    body = {
        "model": "m",
        "prompt": "hi",
        "system": "s",
        "context": [1, 2],
        "options": {"seed": 1},
        "keep_alive": -1,
        "truncate": False,
        "shift": False,
        "think": False,
        "stream": False,
    }
    await api.post("/api/generate", body)
    asked = api.inference.calls[-1][1]
    assert (asked.prompt, asked.system, asked.prefix_tokens, asked.options) == ("hi", "s", (1, 2), {"seed": 1})
    assert (asked.keep_alive_ns, asked.truncate, asked.shift, asked.think, asked.raw) == (
        -1,
        False,
        False,
        False,
        False,
    )
    await api.post("/api/generate", {"model": "m", "prompt": "hi", "raw": True, "context": []})
    asked = api.inference.calls[-1][1]
    assert (asked.keep_alive_ns, asked.truncate, asked.shift, asked.think, asked.raw) == (None, True, None, None, True)


async def test_a_stream_comes_record_by_record(api: Any) -> None:
    """Each event is a line of its own, sent when it is there; the last one has the statistics (GE-19)."""
    api.inference.gate = asyncio.Event()
    reader, writer = await api.connect()
    body = b'{"model":"m","prompt":"hi"}'
    writer.write(b"POST /api/generate HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
    async with asyncio.timeout(5):
        head = await reader.readuntil(b"\r\n\r\n")
        assert b"Content-Type: application/x-ndjson\r\n" in head
        assert b"X-Ollamad-Load-Ns: 500\r\n" in head
        assert b'"response":"po","done":false}\n' in await reader.readuntil(b"}\n\r\n")
        api.inference.gate.set()
        rest = await reader.readuntil(b"0\r\n\r\n")
    assert rest.count(b'"done":false') == 1
    assert b'"done":true,"done_reason":"stop","context":[1,2,3],"total_duration":' in rest
    assert b'"load_duration":500,"prompt_eval_count":14,"prompt_eval_duration":1200,"eval_count":3' in rest
    assert api.inference.answers[0].closed.is_set()
    writer.close()


async def test_a_client_that_leaves_closes_the_answer(api: Any) -> None:
    """Leaving between two records closes the answer."""
    api.inference.gate = asyncio.Event()
    reader, writer = await api.connect()
    body = b'{"model":"m","prompt":"hi"}'
    writer.write(b"POST /api/generate HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
    async with asyncio.timeout(5):
        await reader.readuntil(b"}\n\r\n")
        writer.close()
        await api.inference.answers[0].closed.wait()


async def test_a_whole_answer(api: Any) -> None:
    """Without streaming the pieces are joined, and facts no peer tells stand in headers, in JSON when asked."""
    api.inference.events = [
        Piece("a", "thinking"),
        Piece("b", "thinking"),
        Piece("c"),
        Finished("length", Timings(9, 4), prompt_cut_tokens=5),
    ]
    answer = await api.post("/api/generate", {"model": "m", "prompt": "x", "stream": False})
    assert (answer.json["response"], answer.json["thinking"], answer.json["done_reason"]) == ("c", "ab", "length")
    assert answer.headers["x-ollamad-prompt-cut-tokens"] == "5"
    assert "x-ollamad-context-shifts" not in answer.headers
    assert "ollamad" not in answer.json
    answer = await api.post("/api/generate", {"model": "m", "prompt": "x", "stream": False}, X_Ollamad_Detail="1")
    assert answer.json["ollamad"]["cached_tokens"] == 4
    assert answer.json["ollamad"]["request_id"] == answer.headers["x-ollamad-request-id"]


async def test_debug_renders_only(api: Any) -> None:
    """_debug_render_only gives the prompt in one object, streamed or not (GE-33)."""
    answer = await api.post("/api/generate", {"model": "m", "prompt": "x", "_debug_render_only": True})
    assert answer.body.endswith(
        b'"response":"","done":false,"_debug_info":{"rendered_template":"\\u003crendered\\u003e"}}'
    )


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize(
    ("failure", "status", "text"),
    [
        (QueueFull(waiting=5, limit=5, retry_after_s=3), 503, "server busy, please try again.  maximum pending"),
        (ShuttingDown(), 503, "server is shutting down"),
        (LoadFailed("no"), 500, "no"),
        (RunnerDied("last words"), 500, "model runner has unexpectedly stopped"),
        (RunnerFailed("too long", "too_long"), 400, "too long"),
        (RunnerFailed("template", "template"), 500, "template"),
        (RequestCancelled(), 499, "request canceled"),
        (CapabilityMissing("registry.ollama.ai/library/m:latest", "m", ("completion",)), 400, '"m" does not support'),
    ],
)
async def test_failures_before_the_first_record(
    api: Any, failure: OllamadError, status: int, text: str, stream: bool
) -> None:
    """An error before any record is a status (TR-31, TR-32); a busy server says when to come back."""
    body = {"model": "m", "prompt": "x", "stream": stream}
    for early in (True, False):
        api.inference.failure = failure if early else None
        api.inference.events = [failure]
        answer = await api.post("/api/generate", body)
        assert (answer.status, answer.json["error"].startswith(text)) == (status, True)
        assert ("retry-after" in answer.headers) is (status == 503)
        assert answer.kind == ("application/json" if stream and not early else "application/json; charset=utf-8")
    assert api.inference.answers[-1].closed.is_set()


async def test_a_failure_in_mid_stream_is_the_last_line(api: Any) -> None:
    """After the first record an error is one more line, and there is no done record (TR-34)."""
    api.inference.events = [Piece("a"), Piece("b"), RunnerDied()]
    answer = await api.post("/api/generate", {"model": "m", "prompt": "x"})
    assert answer.status == 200
    assert [sorted(line)[0] for line in answer.lines] == ["created_at", "created_at", "error"]
    answer = await api.post("/api/generate", {"model": "m", "prompt": "x", "stream": False})
    assert (answer.status, list(answer.json)) == (500, ["error"])
