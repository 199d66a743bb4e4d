"""Services for a frontend under test: one model that answers three words, and a memory of what was asked."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ollamad.errors import BlobNotFound, ModelNotFound
from ollamad.names import parse_name, short
from ollamad.plugin.frontend import (
    CreateRequest,
    EmbedAnswer,
    EmbedRequest,
    InferenceRequest,
    ListedModel,
    Rendered,
    RequestContext,
    RunningModel,
    Services,
    ShownModel,
    TransferProgress,
)
from ollamad.types import Event, Finished, ModelConfig, Piece, ResolvedModel, Timings

WORDS = ("one ", "two ", "three")
DIGEST = "d" * 64
CONFIG = ModelConfig("gguf", "fake", ("fake",), "1M", "F32")


class FakeAnswer:
    """Three pieces and the end; ``closed`` once it was closed."""

    load_ns = 1

    def __init__(self) -> None:
        self.closed = False

    async def __aiter__(self) -> AsyncIterator[Event]:
        for word in WORDS:
            yield Piece(word)
        yield Finished("stop", Timings(2, 0, 1, len(WORDS), 1), 1, context=(1, 2))

    async def aclose(self) -> None:
        self.closed = True


@dataclass
class FakeServices:
    """Fulfils `Inference`, `Library` and `Admin` at once; knows the names in ``models``.

    ``calls`` names every method that was called, ``answers`` holds every answer that was begun.
    """

    models: frozenset[str] = frozenset({"m"})
    calls: list[str] = field(default_factory=list)
    answers: list[FakeAnswer] = field(default_factory=list)
    blobs: dict[str, bytes] = field(default_factory=dict)

    def services(self) -> Services:
        """What a frontend is given."""
        return Services(self, self, self, "0.0.0", "0.0.0")

    def _known(self, call: str, name: str) -> ResolvedModel:
        self.calls.append(call)
        parsed = parse_name(name)
        if name.partition(":")[0] not in self.models:
            raise ModelNotFound(name, short(parsed))
        abilities = ("completion", "embedding", "tools", "thinking")
        return ResolvedModel(name, parsed, short(parsed), DIGEST, (), config=CONFIG, capabilities=abilities)

    # --- inference

    async def resolve(self, name: str, *, align_case: bool = True) -> ResolvedModel:
        return self._known("resolve", name)

    def _answer(self, call: str) -> FakeAnswer:
        self.calls.append(call)
        self.answers.append(FakeAnswer())
        return self.answers[-1]

    async def generate(self, context: RequestContext, request: InferenceRequest) -> FakeAnswer:
        return self._answer("generate")

    async def chat(self, context: RequestContext, request: InferenceRequest) -> FakeAnswer:
        return self._answer("chat")

    async def render(self, context: RequestContext, request: InferenceRequest, *, chat: bool) -> Rendered:
        self.calls.append("render")
        return Rendered(request.prompt or "")

    async def embed(self, context: RequestContext, request: EmbedRequest) -> EmbedAnswer:
        self.calls.append("embed")
        return EmbedAnswer((struct.pack("<2f", 0.5, -0.5),) * len(request.inputs), 1, 1, 2)

    async def load(self, context: RequestContext, request: InferenceRequest) -> int:
        self.calls.append("load")
        return 1

    async def unload(self, model: ResolvedModel) -> None:
        self.calls.append("unload")

    def running(self) -> Sequence[RunningModel]:
        self.calls.append("running")
        return [RunningModel(f"{name}:latest", DIGEST, CONFIG, 1, 0, 64, None) for name in sorted(self.models)]

    # --- library

    async def list(self) -> Sequence[ListedModel]:
        self.calls.append("list")
        return [
            ListedModel(f"{name}:latest", DIGEST, 1, 0, CONFIG, "", 64, 2, ("completion",))
            for name in sorted(self.models)
        ]

    async def show(
        self,
        name: str,
        *,
        verbose: bool,
        system: str = "",
        options: Mapping[str, Any] | None = None,
        basename: str = "",
    ) -> ShownModel:
        model = self._known("show", name)
        return ShownModel(model, "", "F32", (), "# Modelfile", "", "", system, {}, (), None, 0)

    async def copy(self, source: str, destination: str) -> None:
        self._known("copy", source)

    async def delete(self, name: str) -> None:
        self._known("delete", name)

    async def has_blob(self, digest: str) -> bool:
        self.calls.append("has_blob")
        return digest in self.blobs

    async def write_blob(self, digest: str, chunks: AsyncIterator[bytes]) -> bool:
        self.calls.append("write_blob")
        content = b"".join([chunk async for chunk in chunks])
        self.blobs["sha256:" + hashlib.sha256(content).hexdigest()] = content
        return True

    async def create(self, request: CreateRequest) -> AsyncIterator[TransferProgress]:
        self.calls.append("create")
        if request.from_name:
            self._known("create", request.from_name)
        for digest in (request.files or {}).values():
            if digest not in self.blobs:
                raise BlobNotFound(digest)
        yield TransferProgress("success")

    # --- admin

    async def config_show(self) -> Sequence[Mapping[str, Any]]:
        self.calls.append("config_show")
        return []

    async def plugins(self) -> Sequence[Mapping[str, Any]]:
        self.calls.append("plugins")
        return []

    async def status(self) -> Mapping[str, Any]:
        self.calls.append("status")
        return {"version": "0.0.0"}
