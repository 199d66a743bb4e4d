"""The vocabulary that all rooms share: frozen values without behaviour.

Nothing here imports another room, knows a wire field name or a digest's file.
Units stand in the names; times are nanoseconds because Ollama's wire has them so.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

if TYPE_CHECKING:
    import asyncio  # 13 ms that `ollamactl` need not pay

#: Starts a long-lived task that a supervisor watches: (coroutine, name) -> task.
Spawn: TypeAlias = Callable[[Coroutine[Any, Any, Any], str], "asyncio.Task[Any]"]

#: The largest signed 64-bit number: "for ever" as a keep-alive in nanoseconds.
FOREVER_NS = 2**63 - 1


@dataclass(frozen=True, slots=True)
class ModelName:
    """``host/namespace/model:tag``; parsed and printed by `ollamad.names`."""

    host: str
    namespace: str
    model: str
    tag: str


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation.

    ``images`` are decoded bytes. ``tool_calls`` are kept as the JSON objects that the
    client sent: ``{"id", "function": {"index", "name", "arguments"}}``.
    """

    role: str
    content: str
    thinking: str = ""
    images: tuple[bytes, ...] = ()
    tool_calls: tuple[Mapping[str, Any], ...] = ()
    tool_name: str = ""
    tool_call_id: str = ""


@dataclass(frozen=True, slots=True)
class SamplingParameters:
    """Per-request parameters with Ollama's defaults.

    Source: runtime options of Ollama (``num_keep`` ... ``stop``).
    """

    num_keep: int = 4
    seed: int = -1
    num_predict: int = -1
    top_k: int = 40
    top_p: float = 0.9
    min_p: float = 0.0
    typical_p: float = 1.0
    repeat_last_n: int = 64
    temperature: float = 0.8
    repeat_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    stop: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class LoadParameters:
    """Parameters that belong to a loaded model; another value means a reload.

    ``num_ctx`` is tokens per slot. ``num_ctx_automatic`` and ``num_batch_automatic`` tell
    that neither the request, the model nor the configuration named the value.
    """

    num_ctx: int = 4096
    num_batch: int = 512
    num_gpu: int = -1
    main_gpu: int | None = None
    use_mmap: bool | None = None
    num_thread: int = 0
    draft_num_predict: int = 0
    num_ctx_automatic: bool = False
    num_batch_automatic: bool = True


@dataclass(frozen=True, slots=True)
class Timings:
    """What a finished request cost. Counts are tokens, durations nanoseconds."""

    prompt_tokens: int = 0
    cached_tokens: int = 0
    prompt_ns: int = 0
    generated_tokens: int = 0
    generate_ns: int = 0


DoneReason: TypeAlias = Literal["stop", "length", "load", "unload"]


@dataclass(frozen=True, slots=True)
class Piece:
    """A piece of an answer. ``kind`` is ``content`` or ``thinking``; text is never empty UTF-8 halves."""

    text: str
    kind: Literal["content", "thinking"] = "content"
    index: int = 0


@dataclass(frozen=True, slots=True)
class Finished:
    """The last event of an answer; nothing follows.

    ``context`` holds the token ids of prompt and answer when the request asked for them.
    ``prompt_cut_tokens`` is how many prompt tokens (or, for messages, ``messages_dropped``)
    did not fit: facts that no peer tells.
    """

    reason: DoneReason
    timings: Timings = field(default_factory=Timings)
    load_ns: int = 0
    context: tuple[int, ...] | None = None
    prompt_cut_tokens: int = 0
    messages_dropped: int = 0
    context_shifts: int = 0


Event: TypeAlias = Piece | Finished


@dataclass(frozen=True, slots=True)
class WeightsRef:
    """A file of a model, named without a path.

    ``source`` says who resolves it: ``store`` (a blob by digest) or ``demo`` (package data).
    """

    digest: str
    size_bytes: int
    source: Literal["store", "demo"] = "store"


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """The config blob of a model. Source: models contract, config blob."""

    model_format: str = ""
    model_family: str = ""
    model_families: tuple[str, ...] | None = None
    model_type: str = ""
    file_type: str = ""
    renderer: str = ""
    parser: str = ""
    requires: str = ""
    remote_host: str = ""
    remote_model: str = ""
    capabilities: tuple[str, ...] = ()
    context_length: int = 0
    embedding_length: int = 0
    base_name: str = ""


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """What the header of a model file says, as far as anyone but `show` needs it.

    ``None`` or 0: the header does not tell. ``chat_template`` is the Jinja text.
    """

    architecture: str = "unknown"
    context_length: int = 0
    embedding_length: int = 0
    block_count: int = 0
    head_count_max: int = 0
    head_count_kv_min: int = 0
    vocab_size: int = 0
    has_pooling: bool = False
    has_vision: bool = False
    has_audio: bool = False
    chat_template: str | None = None
    file_type: str = "unknown"
    parameter_count: int = 0
    size_bytes: int = 0


#: How a model's prompts are made: the GGUF's own Jinja template, a Go template, or none at all.
PromptPath: TypeAlias = Literal["native", "go", "none"]


@dataclass(frozen=True, slots=True)
class ResolvedModel:
    """Everything that a name stands for, looked up once by `service.resolve`."""

    requested: str
    name: ModelName
    short_name: str
    digest: str  # hex SHA-256 of the manifest, no prefix
    weights: tuple[WeightsRef, ...]
    adapters: tuple[WeightsRef, ...] = ()
    projectors: tuple[WeightsRef, ...] = ()
    draft: tuple[WeightsRef, ...] = ()
    config: ModelConfig = ModelConfig()
    facts: ModelFacts = ModelFacts()
    capabilities: tuple[str, ...] = ()
    parameters: Mapping[str, Any] = field(default_factory=dict)
    template: str | None = None
    prompt_path: PromptPath = "none"
    system: str = ""
    messages: tuple[Message, ...] = ()
    source: Literal["store", "demo"] = "store"


@dataclass(frozen=True, slots=True)
class Device:
    """A place where layers can live. ``kind`` is ``cpu``, ``cuda``, ``metal``, ...

    ``backend`` is the name of the backend that listed it; the probe job fills it in.
    """

    id: str
    kind: str
    description: str
    total_bytes: int
    free_bytes: int
    integrated: bool = False
    backend: str = ""


@dataclass(frozen=True, slots=True)
class Placed:
    """One line of a placement: ``layers`` transformer blocks on a device (-1: all that fit)."""

    device_id: str
    kind: str
    layers: int
    bytes: int


Placement: TypeAlias = tuple[Placed, ...]


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes that a loaded model takes on one device, by use."""

    device_id: str
    kind: str
    weights_bytes: int
    kv_bytes: int
    compute_bytes: int
