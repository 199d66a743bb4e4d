"""Messages to prompt text through the chat template of a model file.

Behaves like llama.cpp's ``--jinja``: OpenAI-shaped messages, a last assistant message is continued, a system
message reaches templates that know none. Not for the daemon: it imports jinja2.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

from jinja2 import Template
from jinja2.exceptions import TemplateError

from ollamad.prompt.sandbox import MAX_TEXT_BYTES, OutOfTime, Sandbox, TemplateRaised, run
from ollamad.types import Message

#: What a model without a template gets. Source: llama.cpp, fallback of its chat templates.
CHATML = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
#: Time of one rendering.
TIMEOUT_S = 1.0
_SYSTEM_PROBE = "<ollamad system probe>"


class TemplateFailed(Exception):
    """The template could not be parsed or run, or took too long; ``str()`` is fit for the client."""


class InvalidMessages(Exception):
    """The conversation is one that no template can continue."""


class ChatTemplate:
    """One template, compiled at first use; `render` may be called from any thread.

    Args:
        source: Jinja text; None or blank stands for ChatML.
        bos_text: Text of the token that begins a sequence, "" if there is none.
    """

    def __init__(
        self, source: str | None, *, bos_text: str = "", eos_text: str = "", timeout_s: float = TIMEOUT_S
    ) -> None:
        self._source = source if source and source.strip() else CHATML
        self._texts = {"bos_token": bos_text, "eos_token": eos_text}
        self._timeout_s = timeout_s

    def render(self, messages: Sequence[Message], *, think: bool | str | None = None) -> str:
        """Return the prompt that asks for the next assistant message, or for the rest of the last one.

        ``enable_thinking`` (and ``reasoning_effort`` for a level) exist in the template only if *think* is
        set. A continued message has no thinking before it.

        Raises:
            TemplateFailed: With the template's own words.
            InvalidMessages: None at all, or two assistant messages at the end.
        """
        if not messages:
            raise InvalidMessages("there are no messages")
        *rest, last = messages
        if last.role != "assistant":
            return self._run(messages, think)
        if rest and rest[-1].role == "assistant":
            raise InvalidMessages("Cannot have 2 or more assistant messages at the end of the list.")
        return self._run(rest, think or False) + last.content

    def _run(self, messages: Sequence[Message], think: bool | str | None) -> str:
        shaped = [_shape(message) for message in messages]
        if any(one["role"] == "system" for one in shaped) and not self._knows_system:
            shaped = _without_system(shaped)
        return self._fill(shaped, think)

    def _fill(self, shaped: list[dict[str, Any]], think: bool | str | None = None) -> str:
        variables: dict[str, Any] = {"messages": shaped, "add_generation_prompt": True, "tools": None, **self._texts}
        if think is not None:
            variables["enable_thinking"] = bool(think)
        if isinstance(think, str):
            variables["reasoning_effort"] = think
        try:
            return run(lambda: self._join(variables), self._timeout_s)
        except OutOfTime:
            raise TemplateFailed(f"the chat template ran longer than {self._timeout_s:g} s") from None
        except TemplateRaised as error:
            raise TemplateFailed(str(error)) from error
        except TemplateError as error:
            raise TemplateFailed(f"the chat template failed: {error.message or type(error).__name__}") from error
        except (MemoryError, RecursionError) as error:
            raise TemplateFailed(f"the chat template failed: {type(error).__name__}") from error
        except Exception as error:  # the template's own code: a wrong type, a missing key
            raise TemplateFailed(f"the chat template failed: {type(error).__name__}: {error}") from error

    def _join(self, variables: Mapping[str, Any]) -> str:
        parts, size = [], 0
        for part in self._template.generate(variables):
            parts.append(part)
            size += len(part)
            if size > MAX_TEXT_BYTES:
                raise TemplateFailed(f"the chat template makes more than {MAX_TEXT_BYTES} characters")
        return "".join(parts)

    @cached_property
    def _template(self) -> Template:
        return Sandbox().from_string(self._source)

    @cached_property
    def _knows_system(self) -> bool:
        """Whether a system message leaves its text in the prompt; some templates refuse or drop it."""
        try:
            probe = [{"role": "system", "content": _SYSTEM_PROBE}, {"role": "user", "content": "?"}]
            return _SYSTEM_PROBE in self._fill(probe)
        except TemplateFailed:
            return False


def _shape(message: Message) -> dict[str, Any]:
    """*message* as an OpenAI-style object; thinking is dropped, arguments of calls are JSON text."""
    shaped: dict[str, Any] = {"role": message.role, "content": message.content}
    if message.tool_calls:
        shaped["tool_calls"] = [_shape_call(call) for call in message.tool_calls]
    if message.tool_call_id:
        shaped["tool_call_id"] = message.tool_call_id
    if message.tool_name:
        shaped["name"] = message.tool_name
    return shaped


def _shape_call(call: Mapping[str, Any]) -> dict[str, Any]:
    function = call.get("function", {})
    arguments = function.get("arguments", {})
    text = arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False)
    shaped = {"type": "function", "function": {"name": function.get("name", ""), "arguments": text}}
    return {"id": call["id"], **shaped} if call.get("id") else shaped


def _without_system(shaped: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """System texts go in front of the next user message, for templates that know no such role."""
    result: list[dict[str, Any]] = []
    pending = ""
    for message in shaped:
        if message["role"] == "system":
            pending = "\n".join(part for part in (pending, message["content"]) if part)
        elif message["role"] == "user" and pending:
            result.append({**message, "content": "\n".join(part for part in (pending, message["content"]) if part)})
            pending = ""
        else:
            result.append(message)
    return [*result, {"role": "user", "content": pending}] if pending else result
