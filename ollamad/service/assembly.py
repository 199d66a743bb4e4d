"""Which messages a model gets: stored ones, system texts and the request's own, in the contract's order.

Pure. Source: http contract, message assembly; models contract, chat pre-processing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ollamad.plugin.frontend import InferenceRequest
from ollamad.types import Message, ResolvedModel

OPENING, CLOSING = "<think>", "</think>"


def chat_messages(request: InferenceRequest) -> tuple[Message, ...]:
    """Stored messages before the request's; the model's system text first unless the request begins with one."""
    model = request.model
    messages = (*model.messages, *request.messages)
    begins_with_system = bool(request.messages) and request.messages[0].role == "system"
    if model.system and not begins_with_system:
        messages = (Message("system", model.system), *messages)
    return without_old_thoughts(model, messages)


def generate_messages(request: InferenceRequest) -> tuple[Message, ...]:
    """A prompt as a talk: system text, stored messages unless an earlier context stands for them, the prompt."""
    model = request.model
    system = request.system or model.system
    first = (Message("system", system),) if system else ()
    stored = () if request.prefix_tokens else model.messages
    last = (Message("user", request.prompt),) if request.prompt is not None else ()
    return (*first, *stored, *request.messages, *last)


def without_old_thoughts(model: ResolvedModel, messages: Sequence[Message]) -> tuple[Message, ...]:
    """Take the leading think block out of assistant messages before the last user message.

    Only for families that were published with such blocks in their histories.
    """
    if model.config.model_family != "qwen3" and model.name.model != "deepseek-r1":
        return tuple(messages)
    last_user = max((at for at, message in enumerate(messages) if message.role == "user"), default=-1)
    return tuple(
        replace(message, content=_after_thoughts(message.content))
        if at < last_user and message.role == "assistant"
        else message
        for at, message in enumerate(messages)
    )


def _after_thoughts(text: str) -> str:
    start = text.lstrip()
    if not start.startswith(OPENING):
        return text
    _, closed, rest = start.partition(CLOSING)
    return rest.lstrip() if closed else ""
