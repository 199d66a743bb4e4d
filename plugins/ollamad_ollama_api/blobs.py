"""HEAD and POST /api/blobs/:digest (http-api contract 8.11)."""

from __future__ import annotations

from collections.abc import AsyncIterator

from ollamad.plugin import HttpRequest, InvalidRequest, Library, OllamadError, Reply, Route
from ollamad_ollama_api.common import translated
from ollamad_ollama_api.errors import Words, fail


class UploadBroken(OllamadError):
    """The body ended early or its framing is wrong: a 500 on this route, as recorded."""


class Blobs:
    """Files of models, by digest."""

    def __init__(self, library: Library) -> None:
        self._library = library

    def routes(self) -> list[Route]:
        return [
            Route("HEAD", "/api/blobs/{digest}", translated(Words(), self.has), "manage"),
            Route("POST", "/api/blobs/{digest}", translated(Words(), self.write), "manage"),
        ]

    async def has(self, request: HttpRequest) -> Reply:
        digest = request.params["digest"]
        if await self._library.has_blob(digest):
            return Reply(200, b"", None)
        return fail(404, f'blob "{digest}" not found')

    async def write(self, request: HttpRequest) -> Reply:
        written = await self._library.write_blob(request.params["digest"], _upload(request))
        return Reply(201 if written else 200, b"", None)


async def _upload(request: HttpRequest) -> AsyncIterator[bytes]:
    try:
        async for chunk in request.chunks():
            yield chunk
    except InvalidRequest as error:
        raise UploadBroken(str(error)) from error
