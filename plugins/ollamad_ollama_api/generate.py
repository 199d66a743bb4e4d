"""POST /api/generate (http-api contract 8.2); the checks stand in the contract's order."""

from __future__ import annotations

from typing import Any

from ollamad.plugin import HttpRequest, Inference, InferenceRequest, InvalidRequest, Reply, ResolvedModel, Route, Stream
from ollamad_ollama_api.answers import Telling
from ollamad_ollama_api.common import (
    check_capabilities,
    check_thinking,
    check_top_logprobs,
    refuse_unavailable,
    resolve,
    translated,
)
from ollamad_ollama_api.decode import GENERATE, read_request
from ollamad_ollama_api.encode import Records
from ollamad_ollama_api.errors import Words

_WORDS = Words(missing="requested", verb="generate")


class Generate:
    """Completes a prompt."""

    def __init__(self, inference: Inference) -> None:
        self._inference = inference

    def routes(self) -> list[Route]:
        return [Route("POST", "/api/generate", translated(_WORDS, self.generate))]

    async def generate(self, request: HttpRequest) -> Reply | Stream:
        found = await read_request(GENERATE, request)
        check_top_logprobs(found)
        model = await resolve(self._inference, found.get("model", ""))
        records = Records(found.get("model", ""), chat=False)
        prompt = found.get("prompt", "")
        if not prompt and found.get("keep_alive") == 0:
            await self._inference.unload(model)
            return Reply(200, records.bare("unload"))
        _check(model, found)
        asked = _asked(model, found, prompt)
        if not prompt:
            await self._inference.load(request.context, asked)
            return Reply(200, records.bare("load"))
        if found.get("_debug_render_only"):
            rendered = await self._inference.render(request.context, asked, chat=False)
            return Reply(200, records.rendered(rendered.prompt, rendered.image_count))
        answer = await self._inference.generate(request.context, asked)
        return await Telling(request, records, _WORDS).tell(answer, stream=found.get("stream", True))


def _check(model: ResolvedModel, found: dict[str, Any]) -> None:
    if found.get("raw") and (found.get("template") or found.get("system") or found.get("context")):
        raise InvalidRequest("raw mode does not support template, system, or context")
    check_thinking(model, found)
    check_capabilities(model, "completion", *(["insert"] if found.get("suffix") else []))
    refuse_unavailable(found, images=bool(found.get("images")))


def _asked(model: ResolvedModel, found: dict[str, Any], prompt: str) -> InferenceRequest:
    return InferenceRequest(
        model=model,
        prompt=prompt,
        system=found.get("system", ""),
        raw=found.get("raw", False),
        prefix_tokens=tuple(found.get("context", ())),
        options=found.get("options", {}),
        keep_alive_ns=found.get("keep_alive"),
        truncate=found.get("truncate", True),
        shift=found.get("shift"),
        think=found.get("think"),
    )
