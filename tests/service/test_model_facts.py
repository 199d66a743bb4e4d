"""Facts of files, kept by digest."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ollamad.errors import InvalidModelFile
from ollamad.gguf import read_header
from ollamad.service.model_facts import FactsCache, ListedFacts, file_facts


def test_a_file_is_read_once(gguf: Callable[..., bytes], tmp_path: Path) -> None:
    """What was read is known after the file is gone, until newer files push it out."""
    cache = FactsCache(limit=2)
    paths = [tmp_path / str(number) for number in range(3)]
    for number, path in enumerate(paths):
        path.write_bytes(gguf({"general.architecture": "llama", "llama.context_length": number + 1}))
        assert cache.read(str(number), path).facts.context_length == number + 1
    for path in paths:
        path.unlink()
    assert [cache.read(str(number), paths[number]).listed.context_length for number in (1, 2)] == [2, 3]
    with pytest.raises(FileNotFoundError):
        cache.read("0", paths[0])


def test_a_bad_file_is_not_remembered(gguf: Callable[..., bytes], tmp_path: Path) -> None:
    """A file that cannot be read is looked at again the next time."""
    path = tmp_path / "a"
    path.write_bytes(b"GGUF")
    cache = FactsCache()
    with pytest.raises(InvalidModelFile):
        cache.read("a", path)
    path.write_bytes(gguf({"general.architecture": "llama"}))
    assert cache.read("a", path).facts.architecture == "llama"


@pytest.mark.parametrize(
    ("keys", "listed"),
    [
        ({"general.architecture": "llama", "llama.context_length": 8}, ListedFacts(8, 0, ("completion",))),
        ({"llama.context_length": 8, "general.architecture": "llama"}, ListedFacts(0, 0, ("completion",))),
        ({"general.architecture": "bert", "bert.pooling_type": 0}, ListedFacts(0, 0, ("embedding",))),
        (
            {"general.architecture": "x", "x.vision.block_count": 1, "x.audio.block_count": 1},
            ListedFacts(0, 0, ("completion", "vision", "audio")),
        ),
        ({"x.context_length": 8}, ListedFacts(0, 0, ("completion",))),
        ({"general.architecture": "x", "x.context_length": "8"}, ListedFacts(0, 0, ("completion",))),
    ],
)
def test_listed(keys: dict[str, Any], listed: ListedFacts, gguf: Callable[..., bytes], tmp_path: Path) -> None:
    """The list knows the keys that come after the architecture, and no value of a wrong type."""
    path = tmp_path / "a"
    path.write_bytes(gguf(keys))
    assert file_facts(read_header(path)).listed == listed
