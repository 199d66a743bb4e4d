"""What the routes that run models share: names, checks in the contract's order, and refusals."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from ollamad.plugin import (
    BlobNotFound,
    BodyTooLarge,
    CapabilityMissing,
    Handler,
    HttpRequest,
    Inference,
    InvalidRequest,
    ModelFilesMissing,
    ModelNotFound,
    OllamadError,
    Reply,
    ResolvedModel,
    Stream,
    Unsupported,
    full_name,
)
from ollamad_ollama_api.errors import Words, translate

_MOST_TOP_LOGPROBS = 20


def translated(words: Words, handler: Callable[[HttpRequest], Awaitable[Reply | Stream]]) -> Handler:
    """*handler* with every error that rooms raise on purpose turned into an answer."""

    async def answer(request: HttpRequest) -> Reply | Stream:
        try:
            return await handler(request)
        except (OllamadError, BodyTooLarge) as error:
            return translate(error, words)

    return answer


def unavailable(what: str, plural: bool = False) -> Unsupported:
    """The refusal of what this version understands but cannot do."""
    return Unsupported(f"{what} {'are' if plural else 'is'} not available in this version of ollamad")


def check_top_logprobs(found: dict[str, Any]) -> None:
    """The range is checked before the model is looked up."""
    if not 0 <= found.get("top_logprobs", 0) <= _MOST_TOP_LOGPROBS:
        raise InvalidRequest(f"top_logprobs must be between 0 and {_MOST_TOP_LOGPROBS}")


async def resolve(inference: Inference, name: str, *, align_case: bool = True) -> ResolvedModel:
    """Look *name* up; an empty one is a model that is not there."""
    if not name.strip():
        raise ModelNotFound(name, name)
    try:
        return await inference.resolve(name, align_case=align_case)
    except BlobNotFound as error:
        raise ModelFilesMissing(name) from error


def require_name(name: str) -> str:
    """An empty name is told as such on most routes."""
    if not name.strip():
        raise InvalidRequest("model is required")
    return name


def check_thinking(model: ResolvedModel, found: dict[str, Any]) -> None:
    """A model that cannot think says so before anything is loaded."""
    if found.get("think") and "thinking" not in model.capabilities:
        raise InvalidRequest(f'"{model.requested}" does not support thinking')


def check_capabilities(model: ResolvedModel, *needed: str) -> None:
    """What the scheduler would refuse is refused first, so that a refusal of ours never hides it."""
    missing = tuple(what for what in needed if what not in model.capabilities)
    if missing:
        raise CapabilityMissing(full_name(model.name), model.requested, missing)


def refuse_unavailable(found: dict[str, Any], *, images: bool) -> None:
    """Refuse what belongs to later versions, never ignore it."""
    if found.get("think"):
        raise unavailable("thinking")
    if found.get("tools"):
        raise unavailable("tools", plural=True)
    if images:
        raise unavailable("images", plural=True)
    for what in ("suffix", "template", "format"):
        if found.get(what) not in (None, ""):
            raise unavailable(what)
    if found.get("logprobs"):
        raise unavailable("logprobs", plural=True)
