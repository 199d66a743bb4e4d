"""What lists, shows, copies and deletes models (http-api contract 8.6 to 8.10)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from ollamad.plugin import (
    HttpRequest,
    Inference,
    InvalidName,
    JsonStruct,
    Library,
    ListedModel,
    Message,
    ModelConfig,
    OllamadError,
    Reply,
    Route,
    RunningModel,
    ShownModel,
)
from ollamad_ollama_api.common import require_name, translated
from ollamad_ollama_api.decode import COPY, DELETE, SHOW, read_request
from ollamad_ollama_api.encode import expiry, fields, local_time, present, reply
from ollamad_ollama_api.errors import Words, fail
from ollamad_ollama_api.parse import quote

_EMPTY = Reply(200, b"", None)
#: Sees a model's base name replaced by the name it asked for. Source: http-api contract 8.8.
_COPILOT = re.compile(r"GitHubCopilotChat/")


class Models:
    """The models on disk and in memory."""

    def __init__(self, library: Library, inference: Inference) -> None:
        self._library = library
        self._inference = inference

    def routes(self) -> list[Route]:
        plain = Words()
        return [
            Route("GET", "/api/tags", self.tags),
            Route("HEAD", "/api/tags", self.tags),
            Route("GET", "/api/ps", self.running),
            Route("POST", "/api/show", translated(Words(missing="short"), self.show)),
            Route("POST", "/api/copy", translated(Words(missing="copy"), self.copy), "manage"),
            Route("DELETE", "/api/delete", translated(plain, self.delete), "manage"),
        ]

    async def tags(self, request: HttpRequest) -> Reply:
        try:
            models = await self._library.list()
        except OllamadError:
            return fail(500, "model list cache unavailable")
        return reply(fields(models=[_listed(model) for model in models]))

    async def running(self, request: HttpRequest) -> Reply:
        return reply(fields(models=[_running(model) for model in self._inference.running()]))

    async def show(self, request: HttpRequest) -> Reply:
        found = await read_request(SHOW, request)
        name = require_name(found.get("model") or found.get("name", ""))
        copilot = _COPILOT.match(request.headers.get("user-agent", ""))
        shown = await self._library.show(
            name,
            verbose=found.get("verbose", False),
            system=found.get("system", ""),
            options=found.get("options"),
            basename=name if copilot else "",
        )
        return reply(_shown(shown))

    async def copy(self, request: HttpRequest) -> Reply:
        found = await read_request(COPY, request)
        await self._library.copy(found.get("source", ""), found.get("destination", ""))
        return _EMPTY

    async def delete(self, request: HttpRequest) -> Reply:
        found = await read_request(DELETE, request)
        name = require_name(found.get("model") or found.get("name", ""))
        try:
            await self._library.delete(name)
        except InvalidName as error:
            text = str(error)
            return fail(400, f"name {quote(name)} is invalid" if text == "invalid model name" else text)
        return _EMPTY


def _details(parent: str, config: ModelConfig, quantization: str, **lengths: int) -> JsonStruct:
    return fields(
        parent_model=parent,
        format=config.model_format,
        family=config.model_family,
        families=None if config.model_families is None else list(config.model_families),
        parameter_size=config.model_type,
        quantization_level=quantization,
        **present(**lengths),
    )


def _remote(config: ModelConfig) -> dict[str, Any]:
    return present(remote_model=config.remote_model, remote_host=config.remote_host)


def _listed(model: ListedModel) -> JsonStruct:
    lengths = {"context_length": model.context_length, "embedding_length": model.embedding_length}
    return fields(
        name=model.name,
        model=model.name,
        **_remote(model.config),
        modified_at=local_time(model.modified_ns),
        size=model.size_bytes,
        digest=model.digest,
        details=_details(model.parent_model, model.config, model.config.file_type, **lengths),
        **present(capabilities=list(model.capabilities)),
    )


def _running(model: RunningModel) -> JsonStruct:
    return fields(
        name=model.name,
        model=model.name,
        size=model.size_bytes,
        digest=model.digest,
        details=_details("", model.config, model.config.file_type),
        expires_at=expiry(model.expires_at),
        size_vram=model.size_vram_bytes,
        context_length=model.ctx_len,
    )


def _shown(shown: ShownModel) -> JsonStruct:
    config = shown.model.config
    return fields(
        **present(
            license="\n".join(shown.licenses),
            modelfile=shown.modelfile,
            parameters=shown.parameters,
            template=shown.template,
            system=shown.system,
        ),
        details=_details(shown.parent_model, config, shown.quantization_level),
        **present(messages=[_message(message) for message in shown.model.messages]),
        **_remote(config),
        model_info=_ordered(shown.model_info),
        **present(
            projector_info=_ordered(shown.projector_info) if shown.projector_info else None,
            tensors=[_ordered(tensor) for tensor in shown.tensors],
            capabilities=list(shown.model.capabilities),
        ),
        modified_at=local_time(shown.modified_ns),
        **present(requires=config.requires),
    )


def _message(message: Message) -> JsonStruct:
    return fields(role=message.role, content=message.content)


def _ordered(values: Mapping[str, Any]) -> JsonStruct:
    """The library has put the keys in their final order."""
    return JsonStruct(values)
