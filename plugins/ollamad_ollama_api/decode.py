"""The requests of Ollama's API, declared as tables of fields, and read with the errors of Go's decoder.

Source: http-api contract 2.2, 4.1, 7.3, 7.7 and the request tables of section 8.
"""

from __future__ import annotations

import asyncio
import math
from typing import Any

from ollamad.plugin import HttpRequest, InvalidRequest, Message
from ollamad_ollama_api import base64go
from ollamad_ollama_api.durations import FOREVER, LONGEST_NS, BadDuration, parse_duration
from ollamad_ollama_api.fields import (
    Struct,
    Where,
    anything,
    boolean,
    describe,
    integer,
    items,
    mapping,
    raw,
    read,
    text,
    text_mapping,
)
from ollamad_ollama_api.parse import Number, Pairs, SyntaxFault, parse, quote

#: Longer bodies are parsed in a thread: a megabyte takes some 10 ms.
_OFF_LOOP_BYTES = 1 << 20
_LEVELS = ("high", "medium", "low", "max")


def keep_alive(value: Any, where: Where) -> int | None:
    """Nanoseconds; `FOREVER` for a negative duration."""
    if isinstance(value, Number):
        seconds = float(value)
        if math.isinf(seconds):
            where.mismatch(f"number {value}", "float64")
            return None
        if seconds < 0:
            return FOREVER
        return LONGEST_NS if seconds >= LONGEST_NS / 1e9 else int(seconds * 1e9)
    if isinstance(value, str):
        try:
            duration = parse_duration(value)
        except BadDuration as error:
            where.fail(str(error))
            return None
        return FOREVER if duration < 0 else duration
    if isinstance(value, Pairs):
        where.fail("Unsupported type: 'map[string]interface {}'")
        return None
    kind = "[]interface {}" if isinstance(value, list) else "bool"
    where.fail(f"Unsupported type: '{kind}'")
    return None


def think(value: Any, where: Where) -> bool | str | None:
    """A switch or a level."""
    if isinstance(value, bool) or (value in _LEVELS and isinstance(value, str)):
        return value
    choices = '"high", "medium", "low", "max", true, or false'
    if isinstance(value, str) and not isinstance(value, Number):
        where.fail(f"invalid think value: {quote(value)} (must be {choices})")
        return None
    where.fail(f"think must be a boolean or string ({choices})")
    return None


def image(value: Any, where: Where) -> bytes | None:
    """Bytes: base64 text, or (as any Go byte slice) a list of numbers."""
    if isinstance(value, str) and not isinstance(value, Number):
        try:
            return base64go.decode(value)
        except base64go.Corrupt as error:
            where.fail(str(error))
            return None
    if isinstance(value, list) and not isinstance(value, Pairs):
        return bytes(_byte(item, where) for item in value)
    where.mismatch(describe(value), "api.ImageData")
    return None


def _byte(value: Any, where: Where) -> int:
    if isinstance(value, Number) and value.isdigit() and len(value) <= 3 and int(value) <= 255:
        return int(value)
    if value is not None:
        where.mismatch(f"number {value}" if isinstance(value, Number) else describe(value), "uint8")
    return 0


_IMAGES = items(image, "[]api.ImageData", b"")
_TOOL_CALL = Struct(
    "ToolCall",
    {
        "id": text,
        "function": Struct(
            "ToolCallFunction", {"index": integer, "name": text, "arguments": mapping}, "api.ToolCallFunction"
        ),
    },
    "api.ToolCall",
)
_MESSAGE = Struct(
    "Alias",
    {
        "role": text,
        "content": text,
        "thinking": text,
        "images": _IMAGES,
        "tool_calls": items(_TOOL_CALL, "[]api.ToolCall", {}),
        "tool_name": text,
        "tool_call_id": text,
    },
    "api.Alias",
    own=True,
)
_MESSAGES = items(_MESSAGE, "[]api.Message", {})
_TOOL = Struct(
    "Tool",
    {
        "type": text,
        "items": anything,
        "function": Struct("ToolFunction", {"name": text, "description": text, "parameters": raw}, "api.ToolFunction"),
    },
    "api.Tool",
)
_COMMON = {
    "model": text,
    "stream": boolean,
    "format": raw,
    "keep_alive": keep_alive,
    "options": mapping,
    "think": think,
    "truncate": boolean,
    "shift": boolean,
    "logprobs": boolean,
    "top_logprobs": integer,
    "_debug_render_only": boolean,
}

GENERATE = Struct(
    "GenerateRequest",
    {
        **_COMMON,
        "prompt": text,
        "suffix": text,
        "system": text,
        "template": text,
        "context": items(integer, "[]int", 0),
        "raw": boolean,
        "images": _IMAGES,
    },
    "api.GenerateRequest",
)
CHAT = Struct(
    "ChatRequest",
    {**_COMMON, "messages": _MESSAGES, "tools": items(_TOOL, "api.Tools", {})},
    "api.ChatRequest",
)
EMBED = Struct(
    "EmbedRequest",
    {
        "model": text,
        "input": anything,
        "keep_alive": keep_alive,
        "truncate": boolean,
        "dimensions": integer,
        "options": mapping,
    },
    "api.EmbedRequest",
)
EMBEDDINGS = Struct(
    "EmbeddingRequest",
    {"model": text, "prompt": text, "keep_alive": keep_alive, "options": mapping},
    "api.EmbeddingRequest",
)
SHOW = Struct(
    "ShowRequest",
    {"model": text, "system": text, "template": text, "verbose": boolean, "options": mapping, "name": text},
    "api.ShowRequest",
)
COPY = Struct("CopyRequest", {"source": text, "destination": text}, "api.CopyRequest")
DELETE = Struct("DeleteRequest", {"model": text, "name": text}, "api.DeleteRequest")
CREATE = Struct(
    "CreateRequest",
    {
        "model": text,
        "stream": boolean,
        "quantize": text,
        "from": text,
        "remote_host": text,
        "files": text_mapping,
        "adapters": text_mapping,
        "draft_files": text_mapping,
        "draft_quantize": text,
        "template": text,
        "license": anything,
        "system": text,
        "parameters": mapping,
        "messages": _MESSAGES,
        "renderer": text,
        "parser": text,
        "requires": text,
        "info": mapping,
        "name": text,
        "quantization": text,
    },
    "api.CreateRequest",
)


def decode(struct: Struct, body: bytes) -> dict[str, Any]:
    """The fields that a body holds; an absent one, and one that is null, is not in it.

    Raises:
        InvalidRequest: With the text of Go's decoder.
    """
    try:
        found, errors = read(struct, parse(body))
    except SyntaxFault as fault:
        raise InvalidRequest(str(fault)) from None
    except RecursionError:
        raise InvalidRequest("exceeded max depth") from None
    if errors:
        raise InvalidRequest(errors[0])
    return found


async def read_request(struct: Struct, request: HttpRequest) -> dict[str, Any]:
    """Read and decode the body of *request*; a large one off the event loop."""
    body = await request.body()
    if len(body) > _OFF_LOOP_BYTES:
        return await asyncio.to_thread(decode, struct, body)
    return decode(struct, body)


def messages_of(found: dict[str, Any]) -> tuple[Message, ...]:
    """The conversation of a decoded request."""
    return tuple(_message(entry) for entry in found.get("messages", ()))


def _message(entry: dict[str, Any] | None) -> Message:
    entry = entry or {}
    return Message(
        role=entry.get("role", "").lower(),
        content=entry.get("content", ""),
        thinking=entry.get("thinking", ""),
        images=tuple(entry.get("images", ())),
        tool_calls=tuple(_tool_call(call or {}) for call in entry.get("tool_calls", ())),
        tool_name=entry.get("tool_name", ""),
        tool_call_id=entry.get("tool_call_id", ""),
    )


def _tool_call(call: dict[str, Any]) -> dict[str, Any]:
    function = call.get("function", {})
    return {
        "id": call.get("id", ""),
        "function": {
            "index": function.get("index", 0),
            "name": function.get("name", ""),
            "arguments": function.get("arguments", {}),
        },
    }
