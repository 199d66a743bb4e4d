"""Answers recorded from Ollama 0.32.1 for what never reaches a model: transport, origins, hosts, broken bodies.

`transport.jsonl` holds a case per line: what was sent, and status, headers and body of each answer.
"""

import asyncio
import json
import re
from pathlib import Path
from typing import Any

import pytest

CASES = [json.loads(line) for line in Path(__file__).with_name("transport.jsonl").read_text().splitlines()]
HEADERS = ("content-type", "allow", "location", "vary", "retry-after", "cache-control")
TIME = re.compile(r'"created_at":"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?Z"')


async def read_answer(reader: asyncio.StreamReader, method: str) -> dict[str, Any]:
    """One answer in the form of the recording; 1xx are skipped."""
    status = 100
    while status < 200:
        lines = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")[:-2]
        status = int(lines[0].split(" ")[1])
    headers = [[name.lower(), value] for name, _, value in (line.partition(": ") for line in lines[1:])]
    length = dict(headers).get("content-length")
    body = b""
    if method != "HEAD" and status != 204:
        body = await reader.read() if length is None else await reader.readexactly(int(length))
    kept = sorted(pair for pair in headers if pair[0] in HEADERS or pair[0].startswith("access-control-"))
    return {"status": status, "headers": kept, "body": TIME.sub('"created_at":"T"', body.decode())}


def plain_request(step: dict[str, Any], address: str) -> bytes:
    headers = [[name, value] for name, value in step.get("headers", []) if value is not None]
    if not any(name == "Host" for name, _ in headers):
        headers.append(["Host", address])
    body = step.get("body", "").encode()
    if body or step["method"] in ("POST", "PUT"):
        headers.append(["Content-Length", str(len(body))])
    lines = [f"{step['method']} {step['path']} HTTP/1.1", *(f"{name}: {value}" for name, value in headers)]
    return "\r\n".join([*lines, "", ""]).encode() + body


async def play(port: int, step: dict[str, Any]) -> None:
    address = f"127.0.0.1:{port}"
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    if "raw" not in step:
        writer.write(plain_request(step, address))
        methods = [step["method"]]
    else:
        methods = step["methods"]
        for piece in step["raw"]:
            writer.write(piece.replace("{addr}", address).encode())
            await writer.drain()
            if "Expect: 100-continue" in piece:
                assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 100 ")
        if step["half_close"]:
            writer.write_eof()
    for index, expected in enumerate(step["answers"]):
        answer = await read_answer(reader, methods[min(index, len(methods) - 1)])
        expected["body"] = TIME.sub('"created_at":"T"', expected["body"])
        expected["headers"] = [[name, value.replace("{addr}", address)] for name, value in sorted(expected["headers"])]
        assert answer == expected
    if step.get("closed"):
        assert await reader.read() == b""
    writer.close()


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["case"])
async def test_recorded(port: int, case: dict[str, Any]) -> None:
    """The same bytes get the same answer."""
    async with asyncio.timeout(10):
        for step in case["steps"]:
            if "raw" not in step:
                step = {**step, "headers": _filled(step.get("headers", []), port)}
            await play(port, step)


def _filled(headers: list[list[Any]], port: int) -> list[list[Any]]:
    address = f"127.0.0.1:{port}"
    return [
        [name, value if value is None else value.replace("{addr}", address).replace("{port}", str(port))]
        for name, value in headers
    ]
