"""POST /api/chat (http-api contract 8.3); the checks stand in the contract's order."""

from __future__ import annotations

from typing import Any

from ollamad.plugin import HttpRequest, Inference, InferenceRequest, Message, Reply, ResolvedModel, Route, Stream
from ollamad_ollama_api.answers import Telling
from ollamad_ollama_api.common import (
    check_capabilities,
    check_thinking,
    check_top_logprobs,
    refuse_unavailable,
    require_name,
    resolve,
    translated,
)
from ollamad_ollama_api.decode import CHAT, messages_of, read_request
from ollamad_ollama_api.encode import Records
from ollamad_ollama_api.errors import Words

_WORDS = Words(missing="requested", verb="chat")


class Chat:
    """Answers a conversation."""

    def __init__(self, inference: Inference) -> None:
        self._inference = inference

    def routes(self) -> list[Route]:
        return [Route("POST", "/api/chat", translated(_WORDS, self.chat))]

    async def chat(self, request: HttpRequest) -> Reply | Stream:
        found = await read_request(CHAT, request)
        check_top_logprobs(found)
        model = await resolve(self._inference, require_name(found.get("model", "")))
        records = Records(found["model"], chat=True)
        messages = messages_of(found)
        if not messages and found.get("keep_alive") == 0:
            await self._inference.unload(model)
            return Reply(200, records.bare("unload"))
        _check(model, found, messages)
        asked = _asked(model, found, messages)
        if not messages:
            await self._inference.load(request.context, asked)
            return Reply(200, records.bare("load"))
        if found.get("_debug_render_only"):
            rendered = await self._inference.render(request.context, asked, chat=True)
            return Reply(200, records.rendered(rendered.prompt, rendered.image_count))
        answer = await self._inference.chat(request.context, asked)
        return await Telling(request, records, _WORDS).tell(answer, stream=found.get("stream", True))


def _check(model: ResolvedModel, found: dict[str, Any], messages: tuple[Message, ...]) -> None:
    check_thinking(model, found)
    check_capabilities(model, "completion", *(["tools"] if found.get("tools") else []))
    refuse_unavailable(found, images=any(message.images for message in messages))


def _asked(model: ResolvedModel, found: dict[str, Any], messages: tuple[Message, ...]) -> InferenceRequest:
    return InferenceRequest(
        model=model,
        messages=messages,
        options=found.get("options", {}),
        keep_alive_ns=found.get("keep_alive"),
        truncate=found.get("truncate", True),
        shift=found.get("shift"),
        think=found.get("think"),
    )
