"""Blobs; ids from http-api contract A.14."""

import asyncio
from typing import Any

DIGEST = "sha256:" + "1" * 64


async def test_blobs(api: Any) -> None:
    """BL-01 to BL-05: present, missing, badly named, new, again, and not what was promised."""
    path = f"/api/blobs/{DIGEST}"
    answer = await api.send("HEAD", path)
    assert (answer.status, answer.kind, answer.headers["content-length"]) == (
        404,
        "application/json; charset=utf-8",
        "102",
    )
    assert (await api.send("HEAD", "/api/blobs/abc")).status == 400
    answer = await api.post(path, b"other")
    assert (answer.status, answer.json["error"].partition(",")[0]) == (400, "digest mismatch")
    answer = await api.post(path, b"bytes")
    assert (answer.status, answer.body, answer.kind) == (201, b"", "")
    assert (await api.post(path, b"bytes")).status == 200
    assert (await api.send("HEAD", path)).status == 200
    assert api.library.blobs == {DIGEST: b"bytes"}
    assert (await api.post("/api/blobs/sha512:1", b"x")).json == {"error": "invalid digest format"}


async def test_a_cut_upload_is_a_500(api: Any) -> None:
    """As recorded, an upload whose sender ends early is a 500 and leaves nothing."""
    reader, writer = await api.connect()
    writer.write(f"POST /api/blobs/{DIGEST} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\nabc".encode())
    writer.write_eof()
    async with asyncio.timeout(5):
        answer = await reader.read()
    assert answer.startswith(b"HTTP/1.1 500")
    assert answer.endswith(b'{"error":"unexpected EOF"}')
    assert not api.library.blobs
    writer.close()
