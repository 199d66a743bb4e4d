"""Reads what a failed load said: is it for lack of memory, and what can the user do about it."""

from __future__ import annotations

from ollamad.errors import LoadFailed, OutOfMemory
from ollamad.types import ResolvedModel

#: Source: runtime contract, out-of-memory text match. Compared without regard to case.
MEMORY_TEXTS = (
    "out of memory",
    "out of device memory",
    "cudamalloc failed",
    "hipmalloc failed",
    "failed to allocate",
    "allocation failed",
    "not enough memory",
    "insufficient memory",
    "vk_error_out_of_device_memory",
    "erroroutofmemory",
)

INCOMPATIBLE = (
    "this model may be incompatible with your version of Ollama. If you previously pulled this model, "
    "try updating it by running `ollama pull {name}`"
)


def is_out_of_memory(error: Exception) -> bool:
    """Whether *error* is about memory, by its type or its words."""
    return isinstance(error, OutOfMemory) or mentions_memory(str(error))


def mentions_memory(text: str) -> bool:
    """Whether a runner's words are about memory."""
    lowered = text.lower()
    return any(words in lowered for words in MEMORY_TEXTS)


def explain_load_failure(error: Exception, model: ResolvedModel) -> Exception:
    """Add what may help to a file that cannot be loaded; every other error as it is."""
    if "failed to load model" in str(error) and "may be incompatible" not in str(error):
        return LoadFailed(f"{error}: {INCOMPATIBLE.format(name=model.short_name)}", permanent=True)
    return error
