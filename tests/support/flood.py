"""Many requests at once over raw sockets, from a process of its own so that nobody else's clock suffers.

    python flood.py PORT REQUESTS CONNECTIONS

prints one JSON object.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from unharmed import post


@dataclass
class Flood:
    """What came back: answers by status, times, and the refusals whole."""

    statuses: Counter[int] = field(default_factory=Counter)
    refusals: Counter[bytes] = field(default_factory=Counter)
    without_retry_after: int = 0
    took_s: float = 0.0
    slowest_s: float = 0.0


async def flood(port: int, requests: Sequence[bytes], connections: int) -> Flood:
    """Send every request over *connections* kept-alive connections and read every answer."""
    found = Flood()
    pending = iter(requests)
    began = time.monotonic()
    async with asyncio.TaskGroup() as group:
        for _ in range(connections):
            group.create_task(_worker(port, pending, found))
    found.took_s = time.monotonic() - began
    return found


async def _worker(port: int, pending: Any, found: Flood) -> None:
    reader = writer = None
    for request in pending:
        if writer is None:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
        began = time.monotonic()
        writer.write(request)
        assert reader is not None
        status, headers, body = await _answer(reader)
        found.slowest_s = max(found.slowest_s, time.monotonic() - began)
        found.statuses[status] += 1
        if status == 503:
            found.refusals[body] += 1
            found.without_retry_after += b"\r\nretry-after: " not in headers.lower()
        if b"connection: close" in headers.lower():
            writer.close()
            writer = None
    if writer is not None:
        writer.close()
        await writer.wait_closed()


async def _answer(reader: asyncio.StreamReader) -> tuple[int, bytes, bytes]:
    headers = await reader.readuntil(b"\r\n\r\n")
    status = int(headers.split(b" ", 2)[1])
    lowered = headers.lower()
    if b"transfer-encoding: chunked" in lowered:
        parts = []
        while size := int(await reader.readline(), 16):
            parts.append(await reader.readexactly(size))
            await reader.readexactly(2)
        await reader.readexactly(2)
        return status, headers, b"".join(parts)
    length = int(lowered.split(b"content-length: ")[1].split(b"\r\n")[0])
    return status, headers, await reader.readexactly(length)


def questions(count: int) -> list[bytes]:
    """Short requests to the demo model, each a little different."""
    body = {"model": "demo", "raw": True, "stream": False, "options": {"num_predict": 1, "num_ctx": 2048}}
    return [post("/api/generate", {**body, "prompt": f"Number {number}"}) for number in range(count)]


def refusal() -> bytes:
    """The contract's words for a full queue."""
    return json.dumps(
        {"error": "server busy, please try again.  maximum pending requests exceeded"}, separators=(",", ":")
    ).encode()


def flood_from_outside(port: int, requests: int, connections: int) -> Flood:
    """`flood` with `questions`, in a process of its own."""
    command = [sys.executable, __file__, *map(str, (port, requests, connections))]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr)
    found = json.loads(done.stdout)
    return Flood(
        Counter({int(status): count for status, count in found["statuses"].items()}),
        Counter({text.encode(): count for text, count in found["refusals"].items()}),
        found["without_retry_after"],
        found["took_s"],
        found["slowest_s"],
    )


def main() -> None:
    port, requests, connections = map(int, sys.argv[1:])
    found = asyncio.run(flood(port, questions(requests), connections))
    refusals = {text.decode(): count for text, count in found.refusals.items()}
    print(json.dumps({**vars(found), "refusals": refusals}))


if __name__ == "__main__":
    main()
