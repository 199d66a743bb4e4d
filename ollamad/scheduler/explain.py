"""Reads what a failed load said: is it for lack of memory, and what can the user do about it."""

from __future__ import annotations

from ollamad.children import last_words
from ollamad.errors import LoadFailed, OutOfMemory
from ollamad.types import ResolvedModel

INCOMPATIBLE = (
    "this model may be incompatible with your version of Ollama. If you previously pulled this model, "
    "try updating it by running `ollama pull {name}`"
)


def is_out_of_memory(error: Exception) -> bool:
    """Whether *error* is about memory, by its type or its words."""
    return isinstance(error, OutOfMemory) or last_words.is_out_of_memory(str(error))


def explain_load_failure(error: Exception, model: ResolvedModel) -> Exception:
    """Add what may help to a file that cannot be loaded; every other error as it is."""
    if "failed to load model" in str(error) and "may be incompatible" not in str(error):
        return LoadFailed(f"{error}: {INCOMPATIBLE.format(name=model.short_name)}", permanent=True)
    return error
