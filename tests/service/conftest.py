"""A library on an empty store, and tiny GGUF files."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from ollamad.plugin import CreateRequest
from ollamad.service.create import Creator
from ollamad.service.demo import DemoLayer
from ollamad.service.library import ModelLibrary
from ollamad.service.resolve import Resolver
from ollamad.state import State
from ollamad.store import FileLock, Store


def gguf(keys: Mapping[str, Any], tensors: Sequence[str] = ()) -> bytes:
    """A GGUF of version 3: whole numbers as uint32, and tensors of 32 float32 each."""
    out = struct.pack("<4sIQQ", b"GGUF", 3, len(tensors), len(keys))
    for key, value in keys.items():
        out += _text(key) + _value(value)
    for index, name in enumerate(tensors):
        out += _text(name) + struct.pack("<IQIQ", 1, 32, 0, index * 128)
    return out if not tensors else out + bytes(-len(out) % 32) + bytes(128 * len(tensors))


def _text(text: str) -> bytes:
    data = text.encode()
    return struct.pack("<Q", len(data)) + data


def _value(value: Any) -> bytes:
    if isinstance(value, bool):
        return struct.pack("<I?", 7, value)
    if isinstance(value, int):
        return struct.pack("<II", 4, value)
    if isinstance(value, float):
        return struct.pack("<If", 6, value)
    if isinstance(value, str):
        return struct.pack("<I", 8) + _text(value)
    return struct.pack("<IIQ", 9, 8, len(value)) + b"".join(map(_text, value))


@dataclass
class Bench:
    """A library with all that is behind it. ``refuse``: what the native check says of every file."""

    root: Path
    store: Store
    state: State
    resolver: Resolver
    library: ModelLibrary
    checked: list[Path] = field(default_factory=list)
    refuse: Exception | None = None

    async def check(self, path: Path) -> None:
        self.checked.append(path)
        if self.refuse is not None:
            raise self.refuse

    async def upload(self, data: bytes) -> str:
        digest = f"sha256:{hashlib.sha256(data).hexdigest()}"

        async def chunks() -> AsyncIterator[bytes]:
            yield data

        await self.library.write_blob(digest, chunks())
        return digest

    async def create(self, name: str, **fields: Any) -> list[str]:
        """Make a model and return its status lines."""
        request = CreateRequest(name=name, **fields)
        return [line.status async for line in self.library.create(request)]

    def blobs(self) -> set[str]:
        """The digests of all files in the store, without prefix."""
        folder = self.root / "models" / "blobs"
        return {path.name.removeprefix("sha256-") for path in folder.iterdir()} if folder.is_dir() else set()

    def manifests(self) -> set[str]:
        folder = self.root / "models" / "manifests"
        return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def make_bench(tmp_path: Path) -> Callable[..., Bench]:
    """Build a bench; ``demo`` turns the demo layer on."""

    def make(*, demo: bool = False, noprune: bool = False, use_go_template: bool | None = None) -> Bench:
        store = Store(tmp_path / "models", lock=FileLock(tmp_path / "state" / "lock"), noprune=noprune)
        state = State(tmp_path / "state")
        layer = DemoLayer(state, enabled=demo)
        resolver = Resolver(store, layer, use_go_template=use_go_template)

        async def check(path: Path) -> None:
            await bench.check(path)

        library = ModelLibrary(store, layer, resolver, Creator(store, layer, resolver, check))
        bench = Bench(tmp_path, store, state, resolver, library)
        return bench

    return make


@pytest.fixture
def bench(make_bench: Callable[..., Bench]) -> Bench:
    """A library on an empty store, without the demo model."""
    return make_bench()


@pytest.fixture(name="gguf")
def gguf_fixture() -> Callable[..., bytes]:
    """The writer of tiny GGUF files."""
    return gguf


@pytest.fixture
async def chat_files(bench: Any, gguf: Callable[..., bytes]) -> dict[str, str]:
    """A small chat model, uploaded."""
    keys = {
        "general.architecture": "llama",
        "general.name": "not shown",
        "general.file_type": 7,
        "llama.context_length": 2048,
        "llama.embedding_length": 256,
        "llama.rope.freq_base": 1e-6,
        "tokenizer.ggml.tokens": ["a", "b"],
        "tokenizer.ggml.merges": [],
        "tokenizer.chat_template": "{{ messages }}",
    }
    tensors = ["blk.10.a.weight", "blk.2.b.weight", "blk.2.a.weight", "token_embd.weight", "output_norm.weight"]
    return {"a.gguf": await bench.upload(gguf(keys, tensors))}
