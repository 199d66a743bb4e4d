"""POST /api/embed and the older /api/embeddings (http-api contract 8.4, 8.5)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from ollamad.plugin import (
    CloudDisabled,
    EmbedAnswer,
    EmbedRequest,
    HttpRequest,
    Inference,
    InvalidRequest,
    ModelNotFound,
    Reply,
    ResolvedModel,
    Route,
    encode_json,
)
from ollamad_ollama_api.common import require_name, resolve, translated
from ollamad_ollama_api.decode import EMBED, EMBEDDINGS, read_request
from ollamad_ollama_api.encode import NotFinite, fields, present, vector32, vector64
from ollamad_ollama_api.errors import JSON, Words, fail, status_of, text_of

_WORDS = Words(missing="pull")
#: Printing a float takes about a microsecond: longer answers are printed in a thread.
_OFF_LOOP_BYTES = 16 * 1024


class Embed:
    """Turns texts into vectors."""

    def __init__(self, inference: Inference) -> None:
        self._inference = inference

    def routes(self) -> list[Route]:
        return [
            Route("POST", "/api/embed", translated(_WORDS, self.embed)),
            Route("POST", "/api/embeddings", translated(_WORDS, self.embeddings)),
        ]

    async def embed(self, request: HttpRequest) -> Reply:
        found = await read_request(EMBED, request)
        inputs = _inputs(found.get("input"))
        name = found.get("model", "")
        if not name.strip():
            return fail(404, f"model '{name}' not found")
        model = await resolve(self._inference, name)
        if not inputs:
            await self._load(request, model, found)
            return Reply(200, encode_json(fields(model=name, embeddings=[])).encode())
        asked = EmbedRequest(
            model=model,
            inputs=inputs,
            truncate=found.get("truncate", True),
            dimensions=found.get("dimensions", 0),
            options=found.get("options", {}),
            keep_alive_ns=found.get("keep_alive"),
        )
        answer = await self._inference.embed(request.context, asked)
        return await _reply(lambda: _embedded(name, answer), answer)

    async def embeddings(self, request: HttpRequest) -> Reply:
        found = await read_request(EMBEDDINGS, request)
        model = await resolve(self._inference, require_name(found.get("model", "")), align_case=False)
        prompt = found.get("prompt", "")
        if not prompt:
            await self._load(request, model, found)
            return Reply(200, b'{"embedding":[]}')
        asked = EmbedRequest(
            model=model,
            inputs=(prompt,),
            truncate=False,
            raw=True,
            options=found.get("options", {}),
            keep_alive_ns=found.get("keep_alive"),
        )
        try:
            answer = await self._inference.embed(request.context, asked)
        except (InvalidRequest, ModelNotFound, CloudDisabled) as error:
            # Whatever goes wrong behind the scheduler is a 500 on this route.
            return fail(500 if isinstance(error, InvalidRequest) else status_of(error), text_of(error, _WORDS))
        return await _reply(lambda: f'{{"embedding":{vector64(answer.vectors[0])}}}', answer)

    async def _load(self, request: HttpRequest, model: ResolvedModel, found: dict[str, Any]) -> None:
        """Only load: with no inputs there is nothing to embed, and no capability is asked for."""
        asked = EmbedRequest(
            model=model, inputs=(), options=found.get("options", {}), keep_alive_ns=found.get("keep_alive")
        )
        await self._inference.embed(request.context, asked)


def _inputs(given: Any) -> tuple[str, ...]:
    if isinstance(given, str):
        return (given,) if given else ()
    if given is None:
        return ()
    if isinstance(given, list) and all(isinstance(item, str) for item in given):
        return tuple(given)
    raise InvalidRequest("invalid input type")


async def _reply(print_it: Callable[[], str], answer: EmbedAnswer) -> Reply:
    size = sum(map(len, answer.vectors))
    try:
        text = print_it() if size <= _OFF_LOOP_BYTES else await asyncio.to_thread(print_it)
    except NotFinite:
        return fail(400, "embedding contains NaN or Inf values")
    return Reply(200, text.encode(), JSON, {"X-Ollamad-Load-Ns": str(answer.load_ns)})


def _embedded(name: str, answer: EmbedAnswer) -> str:
    head = encode_json(fields(model=name))[:-1]
    vectors = ",".join(map(vector32, answer.vectors))
    tail = fields(
        **present(total_duration=answer.total_ns, load_duration=answer.load_ns, prompt_eval_count=answer.prompt_tokens)
    )
    behind = encode_json(tail)[1:]
    return f'{head},"embeddings":[{vectors}]{"," if tail else ""}{behind}'
