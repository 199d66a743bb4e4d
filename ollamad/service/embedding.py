"""What a failed embedding means to the caller. Source: runtime contract, embeddings; http contract, embed."""

from __future__ import annotations

from ollamad.errors import OllamadError, PromptTooLong, RunnerFailed
from ollamad.service.answer import translate

TOO_LONG = "the input length exceeds the context length"

#: Runners say in many ways that an input is too long.
TOO_LONG_WORDS = ("too large", "context size", "context length", "physical batch size", "exceeds the available context")


def explain_embedding_failure(error: RunnerFailed) -> OllamadError:
    """Give one text to all ways of being too long; a runner's own failure keeps its words."""
    if error.kind == "internal":
        lowered = str(error).lower()
        return PromptTooLong(TOO_LONG) if any(words in lowered for words in TOO_LONG_WORDS) else error
    return translate(error)
