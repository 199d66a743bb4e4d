"""POST /api/create; ids from http-api contract A.1 and A.15."""

from typing import Any

import pytest

from ollamad.plugin import CreateFailed, InvalidName, InvalidRequest, Message, TransferProgress

JSON = "application/json; charset=utf-8"
RECORD = "application/json"


async def test_everything_is_passed_on(api: Any) -> None:
    """The request reaches the library translated."""
    body = {
        "name": "x",
        "from": "m",
        "files": {"a.gguf": "sha256:1"},
        "template": "t",
        "system": "s",
        "license": ["MIT", "Apache-2.0"],
        "parameters": {"stop": ["a"], "top_k": 1},
        "messages": [{"role": "User", "content": "hi"}],
        "renderer": "r",
        "parser": "p",
        "requires": "1",
        "info": {"a": 1},
    }
    await api.post("/api/create", body)
    asked = api.library.calls[-1][1]
    assert (asked.name, asked.from_name, asked.files, asked.adapters) == ("x", "m", {"a.gguf": "sha256:1"}, None)
    assert (asked.template, asked.system, asked.licenses) == ("t", "s", ("MIT", "Apache-2.0"))
    assert (asked.parameters, asked.messages) == ({"stop": ["a"], "top_k": 1}, (Message("user", "hi"),))
    assert (asked.renderer, asked.parser, asked.requires, asked.info) == ("r", "p", "1", {"a": 1})
    await api.post("/api/create", {"model": "x", "license": "MIT"})
    assert api.library.calls[-1][1].licenses == ("MIT",)


async def test_progress_is_streamed(api: Any) -> None:
    """Each step is a line; bytes stand in it where there are some."""
    api.library.steps = [TransferProgress("quantizing", "0", 10, 5), TransferProgress("success")]
    answer = await api.post("/api/create", {"model": "x"})
    assert answer.kind == "application/x-ndjson"
    assert answer.body == b'{"status":"quantizing","digest":"0","total":10,"completed":5}\n{"status":"success"}\n'


async def test_without_a_stream_the_last_step_is_told(api: Any) -> None:
    """TR-24, TR-30: one object without a charset."""
    api.library.steps = [TransferProgress("success"), TransferProgress("one more thing")]
    answer = await api.post("/api/create", {"model": "x", "stream": False})
    assert (answer.status, answer.kind, answer.body) == (200, RECORD, b'{"status":"one more thing"}')


@pytest.mark.parametrize("stream", [True, False])
async def test_failures(api: Any, stream: bool) -> None:
    """What is wrong with the request is plain, the first record has no charset, later errors are lines."""
    body = {"model": "x", "stream": stream}
    api.library.failure = InvalidName("x")
    answer = await api.post("/api/create", body)
    assert (answer.status, answer.kind, answer.json) == (400, JSON, {"error": "invalid model name"})
    api.library.failure = None
    api.library.steps = [InvalidRequest("unknown type")]
    answer = await api.post("/api/create", body)
    assert (answer.status, answer.kind, answer.json) == (400, RECORD, {"error": "unknown type"})
    api.library.steps = [TransferProgress("parsing GGUF"), CreateFailed("unexpected EOF")]
    answer = await api.post("/api/create", body)
    if stream:
        assert (answer.status, answer.lines) == (200, [{"status": "parsing GGUF"}, {"error": "unexpected EOF"}])
    else:
        assert (answer.status, answer.kind, answer.json) == (500, RECORD, {"error": "unexpected EOF"})


@pytest.mark.parametrize(
    ("given", "kind"), [(5, "number"), (True, "bool"), ({}, "object"), (["MIT", 5], "number"), ([True], "bool")]
)
async def test_a_license_is_text(api: Any, given: Any, kind: str) -> None:
    """A licence of another type is a 500 with Go's words, as recorded."""
    answer = await api.post("/api/create", {"model": "x", "from": "m", "license": given})
    assert (answer.status, answer.kind) == (500, RECORD)
    target = "string" if isinstance(given, list) else "[]string"
    assert answer.json == {"error": f"json: cannot unmarshal {kind} into Go value of type {target}"}


@pytest.mark.parametrize(
    ("extra", "error"),
    [
        ({"quantize": "q4_K_M"}, "quantize is"),
        ({"quantization": "q4_K_M"}, "quantize is"),
        ({"adapters": {"a": "sha256:1"}}, "adapters are"),
        ({"draft_files": {"a": "sha256:1"}}, "draft_files are"),
        ({"draft_quantize": "q8_0"}, "draft_quantize is"),
        ({"remote_host": "h"}, "remote_host is"),
    ],
)
async def test_later_features_are_refused(api: Any, extra: Any, error: str) -> None:
    """What this version cannot do is refused, after the request itself was found right."""
    answer = await api.post("/api/create", {"model": "x", "from": "m", **extra})
    assert (answer.status, answer.json) == (400, {"error": f"{error} not available in this version of ollamad"})
