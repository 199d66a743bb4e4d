"""POST /api/create (http-api contract 8.12)."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any

from ollamad.plugin import (
    CreateRequest,
    HttpRequest,
    Library,
    OllamadError,
    Reply,
    Route,
    Stream,
    TransferProgress,
    encode_json,
)
from ollamad_ollama_api.common import translated, unavailable
from ollamad_ollama_api.decode import CREATE, messages_of, read_request
from ollamad_ollama_api.encode import error_line, fields, present
from ollamad_ollama_api.errors import RECORD, Words, fail, text_of, translate

_WORDS = Words()
_LATER = ("adapters", "draft_files", "draft_quantize", "remote_host")


class Create:
    """Makes a model."""

    def __init__(self, library: Library) -> None:
        self._library = library

    def routes(self) -> list[Route]:
        return [Route("POST", "/api/create", translated(_WORDS, self.create), "manage")]

    async def create(self, request: HttpRequest) -> Reply | Stream:
        found = await read_request(CREATE, request)
        asked = _asked(found)
        progress = self._library.create(asked)
        _refuse(found)
        if (wrong := _wrong_license(found.get("license"))) is not None:
            return fail(500, f"json: cannot unmarshal {wrong}", RECORD)
        if not found.get("stream", True):
            return await _whole(progress)
        try:
            first = await anext(progress, None)
        except OllamadError as error:
            return translate(error, _WORDS, RECORD)
        return Stream(_lines(first, progress))


def _refuse(found: dict[str, Any]) -> None:
    if found.get("quantize") or found.get("quantization"):
        raise unavailable("quantize")
    for what in _LATER:
        if found.get(what):
            raise unavailable(what, plural=what.endswith("s"))


def _wrong_license(given: Any) -> str | None:
    """What Go says of a value that is neither a text nor a list of texts, from the value's kind on."""
    if given is None or isinstance(given, str):
        return None
    if not isinstance(given, list):
        return f"{_kind(given)} into Go value of type []string"
    wrong = next((item for item in given if not isinstance(item, str | None)), None)
    return None if wrong is None else f"{_kind(wrong)} into Go value of type string"


def _kind(value: Any) -> str:
    return {dict: "object", list: "array", bool: "bool"}.get(type(value), "number")


def _licenses(given: Any) -> tuple[str, ...]:
    if isinstance(given, str):
        return (given,) if given else ()
    return tuple(item or "" for item in given) if isinstance(given, list) and _wrong_license(given) is None else ()


def _asked(found: dict[str, Any]) -> CreateRequest:
    return CreateRequest(
        name=found.get("model") or found.get("name", ""),
        from_name=found.get("from", ""),
        files=found.get("files"),
        adapters=found.get("adapters"),
        draft_files=found.get("draft_files"),
        template=found.get("template", ""),
        system=found.get("system", ""),
        licenses=_licenses(found.get("license")),
        parameters=found.get("parameters", {}),
        messages=messages_of(found),
        renderer=found.get("renderer", ""),
        parser=found.get("parser", ""),
        requires=found.get("requires", ""),
        quantize=found.get("quantize") or found.get("quantization", ""),
        draft_quantize=found.get("draft_quantize", ""),
        remote_host=found.get("remote_host", ""),
        info=found.get("info", {}),
    )


def _line(progress: TransferProgress) -> bytes:
    facts = present(digest=progress.digest, total=progress.total, completed=progress.completed)
    return encode_json(fields(status=progress.status, **facts)).encode()


async def _lines(first: TransferProgress | None, progress: AsyncIterator[TransferProgress]) -> AsyncIterator[bytes]:
    try:
        if first is not None:
            yield _line(first) + b"\n"
        async for step in progress:
            yield _line(step) + b"\n"
    except OllamadError as error:
        yield error_line(text_of(error, _WORDS))
    finally:
        await _close(progress)


async def _whole(progress: AsyncIterator[TransferProgress]) -> Reply:
    last = TransferProgress("")
    try:
        async for step in progress:
            last = step
    except OllamadError as error:
        return translate(error, _WORDS, RECORD)
    return Reply(200, _line(last), RECORD)


async def _close(progress: AsyncIterator[TransferProgress]) -> None:
    """End the work of a client that left: only a closed generator runs its clean-up now."""
    if isinstance(progress, AsyncGenerator):
        await progress.aclose()
