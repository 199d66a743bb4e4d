"""One function from the core's errors to answers (http-api contract 2.7, 2.8, 5.4)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from ollamad.plugin import (
    BlobNotFound,
    BodyTooLarge,
    CapabilityMissing,
    CloudDisabled,
    DigestMismatch,
    InvalidRequest,
    ModelFilesMissing,
    ModelNotFound,
    OllamadError,
    QueueFull,
    Reply,
    RequestCancelled,
    RunnerFailed,
    ShuttingDown,
)
from ollamad_ollama_api.encode import error_line
from ollamad_ollama_api.parse import quote

#: How a route names a model that is not there: quoted as it was asked for, in its shortest form, or with advice.
Missing: TypeAlias = Literal["requested", "short", "pull", "copy"]

JSON = "application/json; charset=utf-8"
#: Without the charset: the first record of what would have been a stream.
RECORD = "application/json"


@dataclass(frozen=True, slots=True)
class Words:
    """What a route says differently: ``verb`` for a missing completion (generate, chat), ``missing`` for names."""

    missing: Missing = "requested"
    verb: str = "generate"


def fail(status: int, message: str, content_type: str = JSON) -> Reply:
    """An error answer."""
    return Reply(status, error_line(message)[:-1], content_type)


def translate(error: Exception, words: Words = Words(), content_type: str = JSON) -> Reply:
    """The answer that tells *error*. An error that no room raises on purpose is not translated: it is raised."""
    answer = fail(status_of(error), text_of(error, words), content_type)
    if isinstance(error, QueueFull | ShuttingDown):
        seconds = error.retry_after_s if isinstance(error, QueueFull) else 1
        return Reply(answer.status, answer.body, answer.content_type, {"Retry-After": str(seconds)})
    return answer


def status_of(error: Exception) -> int:
    """The HTTP status of an error before anything was sent."""
    match error:
        case BodyTooLarge():
            return 413
        case RequestCancelled():
            return 499
        case ModelNotFound() | BlobNotFound():
            return 404
        case CloudDisabled():
            return 403
        case InvalidRequest() | CapabilityMissing() | DigestMismatch():
            return 400
        case RunnerFailed(kind="invalid" | "too_long"):
            return 400
        case QueueFull() | ShuttingDown():
            return 503
        case OllamadError():
            return 500
    raise error


def text_of(error: Exception, words: Words = Words()) -> str:
    """The text of an error."""
    match error:
        case BodyTooLarge():
            return "request body too large"
        case ModelFilesMissing():
            return _not_found(error, "pull")
        case ModelNotFound():
            return _not_found(error, words.missing)
        case CapabilityMissing() if "completion" in error.missing:
            return f'"{error.requested}" does not support {words.verb}'
    return str(error)


def _not_found(error: ModelNotFound, missing: Missing) -> str:
    if missing == "short":
        return f"model '{error.short_name}' not found"
    if missing == "requested":
        return f"model '{error.name}' not found"
    tail = ", try pulling it first" if missing == "pull" else ""
    return f"model {quote(error.name)} not found{tail}"
