"""What the fault tests share: a request in each of its phases, and what the daemon says of it."""

import hashlib
import json
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from importlib import resources
from pathlib import Path
from typing import Any

import unharmed

#: Flags of a daemon whose models run in the fake backend.
FAKE = (
    "--set",
    "plugins.extra=ollamad.testing.fake_backend:plugin",
    "--set",
    "plugins.disabled=llama-cpu,llama-cuda,llama-metal",
)
#: The admin routes on the listener that the tests use anyway.
ADMIN = ("--set", "server.profile=admin")


def until(holds: Callable[[], Any], timeout_s: float = 30.0, what: str = "") -> Any:
    """Poll until *holds* is true and return its value."""
    deadline, pause = time.monotonic() + timeout_s, threading.Event()
    while not (value := holds()):
        assert time.monotonic() < deadline, f"not within {timeout_s} s: {what or holds}"
        pause.wait(0.005)
    return value


def model_status(daemon: Any, name: str) -> dict[str, Any]:
    """What the scheduler says of a model; empty when it has no runner."""
    models = daemon.json("GET", "/ollamad/status")["models"]
    return next((one for one in models if one["name"] == f"{name}:latest"), {})


def is_loading(daemon: Any, name: str) -> bool:
    return bool(model_status(daemon, name).get("state") == "loading")


def is_free(daemon: Any, name: str) -> bool:
    """No request waits for the model, and none has a slot of it."""
    state = model_status(daemon, name)
    return not state.get("busy") and not state.get("waiting") and state.get("state") != "loading"


def endless(model: str) -> dict[str, Any]:
    """A request whose answer does not end by itself."""
    options = {"num_predict": -1, "temperature": 0, "num_ctx": 2048}
    return {"model": model, "prompt": "1 2 3 4 5 6 7 8 9", "raw": True, "options": options}


def long_prompt(model: str, number: int, words: int = 1500) -> dict[str, Any]:
    """A request whose prefill takes several steps and finds no beginning in the cache."""
    body = {"model": model, "prompt": f"{number} " + "word " * words, "raw": True}
    return {**body, "options": {"num_predict": 4, "num_ctx": 2048}}


def one_token(model: str) -> dict[str, Any]:
    return {"model": model, "prompt": "Hello", "stream": False, "options": {"num_predict": 1, "num_ctx": 2048}}


def upload(daemon: Any, name: str, content: bytes) -> None:
    """Create a model from a GGUF."""
    digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
    assert daemon.request("POST", f"/api/blobs/{digest}", content)[0] == 201
    created = daemon.json("POST", "/api/create", {"model": name, "files": {"m.gguf": digest}, "stream": False})
    assert created == {"status": "success"}


def other_demo() -> bytes:
    """The demo model under another digest, so that it gets a runner of its own."""
    content = resources.files("ollamad").joinpath("_data", "demo.gguf").read_bytes()
    changed = content.replace(b"A tiny chat model", b"A wee chat model!", 1)
    assert changed != content
    return changed


@contextmanager
def stopped_reader(daemon: Any, model: str, records: int = 2000) -> Iterator[None]:
    """A client that reads nothing of an answer, entered when a write to it is blocked; it leaves at the end.

    Over the Unix socket, where the kernel takes about 30 KiB of small writes and not megabytes. A second
    stream of the same model, in the same steps, tells how far the unread answer has come.
    """
    with socket.socket(socket.AF_UNIX) as reader:
        reader.connect(str(daemon.home / "run" / "ollamad.sock"))
        reader.sendall(unharmed.post("/api/generate", endless(model)))
        until(lambda: model_status(daemon, model).get("busy") == 1)
        with daemon.stream("/api/generate", endless(model)) as beside:
            for _ in range(records):
                beside.next()
        until(lambda: model_status(daemon, model)["busy"] == 1, what="only the unread answer is left")
        yield


def stop_process(pid: int) -> None:
    """SIGSTOP; returns when the process stands still."""
    os.kill(pid, signal.SIGSTOP)
    until(lambda: Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T")


def send(pid: int, number: int) -> None:
    """Send a signal to a process that may have ended."""
    with suppress(ProcessLookupError):
        os.kill(pid, number)


def records_of(stream: Any) -> tuple[int, list[dict[str, Any]]]:
    """Status and records of an answer that is read to its end; an error is a record too."""
    with stream:
        payload = stream.response.read()
        return stream.response.status, [json.loads(line) for line in payload.splitlines()]
