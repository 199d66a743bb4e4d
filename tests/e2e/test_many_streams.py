"""Many streams at once over several models: all are served, none waits for another, and each costs little.

A bounded sample; `python -m tests.bench many` runs 1,000.
"""

import asyncio
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from faults import ADMIN, FAKE, model_status, until, upload

from ollamad.testing.fake_file import write_fake_model

MODELS = [f"m{number}" for number in range(4)]
EACH, TOKENS = 50, 100
GROWTH_KIB = 100


class Seen:
    """What one stream saw of its answer."""

    def __init__(self) -> None:
        self.first = 0.0
        self.last = 0.0
        self.text = b""


async def one_stream(port: int, model: str, number: int, seen: Seen) -> None:
    options = {"num_predict": TOKENS, "temperature": 0, "num_ctx": 512, "seed": number}
    body = json.dumps({"model": model, "prompt": f"stream {number}", "raw": True, "options": options}).encode()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    head = f"POST /api/generate HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {len(body)}\r\n\r\n"
    writer.write(head.encode() + body)
    while data := await reader.read(65536):
        seen.last = time.monotonic()
        if not seen.first and b'"response"' in data:
            seen.first = seen.last
        seen.text += data
    writer.close()


async def all_streams(port: int, opened: Callable[[], None]) -> list[Seen]:
    seen = [Seen() for _ in range(EACH * len(MODELS))]
    async with asyncio.TaskGroup() as group:
        for number, one in enumerate(seen):
            group.create_task(one_stream(port, MODELS[number % len(MODELS)], number, one))
        await asyncio.to_thread(opened)
    return seen


def rss_kib(pid: int) -> int:
    return int(Path(f"/proc/{pid}/status").read_text().split("VmRSS:")[1].split()[0])


def test_two_hundred_streams_over_four_models(make_daemon: Callable[..., Any], tmp_path: Path) -> None:
    """All have a slot at once, all are answered in full and in step, and a stream takes at most 100 KiB."""
    gates = tmp_path / "gates"
    gates.mkdir()
    daemon = make_daemon(
        OLLAMA_NUM_PARALLEL=str(EACH),
        OLLAMA_MAX_LOADED_MODELS=str(len(MODELS)),
        FAKE_GATE_DIR=str(gates),
        FAKE_END_EVERY="0",
        FAKE_STEP_US="10000",
    ).start(*ADMIN, *FAKE)
    for number, name in enumerate(MODELS):
        upload(daemon, name, write_fake_model(tmp_path / f"{name}.gguf", seed=number).read_bytes())
        daemon.json("POST", "/api/generate", {"model": name, "options": {"num_ctx": 512}})
    pids = [daemon.pid, *daemon.runners()]
    before = sum(map(rss_kib, pids))
    (gates / "hold-decode").touch()
    grown: list[int] = []

    def opened() -> None:
        try:
            until(lambda: all(model_status(daemon, name).get("busy") == EACH for name in MODELS), 30, "all have slots")
        finally:
            (gates / "hold-decode").unlink()
        grown.append(sum(map(rss_kib, pids)) - before)

    seen = asyncio.run(all_streams(daemon.port, opened))
    for one in seen:
        assert b"200 OK" in one.text
        assert b'"error"' not in one.text
        assert f'"eval_count":{TOKENS}'.encode() in one.text
    assert max(one.first for one in seen) < min(one.last for one in seen), "one waited until another was through"
    grown.append(sum(map(rss_kib, pids)) - before)
    assert max(grown) <= GROWTH_KIB * len(seen)
    assert daemon.stop() == 0
