"""Ollama's HTTP API: routes, decoder, encoder and errors of http-api contract section 8."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ollamad.plugin import Frontend, HttpRequest, Reply, Route, Services, hookimpl
from ollamad_ollama_api.blobs import Blobs
from ollamad_ollama_api.chat import Chat
from ollamad_ollama_api.create import Create
from ollamad_ollama_api.embed import Embed
from ollamad_ollama_api.encode import fields, reply
from ollamad_ollama_api.generate import Generate
from ollamad_ollama_api.models import Models


class OllamaApi(Frontend):
    """The native routes of Ollama."""

    name = "ollama-api"

    def routes(self, services: Services) -> Sequence[Route]:
        version = reply(fields(version=services.ollama_version))
        inference, library = services.inference, services.library
        return [
            *_fixed("/", Reply(200, b"Ollama is running", "text/plain; charset=utf-8")),
            *_fixed("/api/version", version),
            *Generate(inference).routes(),
            *Chat(inference).routes(),
            *Embed(inference).routes(),
            *Models(library, inference).routes(),
            *Blobs(library).routes(),
            *Create(library).routes(),
        ]


def _fixed(path: str, answer: Reply) -> list[Route]:
    async def handler(request: HttpRequest) -> Reply:
        return answer

    return [Route("HEAD", path, handler), Route("GET", path, handler)]


@hookimpl
def ollamad_register_frontends(register: Callable[[Frontend], None]) -> None:
    """Register the one frontend."""
    register(OllamaApi())
