"""Tags, ps, show, copy, delete; ids from http-api contract A.14."""

from typing import Any

import pytest

from ollamad.plugin import InvalidName, ListedModel, ModelConfig, ModelNotFound, RunningModel, StoreError

CONFIG = ModelConfig("gguf", "qwen3", None, "4.07M", "Q8_0")


@pytest.fixture(autouse=True)
def _utc(monkeypatch: pytest.MonkeyPatch) -> Any:
    import time

    monkeypatch.setenv("TZ", "UTC0")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


async def test_fixed_answers(api: Any) -> None:
    """TR-01 to TR-04: the root and the version."""
    answer = await api.send("GET", "/")
    assert (answer.status, answer.kind, answer.body) == (200, "text/plain; charset=utf-8", b"Ollama is running")
    assert (await api.send("HEAD", "/")).body == b""
    answer = await api.send("GET", "/api/version")
    assert (answer.kind, answer.body) == ("application/json; charset=utf-8", b'{"version":"0.32.1"}')
    assert (await api.send("HEAD", "/api/tags")).status == 200
    assert (await api.send("HEAD", "/api/ps")).headers["allow"] == "GET"


async def test_tags(api: Any) -> None:
    """TA-01, TA-02: key order, null families, lengths only where known."""
    assert (await api.send("GET", "/api/tags")).body == b'{"models":[]}'
    api.library.listed = [
        ListedModel("a:latest", "d1", 10, 1_000_000_001_500_000_000, CONFIG, "", 2048, 0, ("completion",)),
        ListedModel("b:x", "d2", 5, 0, ModelConfig(remote_model="r", remote_host="http://h"), "p", 0, 0, ()),
    ]
    assert (await api.send("GET", "/api/tags")).body.decode() == (
        '{"models":[{"name":"a:latest","model":"a:latest","modified_at":"2001-09-09T01:46:41.5Z","size":10,'
        '"digest":"d1","details":{"parent_model":"","format":"gguf","family":"qwen3","families":null,'
        '"parameter_size":"4.07M","quantization_level":"Q8_0","context_length":2048},"capabilities":["completion"]},'
        '{"name":"b:x","model":"b:x","remote_model":"r","remote_host":"http://h",'
        '"modified_at":"1970-01-01T00:00:00Z","size":5,"digest":"d2","details":{"parent_model":"p","format":"",'
        '"family":"","families":null,"parameter_size":"","quantization_level":""}}]}'
    )
    api.library.failure = StoreError("disk")
    answer = await api.send("GET", "/api/tags")
    assert (answer.status, answer.json) == (500, {"error": "model list cache unavailable"})


async def test_ps(api: Any) -> None:
    """PS-01, PS-02: loaded models in the order of the service."""
    assert (await api.send("GET", "/api/ps")).body == b'{"models":[]}'
    api.inference.loaded = [
        RunningModel("a:latest", "d", CONFIG, 7, 0, 2048, 1_000_000_000.5),
        RunningModel("b:latest", "e", CONFIG, 7, 3, 2048, None),
    ]
    models = (await api.send("GET", "/api/ps")).json["models"]
    assert list(models[0]) == [
        "name",
        "model",
        "size",
        "digest",
        "details",
        "expires_at",
        "size_vram",
        "context_length",
    ]
    assert models[0]["expires_at"] == "2001-09-09T01:46:40.5Z"
    assert models[1]["expires_at"] > "2300"


async def test_show(api: Any) -> None:
    """SH-02: show takes the older name; keys in order, empty ones left out."""
    answer = await api.post("/api/show", {"name": "m", "verbose": True, "system": "s", "options": {"a": 1}})
    assert answer.body.decode() == (
        '{"license":"MIT\\nApache-2.0","modelfile":"# Modelfile","template":"{{ .Prompt }}",'
        '"details":{"parent_model":"","format":"gguf","family":"qwen3","families":["qwen3"],"parameter_size":"4.07M",'
        '"quantization_level":"Q8_0"},"messages":[{"role":"user","content":"stored"}],'
        '"model_info":{"general.architecture":"qwen3","eps":0.000001,"tokens":null},'
        '"tensors":[{"name":"t","type":"F32","shape":[1,2]}],"capabilities":["completion","tools","thinking"],'
        '"modified_at":"2026-11-24T10:23:58.844882367Z"}'
    )
    options = {"verbose": True, "system": "s", "options": {"a": 1}, "basename": ""}
    assert api.library.calls == [("show", ("m", options))]


@pytest.mark.parametrize(("agent", "basename"), [("GitHubCopilotChat/1.0", "m"), ("x GitHubCopilotChat/1.0", "")])
async def test_show_for_copilot(api: Any, agent: str, basename: str) -> None:
    """SH-05, SH-06: one client sees the requested name as base name."""
    await api.post("/api/show", {"model": "m"}, User_Agent=agent)
    assert api.library.calls[-1][1][1]["basename"] == basename


@pytest.mark.parametrize(
    ("method", "path", "body", "failure", "status", "error"),
    [
        pytest.param("POST", "show", {}, None, 400, "model is required", id="SH-01"),
        pytest.param("POST", "show", {"model": "nope"}, None, 404, "model 'nope:latest' not found", id="SH-09"),
        pytest.param("POST", "copy", {"source": "x"}, ModelNotFound("x"), 404, 'model "x" not found', id="CP-02"),
        pytest.param(
            "POST",
            "copy",
            {"destination": "b"},
            InvalidName("", 'source "" is invalid'),
            400,
            'source "" is invalid',
            id="CP-03",
        ),
        pytest.param(
            "DELETE",
            "delete",
            {"model": "gpt:20b:cloud"},
            ModelNotFound("gpt:20b:cloud"),
            404,
            "model 'gpt:20b:cloud' not found",
            id="DE-06",
        ),
        ("DELETE", "delete", {"model": "@"}, InvalidName("@"), 400, 'name "@" is invalid'),
        (
            "DELETE",
            "delete",
            {"model": "f:cloud:local"},
            InvalidName("f:cloud:local", 'use either :local or :cloud, not both: "f:cloud:local"'),
            400,
            'use either :local or :cloud, not both: "f:cloud:local"',
        ),
        ("DELETE", "delete", {}, None, 400, "model is required"),
        ("DELETE", "delete", {"model": "m"}, StoreError("broken manifest"), 500, "broken manifest"),
    ],
)
async def test_failures(
    api: Any, method: str, path: str, body: Any, failure: Exception | None, status: int, error: str
) -> None:
    """Each route names a model in its own way."""
    api.library.failure = failure
    answer = await api.send(method, f"/api/{path}", body)
    assert (answer.status, answer.json) == (status, {"error": error})


async def test_copy_and_delete_answer_nothing(api: Any) -> None:
    """CP-01, DE-01: an empty 200 without a type."""
    answer = await api.post("/api/copy", {"source": "a", "destination": "b"})
    assert (answer.status, answer.body, answer.kind) == (200, b"", "")
    answer = await api.send("DELETE", "/api/delete", {"name": "a"})
    assert (answer.status, answer.body) == (200, b"")
    assert api.library.calls == [("copy", ("a", "b")), ("delete", "a")]
