"""Bodies that were broken at random never make the daemon answer for it."""

import json
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ollamad_ollama_api import OllamaApi
from ollamad_ollama_api.encode import Records

from ollamad.plugin import HttpRequest, Piece, RequestContext, Services, Stream

VALID: dict[str, Any] = {
    "/api/generate": {
        "model": "m",
        "prompt": "hi",
        "stream": False,
        "raw": False,
        "options": {"temperature": 0.5, "stop": ["a"]},
        "keep_alive": "5m",
        "think": False,
        "context": [1, 2],
        "images": [],
        "top_logprobs": 0,
    },
    "/api/chat": {
        "model": "m",
        "messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "tool_calls": [{"function": {}}]}],
        "keep_alive": 1.5,
        "tools": [],
        "stream": False,
    },
    "/api/embed": {"model": "m", "input": ["a", "b"], "dimensions": 3, "truncate": True},
    "/api/embeddings": {"model": "m", "prompt": "a", "keep_alive": -1},
    "/api/show": {"model": "m", "verbose": True, "options": {}},
    "/api/copy": {"source": "a", "destination": "b"},
    "/api/delete": {"model": "m"},
    "/api/create": {
        "model": "x",
        "from": "m",
        "files": {"a": "b"},
        "license": ["MIT"],
        "parameters": {"stop": ["x"], "top_k": 1},
        "messages": [{"role": "user", "content": "x"}],
        "info": {"a": 1},
        "stream": False,
    },
}

#: What the recordings answer with 500 although the request is to blame: a licence that is no text.
NAMED = "into Go value of type"

VALUES = st.sampled_from(
    [
        None,
        True,
        -1,
        0,
        1.5,
        10**30,
        1e300,
        "",
        "x",
        "\ud800",
        "5m",
        [],
        [None],
        [[]],
        [1, "a"],
        {},
        {"a": None},
        {"role": 1},
    ]
)


@st.composite
def mutated(draw: Any) -> tuple[str, bytes]:
    """A route, and a valid body of it after some of: other values, cut bytes, other bytes, doubled keys."""
    path = draw(st.sampled_from(sorted(VALID)))
    body = dict(VALID[path])
    for _ in range(draw(st.integers(0, 2))):
        body[draw(st.sampled_from(sorted(body)))] = draw(VALUES)
    data = bytearray(json.dumps(body).encode())
    for _ in range(draw(st.integers(0, 3))):
        at = draw(st.integers(0, len(data)))
        data[at : at + draw(st.integers(0, 3))] = draw(st.binary(max_size=3))
    return path, bytes(data[: draw(st.integers(0, len(data)))] if draw(st.booleans()) else data)


class Request(SimpleNamespace):
    """A request without a socket."""

    async def body(self) -> bytes:
        return bytes(self.content)


@pytest.fixture(scope="module")
def handlers(request: pytest.FixtureRequest) -> dict[str, Any]:
    conftest = request.config.pluginmanager.getplugin(str(request.path.parent / "conftest.py"))
    services = Services(conftest.FakeInference(), conftest.FakeLibrary(), conftest.NoAdmin(), "0", "0.32.1")
    return {route.path: route.handler for route in OllamaApi().routes(services) if route.method in ("POST", "DELETE")}


@settings(max_examples=400, deadline=None)
@given(mutated())
def test_a_broken_body_is_never_our_fault(handlers: dict[str, Any], case: tuple[str, bytes]) -> None:
    """Whatever stands in a body, the status is no 5xx but the one that the recordings name."""
    path, content = case
    context = RequestContext("id", 0, "default", "manage", "127.0.0.1")
    request: HttpRequest = Request(content=content, headers={}, context=context)  # type: ignore[assignment]
    coroutine = handlers[path](request)
    try:
        coroutine.send(None)
    except StopIteration as done:
        answer = done.value
    else:
        raise AssertionError("a fake service never waits")
    named = path == "/api/create" and NAMED in getattr(answer, "body", b"").decode()
    assert isinstance(answer, Stream) or answer.status < 500 or named


@given(st.text(st.characters()))
def test_any_text_is_printed(text: str) -> None:
    """Records hold valid JSON in valid UTF-8 whatever the text is."""
    line = Records(text, chat=True).piece(Piece(text))
    shown = json.loads(line.decode())["message"]["content"]
    assert shown == "".join("\ufffd" if "\ud800" <= char <= "\udfff" else char for char in text)
