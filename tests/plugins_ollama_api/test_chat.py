"""POST /api/chat; ids from http-api contract A.7."""

from typing import Any

import pytest

from ollamad.plugin import Message

ASK = [{"role": "user", "content": "Ping"}]
LATER = "not available in this version of ollamad"


@pytest.mark.parametrize(
    ("body", "status", "error"),
    [
        pytest.param({}, 400, "model is required", id="CH-01"),
        pytest.param(
            {"model": "plain", "messages": ASK, "think": True}, 400, '"plain" does not support thinking', id="CH-02"
        ),
        pytest.param({"model": "bert"}, 400, '"bert" does not support chat', id="CH-04"),
        pytest.param(
            {"model": "plain", "messages": ASK, "tools": [{"type": "function"}]},
            400,
            "registry.ollama.ai/library/plain:latest does not support tools",
            id="CH-13",
        ),
        pytest.param({"model": "m", "top_logprobs": 21}, 400, "top_logprobs must be between 0 and 20", id="CH-35"),
        ({"model": "  "}, 400, "model is required"),
        ({"model": "nope", "messages": ASK}, 404, "model 'nope' not found"),
        ({"model": "m", "messages": ASK, "tools": [{"type": "function"}]}, 400, f"tools are {LATER}"),
        ({"model": "m", "messages": [{"role": "user", "images": ["QQ=="]}]}, 400, f"images are {LATER}"),
        ({"model": "m", "messages": ASK, "think": True}, 400, f"thinking is {LATER}"),
        ({"model": "m", "messages": ASK, "format": "json"}, 400, f"format is {LATER}"),
    ],
)
async def test_refusals(api: Any, body: Any, status: int, error: str) -> None:
    """Checks stand in the contract's order; what belongs to a later version is refused in words."""
    answer = await api.post("/api/chat", body)
    assert (answer.status, answer.json) == (status, {"error": error})
    assert [what for what, _ in api.inference.calls if what != "resolve"] == []


async def test_load_and_unload(api: Any) -> None:
    """No messages load (CH-05); with keep_alive 0 they unload (CH-14)."""
    answer = await api.post("/api/chat", {"model": "m"})
    assert (answer.json["message"], answer.json["done_reason"]) == ({"role": "assistant", "content": ""}, "load")
    answer = await api.post("/api/chat", {"model": "m", "messages": [], "keep_alive": 0})
    assert answer.body.endswith(b'"message":{"role":"assistant","content":""},"done":true,"done_reason":"unload"}')
    assert api.inference.calls[-1] == ("unload", "m")


@pytest.mark.parametrize("extra", [{}, {"think": False}, {"tools": []}, {"format": ""}, {"format": None}])
async def test_an_answer(api: Any, extra: Any) -> None:
    """Messages go to the service with lower-case roles (CH-27); nothing asked for is no refusal (CH-03, CH-37)."""
    body = {"model": "m", "messages": [{"role": "USER", "content": "Ping"}], "stream": False, **extra}
    answer = await api.post("/api/chat", body)
    assert answer.json["message"] == {"role": "assistant", "content": "pong"}
    assert "context" not in answer.json
    what, asked = api.inference.calls[-1]
    assert (what, asked.messages, asked.prompt) == ("chat", (Message("user", "Ping"),), None)


async def test_a_stream(api: Any) -> None:
    """Pieces are messages; the last record's content is empty."""
    answer = await api.post("/api/chat", {"model": "m", "messages": ASK})
    assert [line["message"]["content"] for line in answer.lines] == ["po", "ng", ""]
    assert [line["done"] for line in answer.lines] == [False, False, True]


async def test_debug_renders_only(api: Any) -> None:
    """The rendered prompt comes with an empty message (CH-23)."""
    answer = await api.post("/api/chat", {"model": "m", "messages": ASK, "_debug_render_only": True})
    assert answer.json["message"] == {"role": "", "content": ""}
    assert answer.json["_debug_info"] == {"rendered_template": "<rendered>"}
    assert api.inference.calls[-1][1][1] is True
