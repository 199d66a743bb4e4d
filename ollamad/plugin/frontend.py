"""What a frontend plugin implements, and the protocols that services fulfil for it.

A `Frontend` contributes routes (and maybe listeners). A handler gets an `HttpRequest` and
answers a `Reply` or a `Stream`; it never sees the web library, the daemon, or another plugin.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, TypeAlias

from ollamad.types import Event, Memory, Message, ModelConfig, ResolvedModel

#: What a listener or route admits; each includes those before it.
Profile: TypeAlias = Literal["inference", "manage", "admin"]
PROFILES: tuple[Profile, ...] = ("inference", "manage", "admin")


@dataclass(frozen=True, slots=True)
class Principal:
    """Who is asking, as far as the transport proves it. ``uid`` None: nothing is known (TCP)."""

    uid: int | None = None
    gid: int | None = None
    pid: int | None = None
    groups: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class RequestContext:
    """Made once per request in `http/`; ``id`` is in every log line and in the answer's header."""

    id: str
    received_ns: int  # time.monotonic_ns() at arrival
    listener: str
    profile: Profile
    client: str
    principal: Principal = Principal()
    deadline_ns: int | None = None


class HttpRequest(Protocol):
    """One request. ``headers`` has lower-case names; ``params`` are the path's variables, decoded."""

    @property
    def method(self) -> str: ...
    @property
    def path(self) -> str: ...
    @property
    def query(self) -> str: ...
    @property
    def params(self) -> Mapping[str, str]: ...
    @property
    def headers(self) -> Mapping[str, str]: ...
    @property
    def context(self) -> RequestContext: ...

    async def body(self) -> bytes:
        """The whole body. Raises `BodyTooLarge` past the listener's limit."""

    def chunks(self) -> AsyncIterator[bytes]:
        """The body piece by piece, without a limit; for uploads."""


@dataclass(frozen=True, slots=True)
class Reply:
    """A whole answer."""

    status: int = 200
    body: bytes = b""
    content_type: str | None = "application/json; charset=utf-8"
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Stream:
    """An answer that is sent while it is made: each chunk is flushed as it comes.

    ``chunks`` is closed (``aclose``) when the client leaves.
    """

    chunks: AsyncIterator[bytes]
    status: int = 200
    content_type: str = "application/x-ndjson"
    headers: Mapping[str, str] = field(default_factory=dict)


Handler: TypeAlias = Callable[[HttpRequest], Awaitable[Reply | Stream]]


@dataclass(frozen=True, slots=True)
class Route:
    """``path`` may hold ``{name}`` segments: each matches exactly one decoded segment."""

    method: str
    path: str
    handler: Handler
    profile: Profile = "inference"


@dataclass(frozen=True, slots=True)
class Listener:
    """A place to accept connections. Exactly one of ``tcp`` (host, port), ``unix`` (path) and ``fd`` is set.

    ``unix_group`` gets the socket file, and its members may use admin routes; "" is nobody but root and the
    daemon's own user.
    """

    name: str
    profile: Profile
    tcp: tuple[str, int] | None = None
    unix: str | None = None
    fd: int | None = None
    unix_mode: int = 0o660
    unix_group: str = ""


# --- what services offer -----------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class InferenceRequest:
    """A request for text, already translated from a wire format.

    Exactly one of ``messages`` and ``prompt`` is used: ``prompt`` goes to the model unchanged
    when ``raw``, otherwise it becomes a user message after ``messages``. ``options`` is the client's own
    mapping, not yet checked. ``keep_alive_ns`` None: the default; negative: for ever.
    """

    model: ResolvedModel
    messages: tuple[Message, ...] = ()
    prompt: str | None = None
    system: str = ""
    raw: bool = False
    prefix_tokens: tuple[int, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)
    keep_alive_ns: int | None = None
    truncate: bool = True
    shift: bool | None = None
    think: bool | str | None = None


@dataclass(frozen=True, slots=True)
class EmbedRequest:
    """A request for vectors. ``raw``: the older single form, neither cut nor normalised."""

    model: ResolvedModel
    inputs: tuple[str, ...]
    truncate: bool = True
    dimensions: int = 0
    raw: bool = False
    options: Mapping[str, Any] = field(default_factory=dict)
    keep_alive_ns: int | None = None


@dataclass(frozen=True, slots=True)
class EmbedAnswer:
    """One little-endian float32 array per input; ``load_ns`` until the runner was there."""

    vectors: tuple[bytes, ...]
    prompt_tokens: int
    load_ns: int
    total_ns: int


@dataclass(frozen=True, slots=True)
class Rendered:
    """A prompt as the model would get it."""

    prompt: str
    image_count: int = 0


@dataclass(frozen=True, slots=True)
class RunningModel:
    """A loaded model. ``expires_at`` is Unix seconds, None for never."""

    name: str
    digest: str
    config: ModelConfig
    size_bytes: int
    size_vram_bytes: int
    ctx_len: int
    expires_at: float | None
    memory: tuple[Memory, ...] = ()
    slots: int = 1
    busy: int = 0


class Answer(Protocol):
    """A running answer: iterate it for `Piece`s and one last `Finished`; close it to cancel.

    ``load_ns`` is the time until the runner was handed over.
    """

    load_ns: int

    def __aiter__(self) -> AsyncIterator[Event]: ...
    async def aclose(self) -> None: ...


class Inference(Protocol):
    """Run models. Every call may raise the errors named in `ollamad.errors`."""

    async def resolve(self, name: str, *, align_case: bool = True) -> ResolvedModel:
        """Look a name up. Raises: InvalidName, ModelNotFound, CloudDisabled."""

    async def generate(self, context: RequestContext, request: InferenceRequest) -> Answer:
        """Queue, load if needed, and start a completion. Checks capability ``completion``."""

    async def chat(self, context: RequestContext, request: InferenceRequest) -> Answer:
        """Queue, load if needed, and start an answer to ``messages``."""

    async def render(self, context: RequestContext, request: InferenceRequest, *, chat: bool) -> Rendered:
        """The prompt that `generate` or `chat` would use."""

    async def embed(self, context: RequestContext, request: EmbedRequest) -> EmbedAnswer:
        """Embed. Inputs may be empty: then the model is only loaded."""

    async def load(self, context: RequestContext, request: InferenceRequest) -> int:
        """Load a model and return ``load_ns``."""

    async def unload(self, model: ResolvedModel) -> None:
        """Let a model go as soon as it is idle; nothing happens if it is not loaded."""

    def running(self) -> Sequence[RunningModel]:
        """Loaded models, latest expiry first."""


@dataclass(frozen=True, slots=True)
class ListedModel:
    """A row of the model list. ``modified_ns`` is Unix time in nanoseconds."""

    name: str
    digest: str
    size_bytes: int
    modified_ns: int
    config: ModelConfig
    parent_model: str
    context_length: int
    embedding_length: int
    capabilities: tuple[str, ...]
    read_only: bool = False


@dataclass(frozen=True, slots=True)
class ShownModel:
    """Everything `show` tells. ``model_info``, ``tensors`` and ``projector_info`` are JSON-like, in final key order."""

    model: ResolvedModel
    parent_model: str
    quantization_level: str
    licenses: tuple[str, ...]
    modelfile: str
    parameters: str
    template: str
    system: str
    model_info: Mapping[str, Any]
    tensors: Sequence[Mapping[str, Any]]
    projector_info: Mapping[str, Any] | None
    modified_ns: int


@dataclass(frozen=True, slots=True)
class CreateRequest:
    """What `create` needs; names of files map to digests. ``None``: the client did not say."""

    name: str
    from_name: str = ""
    files: Mapping[str, str] | None = None
    adapters: Mapping[str, str] | None = None
    draft_files: Mapping[str, str] | None = None
    template: str = ""
    system: str = ""
    licenses: tuple[str, ...] = ()
    parameters: Mapping[str, Any] = field(default_factory=dict)
    messages: tuple[Message, ...] = ()
    renderer: str = ""
    parser: str = ""
    requires: str = ""
    quantize: str = ""
    draft_quantize: str = ""
    remote_host: str = ""
    info: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class TransferProgress:
    """A line of progress: ``status`` and, for bytes, which blob and how far."""

    status: str
    digest: str = ""
    total: int = 0
    completed: int = 0


class Library(Protocol):
    """Models on disk."""

    async def list(self) -> Sequence[ListedModel]:
        """All models, newest first."""

    async def show(
        self,
        name: str,
        *,
        verbose: bool,
        system: str = "",
        options: Mapping[str, Any] | None = None,
        basename: str = "",
    ) -> ShownModel:
        """Raises: InvalidName, ModelNotFound, CloudDisabled."""

    async def copy(self, source: str, destination: str) -> None:
        """Raises: InvalidName (with the text of the contract), ModelNotFound."""

    async def delete(self, name: str) -> None:
        """Raises: InvalidName, ModelNotFound."""

    async def has_blob(self, digest: str) -> bool:
        """Raises: InvalidRequest("invalid digest format")."""

    async def write_blob(self, digest: str, chunks: AsyncIterator[bytes]) -> bool:
        """Store an upload; True if it was written, False if it was there. Raises: DigestMismatch."""

    def create(self, request: CreateRequest) -> AsyncIterator[TransferProgress]:
        """Make a model; the last line is ``success``.

        What is wrong with the request by itself (file names, digests, the target's name) is raised by the call,
        all else by the iteration: the first kind is never part of a stream.

        Raises:
            InvalidRequest, InvalidName, Unsupported: The request or a file is wrong.
            CreateFailed, StoreError: The files do not allow it, or the disk does not.
        """


class Admin(Protocol):
    """What only listeners of profile ``admin`` offer."""

    async def config_show(self) -> Sequence[Mapping[str, Any]]:
        """One mapping per option: key, value, default, source, detail, applies."""

    async def plugins(self) -> Sequence[Mapping[str, Any]]:
        """One mapping per plugin: name, kind, version, status, reason, distribution."""

    async def status(self) -> Mapping[str, Any]:
        """The daemon: version, pid, uptime, listeners, models, queue, store."""


@dataclass(frozen=True, slots=True)
class Services:
    """What a frontend is given. ``admin`` is None unless the frontend registered an admin route."""

    inference: Inference
    library: Library
    admin: Admin
    version: str
    ollama_version: str


class Frontend(ABC):
    """One API, or one listener."""

    name: str

    @abstractmethod
    def routes(self, services: Services) -> Sequence[Route]:
        """The routes of this frontend; called once, after all services exist."""

    def listeners(self, options: Mapping[str, Any]) -> Sequence[Listener]:
        """Listeners of this frontend; *options* is its own config section, checked."""
        return ()


class BodyTooLarge(Exception):
    """A body past the limit; `http/` answers 413 when a handler lets it through."""
