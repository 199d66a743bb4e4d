"""Messages between the daemon and its children: frozen dataclasses, named for what they ask.

Down: `Load Submit Cancel Ping Stop`. Up: `Ready Progress Delta Done Failed Pong`. No message
holds a path of the daemon's host, a descriptor or code: weights are named by digest and source,
so that a runner may live on another host. How they become bytes is `wire.framing`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from ollamad.types import Memory, Message, Placed, SamplingParameters, Timings, WeightsRef

#: Raised by one whenever a message changes shape; both sides must agree (see `Hello`).
PROTOCOL_VERSION = 1


@dataclass(frozen=True, slots=True)
class Hello:
    """First message in each direction. The versions must be equal."""

    version: int
    pid: int = 0


@dataclass(frozen=True, slots=True)
class LoadSpec:
    """All that decides how a model is loaded.

    ``weights`` are shards in order. ``ctx_len`` is tokens per slot. ``kv_type`` is ``f16``, ``q8_0`` or
    ``q4_0``. ``threads`` 0 lets the runner choose, and ``adapt_threads`` lets it use fewer
    where that is faster. ``flash_attention`` None lets the backend choose.
    ``speculate`` lets the engine guess where text repeats itself; the sampler chooses every token either way.
    """

    backend: str
    weights: tuple[WeightsRef, ...]
    adapters: tuple[WeightsRef, ...] = ()
    projectors: tuple[WeightsRef, ...] = ()
    draft: tuple[WeightsRef, ...] = ()
    placement: tuple[Placed, ...] = ()
    ctx_len: int = 4096
    slots: int = 1
    n_batch: int = 512
    kv_type: str = "f16"
    flash_attention: bool | None = None
    use_mmap: bool | None = None
    main_gpu: int | None = None
    threads: int = 0
    threads_batch: int = 0
    adapt_threads: bool = True
    step_ms: int = 200
    embedding: bool = False
    context_shift: bool = True
    vocab_only: bool = False
    speculate: bool = True


@dataclass(frozen=True, slots=True)
class Load:
    """Load this model; answered by `Progress`es and one `Ready` or `Failed` with request id ""."""

    spec: LoadSpec


@dataclass(frozen=True, slots=True)
class Generate:
    """Continue a prompt.

    ``prompt`` is sent as it is when ``messages`` is empty (raw, or rendered by the daemon); otherwise
    ``messages`` go through the model's own template (chat template text "" means the GGUF's, and ChatML
    when that has none). ``prefix_tokens`` (the ``context`` of an earlier answer) are turned back to
    text and put in front of the rendered prompt. ``wants_context`` asks for token ids in `Done`.
    """

    prompt: str = ""
    messages: tuple[Message, ...] = ()
    prefix_tokens: tuple[int, ...] = ()
    parameters: SamplingParameters = SamplingParameters()
    truncate: bool = True
    shift: bool = True
    think: bool | str | None = None
    wants_context: bool = False
    num_ctx: int = 0
    grammar: str | None = None


@dataclass(frozen=True, slots=True)
class Chat:
    """Answer a conversation through the model's own template; fields as in `Generate`."""

    messages: tuple[Message, ...]
    parameters: SamplingParameters = SamplingParameters()
    truncate: bool = True
    shift: bool = True
    think: bool | str | None = None
    num_ctx: int = 0
    grammar: str | None = None


@dataclass(frozen=True, slots=True)
class Embed:
    """Embed texts.

    With ``truncate`` an input longer than the limit is cut, else it is refused. ``normalize`` and
    ``dimensions`` (0: all) shape the vectors. ``raw`` is the older single form: no cut, no normalising.
    """

    inputs: tuple[str, ...]
    truncate: bool = True
    normalize: bool = True
    dimensions: int = 0
    num_ctx: int = 0
    n_batch: int = 0


@dataclass(frozen=True, slots=True)
class Tokenize:
    """Text to token ids."""

    text: str
    add_special: bool = True
    parse_special: bool = True


@dataclass(frozen=True, slots=True)
class Detokenize:
    """Token ids to text."""

    tokens: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Count:
    """Number of tokens of a text or, rendered, of messages."""

    text: str = ""
    messages: tuple[Message, ...] = ()


@dataclass(frozen=True, slots=True)
class Render:
    """The prompt that `Generate` or `Chat` would use, after fitting, without running it."""

    task: Generate | Chat


@dataclass(frozen=True, slots=True)
class Rerank:
    """Reserved: answered `Failed("unknown_task")`."""

    query: str
    documents: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Save:
    """Reserved: answered `Failed("unknown_task")`."""

    name: str


@dataclass(frozen=True, slots=True)
class Restore:
    """Reserved: answered `Failed("unknown_task")`."""

    name: str


Task: TypeAlias = Generate | Chat | Embed | Rerank | Tokenize | Detokenize | Render | Count | Save | Restore


@dataclass(frozen=True, slots=True)
class Submit:
    """Run one task. ``request_id`` is the daemon's request id, unique among running requests."""

    request_id: str
    task: Task
    client: str = ""


@dataclass(frozen=True, slots=True)
class Cancel:
    """Stop a request; the runner answers `Failed("cancelled")` unless it had already ended."""

    request_id: str


@dataclass(frozen=True, slots=True)
class Pause:
    """Stop decoding for a request whose reader is slow (``paused`` false: go on)."""

    request_id: str
    paused: bool


@dataclass(frozen=True, slots=True)
class Ping:
    """Answered at once by `Pong` with the same number."""

    number: int


@dataclass(frozen=True, slots=True)
class Stop:
    """End: finish nothing, free everything, exit 0."""


@dataclass(frozen=True, slots=True)
class Ready:
    """The model is loaded. ``memory`` is bytes as loaded; ``ctx_len`` is tokens per slot as granted."""

    memory: tuple[Memory, ...]
    ctx_len: int
    slots: int
    n_batch: int
    n_ctx_train: int
    n_vocab: int
    n_embd: int
    has_chat_template: bool
    adds_bos: bool
    adds_eos: bool
    threads: int = 0
    load_ns: int = 0


@dataclass(frozen=True, slots=True)
class Progress:
    """A load goes on; ``fraction`` in [0, 1]."""

    fraction: float
    text: str = ""


@dataclass(frozen=True, slots=True)
class Delta:
    """A typed piece of an answer."""

    request_id: str
    text: str
    kind: Literal["content", "thinking"] = "content"
    index: int = 0


@dataclass(frozen=True, slots=True)
class Done:
    """A task ended well; nothing follows for its id.

    ``vectors`` (Embed) holds one little-endian float32 array per input; ``tokens`` is the answer of
    Tokenize, or prompt and answer of a Generate that asked (``wants_context``); ``text`` of Detokenize
    and Render; ``count`` of Count, and the sum of prompt tokens of an Embed.
    """

    request_id: str
    index: int = 0
    reason: Literal["stop", "length", "done"] = "done"
    timings: Timings = field(default_factory=Timings)
    tokens: tuple[int, ...] = ()
    text: str = ""
    count: int = 0
    vectors: tuple[bytes, ...] = ()
    prompt_cut_tokens: int = 0
    messages_dropped: int = 0
    context_shifts: int = 0


#: Why a task or load failed. invalid: the input (400). too_long: the prompt does not fit (400).
#: template: the template failed (500). unknown_task. cancelled. rejected: unusable file. memory. internal.
FailedKind: TypeAlias = Literal[
    "invalid", "too_long", "template", "unknown_task", "cancelled", "rejected", "memory", "slow_reader", "internal"
]


@dataclass(frozen=True, slots=True)
class Failed:
    """A task (or, with id "", the load) ended badly; nothing follows for its id."""

    request_id: str
    kind: FailedKind
    message: str


@dataclass(frozen=True, slots=True)
class Pong:
    """Counters of the runner since its start. ``step`` is the engine's step number.

    ``accepted_tokens`` of the ``guessed_tokens`` were right; they count as decoded too.
    ``threads`` are those of the last step, ``thread_changes`` counts how often another number was settled on.
    """

    number: int
    step: int = 0
    prefilled_tokens: int = 0
    reused_tokens: int = 0
    decoded_tokens: int = 0
    batch_tokens: int = 0
    cells_used: int = 0
    cells_kept: int = 0
    cells_total: int = 0
    sampling_ns: int = 0
    running: int = 0
    waiting: int = 0
    guessed_tokens: int = 0
    accepted_tokens: int = 0
    threads: int = 0
    thread_changes: int = 0


Down: TypeAlias = Hello | Load | Submit | Cancel | Pause | Ping | Stop
Up: TypeAlias = Hello | Ready | Progress | Delta | Done | Failed | Pong
