"""The contenders: our daemon and llama-server, started with equal settings and asked with equal parameters."""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ollamad.runner_child.threads import default_threads
from tests.bench.build import Build
from tests.bench.cache import cache_folder
from tests.bench.client import Plan, Stream
from tests.bench.models import model

_START_S = 120.0
_SAMPLING = {"top_k": 40, "top_p": 0.9, "min_p": 0.0, "temperature": 0.8, "repeat_penalty": 1.0}


@dataclass(frozen=True)
class Setting:
    """What both sides are started with. ``batch`` is the logical and the physical batch."""

    model: str = "q05"
    slots: int = 8
    ctx_len: int = 4096
    batch: int = 512
    threads: int = field(default_factory=default_threads)
    environment: Mapping[str, str] = field(default_factory=dict)  #: ours alone: what a row is about

    def __hash__(self) -> int:
        return hash((self.model, self.slots, self.ctx_len, self.batch, self.threads, *self.environment.items()))


class Contender:
    """A server that can be started, asked and stopped."""

    name: str
    path: str

    def __init__(self) -> None:
        self.port = 0
        self.process: subprocess.Popen[bytes] | None = None
        self.setting = Setting()
        self.folder = Path()
        self.command: list[str] = []
        self.launched = 0.0  #: when the process was started

    def start(self, setting: Setting) -> None:
        """Start it and load the model; returns once it has answered a request."""
        self.launch(setting)
        self.ask_once()

    def launch(self, setting: Setting) -> None:
        """Start the process; returns once it takes requests."""
        raise NotImplementedError

    def body(self, prompt: str, tokens: int, seed: int = 1) -> dict[str, Any]:
        """A streamed request for exactly *tokens* tokens."""
        raise NotImplementedError

    def prefilled(self) -> int:
        """Prompt tokens computed (not reused) since the start."""
        raise NotImplementedError

    def ask_once(self) -> float:
        """One token; seconds until it came."""
        began = time.monotonic()
        status, answer = self.request("POST", self.path, self.body(" hello", 1))
        if status != 200:
            raise RuntimeError(f"{self.name}: {status} {answer[:500]!r}\n{self.log()[-2000:]}")
        return time.monotonic() - began

    def plan(self, streams: list[Stream]) -> Plan:
        return Plan(self.port, self.path, streams)

    def request(self, method: str, path: str, body: Any = None, timeout_s: float = 300.0) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout_s)
        try:
            data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
            connection.request(method, path, data)
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()

    def log(self) -> str:
        path = self.folder / "log"
        return path.read_text(errors="replace") if path.is_file() else ""

    def stop(self) -> None:
        if self.process is not None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
            self.process = None
            shutil.rmtree(self.folder)

    def _spawn(self, command: list[str], environment: Mapping[str, str], ready: Callable[[], bool]) -> None:
        self.command = command
        self.launched = time.monotonic()
        with (self.folder / "log").open("wb") as log:
            self.process = subprocess.Popen(
                command, env=dict(environment), stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        deadline = time.monotonic() + _START_S
        while not ready():
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{self.name} did not start: {command}\n{self.log()[-3000:]}")
            time.sleep(0.005)

    def _answers(self, path: str) -> bool:
        try:
            return self.request("GET", path, timeout_s=5)[0] == 200
        except (OSError, http.client.HTTPException):
            return False


class LlamaServer(Contender):
    """The peer. Its environment is the user's: nothing of ours reaches it."""

    path = "/completion"

    def __init__(self, build: Build) -> None:
        super().__init__()
        self.build = build
        self.name = f"llama-server/{build.name}"

    def launch(self, setting: Setting) -> None:
        self.setting = setting
        self.folder = Path(tempfile.mkdtemp(prefix="bench-llama-"))
        self.port = _free_port()
        command = [str(self.build.server), "--model", str(model(setting.model)), "--host", "127.0.0.1",
                   "--port", str(self.port), "--parallel", str(setting.slots),
                   "--ctx-size", str(setting.ctx_len * setting.slots), "--threads", str(setting.threads),
                   "--threads-batch", str(setting.threads), "--batch-size", str(setting.batch),
                   "--ubatch-size", str(setting.batch), "--metrics"]  # fmt: skip
        self._spawn(command, os.environ, lambda: self._answers("/health"))

    def body(self, prompt: str, tokens: int, seed: int = 1) -> dict[str, Any]:
        return {"prompt": prompt, "n_predict": tokens, "stream": True, "cache_prompt": True, "seed": seed, **_SAMPLING}

    def prefilled(self) -> int:
        for line in self.request("GET", "/metrics")[1].decode().splitlines():
            if line.startswith("llamacpp:prompt_tokens_total "):
                return int(float(line.split()[1]))
        raise RuntimeError("llama-server does not tell its prompt tokens")


class Ollamad(Contender):
    """Ours, with a home of its own; models are created once, in a store in the cache."""

    path = "/api/generate"

    def __init__(self, name: str = "ollamad") -> None:
        super().__init__()
        self.name = name

    def launch(self, setting: Setting) -> None:
        self.setting = setting
        self.folder = Path(tempfile.mkdtemp(prefix="bench-ollamad-"))
        self.port = _free_port()
        (self.folder / "run").mkdir(mode=0o700)
        foreign = ("OLLAMA", "XDG_", "STATE_", "RUNTIME_")
        kept = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
        own = {
            "HOME": str(self.folder),
            "XDG_RUNTIME_DIR": str(self.folder / "run"),
            "RUNTIME_DIRECTORY": str(self.folder / "run"),
            "OLLAMA_HOST": f"127.0.0.1:{self.port}",
            "OLLAMA_MODELS": str(cache_folder() / "store"),
            "OLLAMA_NUM_PARALLEL": str(setting.slots),
            "OLLAMA_KEEP_ALIVE": "-1",
        }
        command = [sys.executable, "-m", "ollamad.cli.serve", "serve"]
        self._spawn(command, kept | own | setting.environment, lambda: self._answers("/api/version"))
        self.prepare(setting.model)

    def body(self, prompt: str, tokens: int, seed: int = 1) -> dict[str, Any]:
        options = {
            "num_predict": tokens,
            "seed": seed,
            "num_ctx": self.setting.ctx_len,
            "num_batch": self.setting.batch,
            "repeat_last_n": 64,
            **_SAMPLING,
        }
        return {"model": self.setting.model, "prompt": prompt, "raw": True, "stream": True, "options": options}

    def prefilled(self) -> int:
        return int(self.runner()["prefilled_tokens"])

    def runner(self) -> dict[str, Any]:
        """The counters of the runner of the one model that is loaded."""
        found: dict[str, Any] = self.admin("/ollamad/status")["runners"][0]
        return found

    def admin(self, path: str) -> Any:
        """The answer of an admin route, over the Unix socket."""
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(10)
            sock.connect(str(next((self.folder / "run").rglob("*.sock"))))
            sock.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
            response = http.client.HTTPResponse(sock)
            response.begin()
            return json.loads(response.read())

    def processes(self) -> list[int]:
        """The daemon and its children."""
        assert self.process is not None
        pid = self.process.pid
        children = [task.read_text().split() for task in Path(f"/proc/{pid}/task").glob("*/children")]
        return [pid, *(int(child) for part in children for child in part)]

    def resident_kib(self) -> int:
        """Memory of all its processes; what they share counts once."""
        found = 0
        for pid in self.processes():
            with suppress(OSError):  # a job that has just ended
                text = Path(f"/proc/{pid}/smaps_rollup").read_text()
                found += int(re.findall(r"^Pss:\s+(\d+)", text, re.MULTILINE)[0])
        return found

    def cpu_seconds(self) -> float:
        """Time that the daemon itself (no child) has computed."""
        assert self.process is not None
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def prepare(self, name: str) -> None:
        """Make the model *name* known, once for all runs."""
        names = [one["name"] for one in json.loads(self.request("GET", "/api/tags")[1])["models"]]
        if f"{name}:latest" not in names and name != "demo":
            self.create(name, model(name).read_bytes())

    def create(self, name: str, data: bytes) -> None:
        """Upload a GGUF and call it *name*."""
        digest = "sha256:" + hashlib.sha256(data).hexdigest()
        status, answer = self.request("POST", f"/api/blobs/{digest}", data)
        if status >= 300:
            raise RuntimeError(f"upload of {name}: {status} {answer!r}")
        status, answer = self.request("POST", "/api/create", {"model": name, "files": {f"{name}.gguf": digest}})
        if status != 200 or b'"error"' in answer:
            raise RuntimeError(f"create of {name}: {status} {answer!r}")


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])
