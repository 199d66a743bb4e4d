"""What daemon, runner and sockets add to the first token: the same engine in this process, beside it."""

from __future__ import annotations

import json
import socket
import statistics
import threading
import time
from pathlib import Path

from ollamad_llama.cpu import CpuBackend

from ollamad.engine.engine import Outcome, Work
from ollamad.runner_child.loading import Loaded, load
from ollamad.types import Placed, SamplingParameters, WeightsRef
from ollamad.wire.messages import LoadSpec
from tests.bench.bench import OURS, Bench
from tests.bench.servers import Ollamad, Setting
from tests.bench.table import Line

_ROUNDS = 200
_PROMPT = "Who are you and what do you do"


class _First:
    """A listener that says when the first token came."""

    def __init__(self) -> None:
        self.came = threading.Event()
        self.ended = threading.Event()
        self.at = 0.0

    def token(self, token: int) -> bool:
        self.at = self.at or time.monotonic()
        self.came.set()
        return True

    def finished(self, outcome: Outcome) -> None:
        self.ended.set()


def first_token(bench: Bench) -> list[Line]:
    """Demo model, a prompt of some 8 tokens, median of 200, alternating."""
    setting = Setting(model="demo", slots=1, ctx_len=2048, threads=bench.threads)
    inside = _in_process(setting)
    assert inside.engine is not None
    tokens = tuple(inside.model.tokenize(_PROMPT, add_special=True, parse_special=True))
    ours, engine = [], []
    with bench.alone(Ollamad(), setting) as daemon:
        daemon.ask_once()
        request = _request(daemon)
        with socket.create_connection(("127.0.0.1", daemon.port)) as connection:
            for number in range(_ROUNDS + 10):
                through, direct = _over_http(connection, request), _directly(inside, tokens, str(number))
                if number >= 10:
                    ours.append(1000 * through)
                    engine.append(1000 * direct)
    inside.engine.stop()
    added = [one - statistics.median(engine) for one in ours]
    title = f"demo, time to first token, {len(tokens)}-token prompt, {_ROUNDS} requests"
    return [
        Line(title, "ms", {OURS: ours, "engine in process": engine}, more=False),
        Line(f"{title}: added", "ms", {OURS: added}, limit=5, more=False),
    ]


def _in_process(setting: Setting) -> Loaded:
    spec = LoadSpec(
        "llama-cpu",
        (WeightsRef("sha256:demo", 0, "demo"),),
        placement=(Placed("CPU", "cpu", 0, 0),),
        ctx_len=setting.ctx_len,
        slots=setting.slots,
        n_batch=setting.batch,
        threads=setting.threads,
    )
    return load(CpuBackend(), spec, Path(), report=lambda progress: None, on_fatal=_raise)


def _raise(error: BaseException) -> None:
    raise error


def _request(daemon: Ollamad) -> bytes:
    body = daemon.body(_PROMPT, 2)
    body["options"]["temperature"] = 0
    data = json.dumps(body).encode()
    head = f"POST {daemon.path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(data)}\r\n\r\n"
    return head.encode() + data


def _over_http(connection: socket.socket, request: bytes) -> float:
    began = time.monotonic()
    connection.sendall(request)
    data = b""
    first = 0.0
    while not data.endswith(b"0\r\n\r\n"):
        data += connection.recv(65536)
        if not first and b'"response":' in data:
            first = time.monotonic()
    assert first, data
    return first - began


def _directly(inside: Loaded, tokens: tuple[int, ...], name: str) -> float:
    assert inside.engine is not None
    listener = _First()
    began = time.monotonic()
    inside.engine.submit(Work(name, tokens, SamplingParameters(temperature=0.0), 2, 0), listener)
    listener.came.wait()
    listener.ended.wait()
    return listener.at - began
