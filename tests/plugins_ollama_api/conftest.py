"""The API over a real socket, on services that tell what they were asked."""

import asyncio
import json
import struct
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
from ollamad_ollama_api import OllamaApi

from ollamad.http import HttpServer, HttpSettings, RouteTable
from ollamad.plugin import (
    DigestMismatch,
    EmbedAnswer,
    EmbedRequest,
    Event,
    Finished,
    InferenceRequest,
    InvalidName,
    InvalidRequest,
    ListedModel,
    Listener,
    Message,
    ModelConfig,
    ModelNotFound,
    Piece,
    Rendered,
    RequestContext,
    ResolvedModel,
    RunningModel,
    Services,
    ShownModel,
    Timings,
    TransferProgress,
)
from ollamad.types import ModelName

CONFIG = ModelConfig("gguf", "qwen3", ("qwen3",), "4.07M", "Q8_0")
FINISHED = Finished("stop", Timings(14, 3, 1200, 3, 1800), 500, context=(1, 2, 3))


def model(name: str, *capabilities: str) -> ResolvedModel:
    return ResolvedModel(
        requested=name,
        name=ModelName("registry.ollama.ai", "library", name, "latest"),
        short_name=f"{name}:latest",
        digest="d" * 64,
        weights=(),
        config=CONFIG,
        capabilities=capabilities or ("completion", "tools", "thinking"),
        messages=(Message("user", "stored"),),
    )


MODELS = {
    "m": model("m"),
    "plain": model("plain", "completion"),
    "bert": model("bert", "embedding"),
}


class FakeAnswer:
    """Events from a list; an exception in it is raised. ``gate`` holds the second event back."""

    load_ns = 500

    def __init__(self, events: Sequence[Event | Exception], gate: asyncio.Event | None) -> None:
        self.events = events
        self.gate = gate
        self.closed = asyncio.Event()

    async def __aiter__(self) -> AsyncIterator[Event]:
        for index, event in enumerate(self.events):
            if index == 1 and self.gate is not None:
                await self.gate.wait()
            if isinstance(event, Exception):
                raise event
            yield event

    async def aclose(self) -> None:
        self.closed.set()


@dataclass
class FakeInference:
    """Answers from ``events``; ``calls`` holds what was asked."""

    events: list[Event | Exception] = field(default_factory=lambda: [Piece("po"), Piece("ng"), FINISHED])
    gate: asyncio.Event | None = None
    failure: Exception | None = None
    vectors: list[bytes] = field(default_factory=lambda: [struct.pack("<3f", 0.1, -1.0, 1e-7)])
    calls: list[tuple[str, Any]] = field(default_factory=list)
    answers: list[FakeAnswer] = field(default_factory=list)
    loaded: list[RunningModel] = field(default_factory=list)

    async def resolve(self, name: str, *, align_case: bool = True) -> ResolvedModel:
        self.calls.append(("resolve", (name, align_case)))
        if name.startswith("-"):
            raise InvalidName(name)
        if name not in MODELS:
            raise ModelNotFound(name, f"{name}:latest")
        return MODELS[name]

    def _begin(self, what: str, request: Any) -> None:
        self.calls.append((what, request))
        if self.failure is not None:
            raise self.failure

    async def generate(self, context: RequestContext, request: InferenceRequest) -> FakeAnswer:
        self._begin("generate", request)
        self.answers.append(FakeAnswer(self.events, self.gate))
        return self.answers[-1]

    async def chat(self, context: RequestContext, request: InferenceRequest) -> FakeAnswer:
        self._begin("chat", request)
        self.answers.append(FakeAnswer(self.events, self.gate))
        return self.answers[-1]

    async def render(self, context: RequestContext, request: InferenceRequest, *, chat: bool) -> Rendered:
        self._begin("render", (request, chat))
        return Rendered("<rendered>")

    async def embed(self, context: RequestContext, request: EmbedRequest) -> EmbedAnswer:
        self._begin("embed", request)
        return EmbedAnswer(tuple(self.vectors), 4, 500, 900)

    async def load(self, context: RequestContext, request: InferenceRequest) -> int:
        self._begin("load", request)
        return 500

    async def unload(self, model: ResolvedModel) -> None:
        self.calls.append(("unload", model.requested))

    def running(self) -> Sequence[RunningModel]:
        return self.loaded


@dataclass
class FakeLibrary:
    """Models that are not there, blobs in a dict."""

    calls: list[tuple[str, Any]] = field(default_factory=list)
    blobs: dict[str, bytes] = field(default_factory=dict)
    listed: list[ListedModel] = field(default_factory=list)
    failure: Exception | None = None
    steps: list[TransferProgress | Exception] = field(default_factory=lambda: [TransferProgress("success")])

    def _fail(self) -> None:
        if self.failure is not None:
            raise self.failure

    async def list(self) -> Sequence[ListedModel]:
        self._fail()
        return self.listed

    async def show(self, name: str, **options: Any) -> ShownModel:
        self.calls.append(("show", (name, options)))
        if name not in MODELS:
            raise ModelNotFound(name, f"{name}:latest")
        return ShownModel(
            model=MODELS[name],
            parent_model="",
            quantization_level="Q8_0",
            licenses=("MIT", "Apache-2.0"),
            modelfile="# Modelfile",
            parameters="",
            template="{{ .Prompt }}",
            system="",
            model_info={"general.architecture": "qwen3", "eps": 1e-6, "tokens": None},
            tensors=({"name": "t", "type": "F32", "shape": [1, 2]},),
            projector_info=None,
            modified_ns=1_795_515_838_844_882_367,
        )

    async def copy(self, source: str, destination: str) -> None:
        self.calls.append(("copy", (source, destination)))
        self._fail()

    async def delete(self, name: str) -> None:
        self.calls.append(("delete", name))
        self._fail()

    async def has_blob(self, digest: str) -> bool:
        if not digest.startswith("sha256:"):
            raise InvalidRequest("invalid digest format")
        return digest in self.blobs

    async def write_blob(self, digest: str, chunks: AsyncIterator[bytes]) -> bool:
        if await self.has_blob(digest):
            return False
        content = b"".join([chunk async for chunk in chunks])
        if content == b"other":
            raise DigestMismatch(digest, "sha256:0")
        self.blobs[digest] = content
        return True

    def create(self, request: Any) -> AsyncIterator[TransferProgress]:
        self.calls.append(("create", request))
        self._fail()
        return self._create()

    async def _create(self) -> AsyncIterator[TransferProgress]:
        for step in self.steps:
            if isinstance(step, Exception):
                raise step
            yield step


@dataclass
class Answered:
    """One answer, taken apart."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def lines(self) -> list[Any]:
        return [json.loads(line) for line in self.body.splitlines()]

    @property
    def kind(self) -> str:
        return self.headers.get("content-type", "")


@dataclass
class Api:
    """The API on a socket and the services behind it."""

    port: int
    inference: FakeInference
    library: FakeLibrary

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection("127.0.0.1", self.port)

    async def send(self, method: str, path: str, body: Any = None, **headers: str) -> Answered:
        """One request on a connection of its own; a body that is no bytes is sent as JSON."""
        content = b"" if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
        lines = [f"{method} {path} HTTP/1.0", "Host: localhost", f"Content-Length: {len(content)}"]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        reader, writer = await self.connect()
        writer.write("\r\n".join([*lines, "", ""]).encode() + content)
        async with asyncio.timeout(5):
            answer = await reader.read()
        writer.close()
        head, _, rest = answer.partition(b"\r\n\r\n")
        status, *fields = head.decode().split("\r\n")
        found = {name.lower(): value for name, _, value in (line.partition(": ") for line in fields)}
        return Answered(int(status.split(" ")[1]), found, rest)

    async def post(self, path: str, body: Any = None, **headers: str) -> Answered:
        return await self.send("POST", path, body, **headers)


class NoAdmin:
    """This API asks nothing of it."""

    async def config_show(self) -> Any:
        raise AssertionError

    async def plugins(self) -> Any:
        raise AssertionError

    async def status(self) -> Any:
        raise AssertionError


@pytest.fixture
async def api() -> AsyncIterator[Api]:
    """A running API."""
    inference, library = FakeInference(), FakeLibrary()
    table = RouteTable()
    table.add("ollama-api", OllamaApi().routes(Services(inference, library, NoAdmin(), "0.1.0", "0.32.1")))
    loop = asyncio.get_running_loop()
    server = HttpServer(
        table, HttpSettings(), access_log=lambda record: None, spawn=lambda work, name: loop.create_task(work)
    )
    bound = await server.start([Listener("default", "manage", tcp=("127.0.0.1", 0))])
    yield Api(int(bound[0].address[1]), inference, library)
    await server.stop()
