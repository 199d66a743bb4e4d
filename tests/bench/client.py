"""The load generator: a process of its own that reads a plan on standard input and prints what it saw.

Closed loop: each stream sends its next request when the last record of the one before has come. It looks at no record
but the last, so that it costs both sides the same and little.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass
class Answer:
    """What one request saw. Times are seconds on one clock for all; ``stamps`` has one per record with text."""

    began: float = 0.0
    stamps: list[float] = field(default_factory=list)
    tokens: int = 0
    prompt_tokens: int = 0
    error: str = ""
    decode_s: float = 0.0

    @property
    def first(self) -> float:
        """Time to the first token."""
        return self.stamps[0] - self.began if self.stamps else float("inf")

    @property
    def ended(self) -> float:
        return self.stamps[-1] if self.stamps else self.began


@dataclass
class Stream:
    """One client: its requests in order, and when it begins."""

    bodies: list[dict[str, Any]]
    delay_s: float = 0.0
    until_stream: int | None = None  #: given up when that other stream is through


@dataclass
class Plan:
    """Where to send what."""

    port: int
    path: str
    streams: list[Stream]


def run(plan: Plan, timeout_s: float = 900.0) -> list[list[Answer]]:
    """Run *plan* in a process of its own; the answers of each stream."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.bench.client"],
        input=json.dumps(asdict(plan)).encode(),
        stdout=subprocess.PIPE,
        check=True,
        timeout=timeout_s,
    )
    streams = [[Answer(**one) for one in stream] for stream in json.loads(done.stdout)]
    errors = {answer.error for stream in streams for answer in stream if answer.error}
    if errors:
        raise RuntimeError(f"requests failed: {sorted(errors)[:3]}")
    return streams


async def _main(plan: Plan) -> list[list[Answer]]:
    answers: list[list[Answer]] = [[] for _ in plan.streams]
    through = [asyncio.Event() for _ in plan.streams]
    async with asyncio.TaskGroup() as group:
        for number, stream in enumerate(plan.streams):
            group.create_task(_stream(plan, stream, answers[number], through, number))
    return answers


async def _stream(plan: Plan, stream: Stream, answers: list[Answer], through: list[asyncio.Event], number: int) -> None:
    await asyncio.sleep(stream.delay_s)
    async with asyncio.TaskGroup() as group:
        asking = group.create_task(_ask_all(plan, stream, answers))
        if stream.until_stream is not None:
            await through[stream.until_stream].wait()
            asking.cancel()
    through[number].set()


async def _ask_all(plan: Plan, stream: Stream, answers: list[Answer]) -> None:
    for body in stream.bodies:
        answers.append(Answer())
        await _ask(plan, body, answers[-1])


async def _ask(plan: Plan, body: dict[str, Any], answer: Answer) -> None:
    data = json.dumps(body).encode()
    answer.began = time.monotonic()
    writer = None
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", plan.port, limit=1 << 24)
        head = (
            f"POST {plan.path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nX-Ollamad-Detail: 1\r\n"
        )
        writer.write(head.encode() + b"Content-Length: %d\r\n\r\n" % len(data) + data)
        await _read(reader, answer)
    except (OSError, EOFError, ValueError) as error:
        answer.error = f"{type(error).__name__}: {error}"
    finally:
        if writer is not None:
            writer.close()


async def _read(reader: asyncio.StreamReader, answer: Answer) -> None:
    headers = await reader.readuntil(b"\r\n\r\n")
    if b" 200 " not in headers[:16] or b"chunked" not in headers.lower():
        answer.error = (headers[:100] + await reader.read(500)).decode(errors="replace")
        return
    last = b""
    stamps = answer.stamps
    while size := int(await reader.readline(), 16):
        chunk = (await reader.readexactly(size + 2))[:-2]
        now = time.monotonic()
        for line in chunk.splitlines():
            if line and line != b"data: [DONE]":
                last = line
                stamps.append(now)
    final = json.loads(last.removeprefix(b"data: "))
    _take_final(answer, final)


def _take_final(answer: Answer, final: dict[str, Any]) -> None:
    """The counts of the last record. Its own stamp goes when it carries no text."""
    if not (final.get("content") or final.get("response")) and len(answer.stamps) > 1:
        answer.stamps.pop()
    if "error" in final:
        answer.error = str(final["error"])
    answer.tokens = int(final.get("eval_count", final.get("tokens_predicted", 0)))
    answer.prompt_tokens = int(final.get("prompt_eval_count", final.get("tokens_evaluated", 0)))
    answer.decode_s = _decode_seconds(final)


def _decode_seconds(final: dict[str, Any]) -> float:
    """What the server says its decoding took."""
    if "timings" in final:
        return float(final["timings"]["predicted_ms"]) / 1e3
    return float(final.get("eval_duration", 0)) / 1e9


if __name__ == "__main__":
    asked = json.load(sys.stdin)
    streams = [Stream(**one) for one in asked.pop("streams")]
    json.dump([[asdict(answer) for answer in stream] for stream in asyncio.run(_main(Plan(streams=streams, **asked)))],
              sys.stdout)  # fmt: skip
