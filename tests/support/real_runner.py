"""A real runner process at the other end of a socket pair."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
from collections import deque
from pathlib import Path

from ollamad.types import WeightsRef
from ollamad.wire.codec import decode, encode
from ollamad.wire.framing import FrameDecoder, PieceQueue
from ollamad.wire.messages import (
    PROTOCOL_VERSION,
    Delta,
    Done,
    Down,
    Failed,
    Hello,
    Load,
    LoadSpec,
    Ready,
    Submit,
    Task,
    Up,
)

DEMO = WeightsRef("sha256:demo", 4389152, "demo")
ENVIRONMENT = {"PATH": os.defpath, "GGML_NO_BACKTRACE": "1", "OMP_WAIT_POLICY": "passive"}


class Child:
    """Blocking daemon side of one runner."""

    def __init__(self, store: Path, *extra: str, environment: dict[str, str] | None = None) -> None:
        ours, theirs = socket.socketpair()
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the child
        ours.settimeout(60)
        command = [sys.executable, "-m", "ollamad.runner_child", "--fd", str(theirs.fileno()), "--store", str(store)]
        command += ["--parent", str(os.getpid()), *(part for one in extra for part in ("--plugin-extra", one))]
        self.process = subprocess.Popen(
            command,
            pass_fds=(theirs.fileno(),),
            stderr=self._stderr,
            env=ENVIRONMENT | (environment or {}),
        )
        theirs.close()
        self.socket = ours
        self._decoder = FrameDecoder()
        self._received: deque[Up] = deque()

    def send(self, message: Down) -> None:
        queue = PieceQueue()
        queue.put(encode(message), "")
        while (frame := queue.pop()) is not None:
            self.socket.sendall(frame)

    def receive(self) -> Up | None:
        while not self._received:
            data = self.socket.recv(65536)
            if not data:
                return None
            for payload in self._decoder.feed(data):
                self._received.append(decode(payload, down=False))  # type: ignore[arg-type]
        return self._received.popleft()

    def receive_until(self, *kinds: type) -> Up:
        """The next message of one of *kinds*; others are dropped."""
        while (message := self.receive()) is not None:
            if isinstance(message, kinds):
                return message
        raise AssertionError(f"the runner left: {self.last_words()}")

    def greet(self) -> None:
        self.send(Hello(PROTOCOL_VERSION))
        assert isinstance(self.receive(), Hello)

    def load(self, spec: LoadSpec) -> Up:
        self.greet()
        self.send(Load(spec))
        return self.receive_until(Ready, Failed)

    def ask(self, request_id: str, task: Task) -> tuple[list[str], Done | Failed]:
        """Submit one task and wait for its end; the texts of its deltas, and the end."""
        self.send(Submit(request_id, task))
        return self.collect(request_id)

    def collect(self, request_id: str) -> tuple[list[str], Done | Failed]:
        texts = []
        while True:
            message = self.receive_until(Delta, Done, Failed)
            assert isinstance(message, Delta | Done | Failed)
            if message.request_id != request_id:
                continue
            if not isinstance(message, Delta):
                return texts, message
            texts.append(message.text)

    def last_words(self) -> str:
        self._stderr.seek(0)
        return self._stderr.read().decode(errors="replace")[-2000:]

    def close(self) -> None:
        self.socket.close()
        self.process.kill()
        self.process.wait()
        self._stderr.close()


def demo_spec(**changes: object) -> LoadSpec:
    return LoadSpec("llama-cpu", (DEMO,), **({"ctx_len": 2048, "slots": 2} | changes))  # type: ignore[arg-type]
