"""What model files say, read once per digest: a blob never changes under its name."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ollamad.gguf import Header, facts, read_header
from ollamad.types import ModelFacts

#: More files than any library has models; an entry is a few hundred bytes and its chat template, which must
#: not be larger than this to be kept.
CACHED_FILES = 1024
CACHED_TEMPLATE_CHARACTERS = 2**18


@dataclass(frozen=True, slots=True)
class ListedFacts:
    """What the model list tells of a file; see `listed_facts` for how it differs from `ModelFacts`."""

    context_length: int = 0
    embedding_length: int = 0
    capabilities: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class FileFacts:
    """One GGUF file. ``projector_type`` and ``has_audio_encoder`` say something of projectors only."""

    facts: ModelFacts
    listed: ListedFacts
    has_audio_encoder: bool = False
    projector_type: str = ""


class FactsCache:
    """Facts of files by digest. Thread-safe; two threads may read one file twice, which is harmless."""

    def __init__(self, limit: int = CACHED_FILES) -> None:
        self._limit = limit
        self._known: OrderedDict[str, FileFacts] = OrderedDict()
        self._lock = threading.Lock()

    def read(self, digest: str, path: Path) -> FileFacts:
        """The facts of the blob *digest*, which lies at *path*.

        Raises:
            InvalidModelFile: Not a usable GGUF.
            OSError: The file cannot be read.
        """
        with self._lock:
            if known := self._known.get(digest):
                self._known.move_to_end(digest)
                return known
        found = file_facts(read_header(path))
        if len(found.facts.chat_template or "") > CACHED_TEMPLATE_CHARACTERS:
            return found
        with self._lock:
            self._known[digest] = found
            while len(self._known) > self._limit:
                self._known.popitem(last=False)
        return found


def file_facts(header: Header) -> FileFacts:
    """Gather what services want to know of a header."""
    return FileFacts(
        facts=facts(header),
        listed=listed_facts(header),
        has_audio_encoder=header.flag("has_audio_encoder"),
        projector_type=header.text("vision.projector_type") or header.text("projector_type"),
    )


def listed_facts(header: Header) -> ListedFacts:
    """Read a header as the model list does: in one pass, where a key before ``general.architecture`` is not known.

    A file whose architecture comes late is listed without lengths and as ``completion`` even if it embeds.
    Source: recorded for a bert file (library/tags).
    """
    own = dict(_own_keys(header))
    capabilities = ["embedding" if "pooling_type" in own else "completion"]
    capabilities += [kind for kind in ("vision", "audio") if f"{kind}.block_count" in own]
    return ListedFacts(_length(own, "context_length"), _length(own, "embedding_length"), tuple(capabilities))


def _own_keys(header: Header) -> Iterator[tuple[str, Any]]:
    prefix = ""
    for key, value in header.metadata.items():
        if key == "general.architecture":
            prefix = f"{value}."
        elif prefix and key.startswith(prefix):
            yield key[len(prefix) :], value


def _length(own: dict[str, Any], key: str) -> int:
    value = own.get(key, 0)
    return value if isinstance(value, int) and not isinstance(value, bool) else 0
