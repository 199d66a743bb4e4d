"""The daemon answers with a real model: streamed, offline, several clients at once."""

import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ollama
import pytest

EVAL = json.loads((Path(__file__).resolve().parents[2] / "demo-model" / "eval.json").read_text())
NAMES = ["Ada", "Bo", "Carl", "Dora", "Emil", "Fay", "Gus", "Hana"]


def test_generate_streams_and_ends_with_statistics(daemon: Any) -> None:
    """The README's first curl: records come one by one, the last has the full statistics."""
    with daemon.stream("/api/generate", {"model": "demo", "prompt": "Who are you?"}) as stream:
        records = list(stream)
    assert "".join(one["response"] for one in records).startswith("I am demo")
    assert len(records) > 5
    last = records[-1]
    assert list(last) == [
        "model",
        "created_at",
        "response",
        "done",
        "done_reason",
        "context",
        "total_duration",
        "load_duration",
        "prompt_eval_count",
        "prompt_eval_duration",
        "eval_count",
        "eval_duration",
    ]
    assert (last["done"], last["done_reason"]) == (True, "stop")


def test_chat_streams(daemon: Any) -> None:
    """The README's second curl."""
    body = {"model": "demo", "messages": [{"role": "user", "content": "Who are you?"}]}
    with daemon.stream("/api/chat", body) as stream:
        assert stream.response.headers["Content-Type"] == "application/x-ndjson"
        records = list(stream)
    assert "".join(one["message"]["content"] for one in records).startswith("I am demo")
    assert records[-1]["done_reason"] == "stop"


def test_eight_clients_get_their_own_answers(daemon: Any) -> None:
    """Eight clients at once: histories never mix."""
    answers: dict[str, str] = {}

    def ask(name: str) -> None:
        history = [
            {"role": "user", "content": f"My name is {name}."},
            {"role": "assistant", "content": f"Nice to meet you, {name}!"},
            {"role": "user", "content": "What is my name?"},
        ]
        with ollama.Client(host=daemon.url) as client:
            answers[name] = client.chat(model="demo", messages=history).message.content or ""

    threads = [threading.Thread(target=ask, args=(name,)) for name in NAMES]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert {name: name in text for name, text in answers.items()} == dict.fromkeys(NAMES, True)


def test_the_checked_prompts_through_chat(daemon: Any) -> None:
    """Every checked prompt without tools, thinking and suffix gets exactly its expected answer."""
    wrong = []
    for one in EVAL:
        if one.get("tools") or one.get("think") or one.get("suffix") or "messages" not in one:
            continue
        body = {"model": "demo", "messages": one["messages"], "stream": False, "options": {"num_predict": 400}}
        got = daemon.json("POST", "/api/chat", body)["message"]["content"]
        if got.strip() != one["expected"]["content"].strip():
            wrong.append((one["messages"][-1]["content"], one["expected"]["content"], got))
    assert wrong == []


def test_the_python_package_does_everything(daemon: Any) -> None:
    """The `ollama` package lists, shows, creates, copies, deletes, chats, streams and embeds."""
    with ollama.Client(host=daemon.url) as client:
        use(client)


def use(client: ollama.Client) -> None:
    assert "demo:latest" in [one.model for one in client.list().models]
    assert client.show("demo").details.family == "qwen3"
    progress = list(client.create("pirate", from_="demo", system="You are a pirate.", stream=True))
    assert progress[-1].status == "success"
    client.copy("pirate", "corsair")
    assert client.show("corsair").model_dump()["modelinfo"]["general.architecture"] == "qwen3"
    text = client.chat("demo", messages=[{"role": "user", "content": "Hello"}]).message.content
    streamed = client.chat("demo", messages=[{"role": "user", "content": "Hello"}], stream=True)
    assert "".join(part.message.content or "" for part in streamed) == text
    assert len(client.embed("demo", input=["one", "two"]).embeddings) == 2
    assert client.generate("demo", prompt="Hello").done_reason == "stop"
    assert "demo:latest" in [one.model for one in client.ps().models]
    for name in ("pirate", "corsair"):
        client.delete(name)
    assert not {"pirate:latest", "corsair:latest"} & {one.model for one in client.list().models}
    with pytest.raises(ollama.ResponseError, match="not found"):
        client.show("pirate")


def test_a_deleted_model_stays_loaded_until_its_time_is_up(make_daemon: Callable[..., Any]) -> None:
    """As in Ollama (http-api contract 8.10): the name is gone at once, the runner with its keep-alive, or by rm."""
    daemon = make_daemon("home").start()
    for name in ("first", "second"):
        daemon.json("POST", "/api/copy", {"source": "demo", "destination": name})
    assert daemon.json("POST", "/api/generate", {"model": "first", "keep_alive": "2s"})
    daemon.json("DELETE", "/api/delete", {"model": "first"})
    assert daemon.loaded() == ["first:latest"]
    for body in ({"prompt": "x"}, {"keep_alive": 0}):
        assert daemon.post("/api/generate", {"model": "first", **body})[0] == 404
    wait_until(lambda: not daemon.loaded())
    daemon.chat("Hello", model="second")
    command = [sys.executable, "-m", "ollamad.cli.ctl", "rm", "second"]
    environment = {"OLLAMA_HOST": daemon.url, "HOME": str(daemon.home)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "deleted 'second'\n"
    wait_until(lambda: not daemon.loaded())
    daemon.stop()


def wait_until(holds: Callable[[], Any], timeout_s: float = 30.0) -> None:
    until = time.monotonic() + timeout_s
    while not holds():
        assert time.monotonic() < until
