"""What a backend plugin implements: `Backend` makes a `Model`, a `Model` makes `Context` objects.

A backend runs inside a runner (or, for `Backend.devices`, inside a probe job), never in
the daemon. It imports its native library inside `devices` and `load` only: importing the
plugin must stay cheap, because the daemon imports it to learn its name.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from ollamad.types import Device, Memory, SamplingParameters
from ollamad.wire.messages import LoadSpec

#: Called while a model loads, with the fraction in [0, 1]. Returning False gives the load up.
LoadProgress = Callable[[float], bool]

ContextKind = Literal["generate", "embed"]


class BackendError(Exception):
    """The native library failed in a way that leaves the runner unusable: it has to exit."""


class ModelRejected(BackendError):
    """The file cannot be loaded by this backend; the same file will fail again."""


class BackendOutOfMemory(BackendError):
    """Loading or making a context needs more memory than there is."""


class KVCacheFull(Exception):
    """`Context.decode` found no cell for a token. The cache is as before the call."""


@dataclass(frozen=True, slots=True)
class ModelDescription:
    """Facts of a loaded model.

    ``architecture`` is ``general.architecture``. ``n_ctx_train`` is tokens, 0 if unknown.
    ``chat_template`` is Jinja text or None. ``bos_text``/``eos_text`` are the texts of those tokens, "" if none.
    """

    architecture: str
    n_vocab: int
    n_ctx_train: int
    n_embd: int
    bos_token: int
    eos_token: int
    adds_bos: bool
    adds_eos: bool
    chat_template: str | None
    bos_text: str = ""
    eos_text: str = ""
    has_encoder: bool = False
    has_decoder: bool = True
    metadata: Mapping[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class Batch:
    """Tokens of one forward pass, as four parallel lists of equal length.

    ``outputs[i]`` says whether row i's logits (or embedding) are wanted.
    """

    tokens: list[int] = field(default_factory=list)
    positions: list[int] = field(default_factory=list)
    sequence_ids: list[int] = field(default_factory=list)
    outputs: list[bool] = field(default_factory=list)

    def add(self, token: int, position: int, sequence_id: int, output: bool) -> int:
        """Append one token and return its row."""
        self.tokens.append(token)
        self.positions.append(position)
        self.sequence_ids.append(sequence_id)
        self.outputs.append(output)
        return len(self.tokens) - 1

    def __len__(self) -> int:
        return len(self.tokens)


class Sampler(ABC):
    """A chain of samplers with a state of its own (recent tokens, random numbers)."""

    @abstractmethod
    def accept(self, tokens: Sequence[int]) -> None:
        """Tell the chain of *tokens* that the sequence holds, in order (for penalties)."""

    def close(self) -> None:
        """Free the chain. Safe to call twice."""
        return


class Context(ABC):
    """KV cache and compute buffers for sequences of one kind over one `Model`.

    Runs in: runner, engine thread. No method may be called from another thread, but `close`
    after the engine thread ended.

    Attributes:
        n_ctx: Cells in total, all sequences together.
        n_batch: Most tokens of one `decode`.
        n_sequences: Sequence ids are in ``[0, n_sequences)``.
        can_share_prefix: `copy` of a partial range between sequences works and costs nothing.
        can_cut: `remove` works at any position. Otherwise only whole sequences can be removed.
        can_shift: `shift` works.
    """

    n_ctx: int
    n_batch: int
    n_sequences: int
    can_share_prefix: bool
    can_cut: bool
    can_shift: bool

    @property
    def n_outputs(self) -> int:
        """Most rows with an output in one `decode`; at least ``n_sequences``, unless ``n_batch`` is less."""
        return min(self.n_sequences, self.n_batch)

    @abstractmethod
    def decode(self, batch: Batch) -> None:
        """Run one forward pass over every token of *batch* (at most ``n_batch``).

        Raises:
            KVCacheFull: No cell for a token; the cache is as before the call.
            BackendError: The native library failed; the runner has to exit.

        Runs in: runner, engine thread. Blocks; cannot be cancelled.
        """

    @abstractmethod
    def sampler(self, parameters: SamplingParameters, grammar: str | None = None) -> Sampler:
        """Return a new chain. Seed -1 means random numbers of its own."""

    @abstractmethod
    def sample(self, picks: Sequence[tuple[Sampler, int]]) -> list[int]:
        """Choose the next token for each ``(sampler, row)`` of the last `decode` and accept it.

        ``row`` is the row that `Batch.add` returned, with ``output`` true. Returns token ids in
        the order of *picks*.
        """

    def verify(self, checks: Sequence[tuple[Sampler, int, Sequence[int]]]) -> list[list[int]]:
        """Choose and accept tokens for each ``(sampler, row, guesses)`` as long as the choices equal the guesses.

        The rows ``[row, row + len(guesses)]`` of the last `decode` are outputs of one sequence; the token of
        row ``row + i + 1`` is ``guesses[i]``. The sampler alone decides: it is asked for row i + 1 only if it chose
        ``guesses[i]`` at row i, so that it never accepts a token that the sequence does not get.

        Returns:
            One list for each check, in order: 1 to ``len(guesses) + 1`` tokens, of which the last is no guess.
        """
        chosen: list[list[int]] = [[] for _ in checks]
        asked = list(range(len(checks)))
        while asked:
            tokens = self.sample([(checks[i][0], checks[i][1] + len(chosen[i])) for i in asked])
            going_on = []
            for i, token in zip(asked, tokens, strict=True):
                guesses, already = checks[i][2], len(chosen[i])
                chosen[i].append(token)
                if already < len(guesses) and token == guesses[already]:
                    going_on.append(i)
            asked = going_on
        return chosen

    @abstractmethod
    def remove(self, sequence_id: int, start: int, end: int) -> bool:
        """Forget positions ``[start, end)`` (-1: to the end) of a sequence; False if the memory cannot."""

    def copy(self, source: int, target: int, start: int, end: int) -> None:
        """Let *target* share the cells of *source* at ``[start, end)``. Only if ``can_share_prefix``."""
        raise BackendError("copy: the context does not declare can_share_prefix")

    def shift(self, sequence_id: int, start: int, end: int, delta: int) -> None:
        """Add *delta* to the positions ``[start, end)``. Only if ``can_shift``."""
        raise BackendError("shift: the context does not declare can_shift")

    @abstractmethod
    def embed(self, sequences: Sequence[Sequence[int]]) -> list[list[float]]:
        """Embed whole inputs (kind ``embed`` only): one raw vector of ``n_embd`` numbers per input.

        The caller keeps the sum of lengths ≤ ``n_batch`` and the number ≤ ``n_sequences``.
        """

    def set_threads(self, decode: int, prefill: int) -> None:
        """Use this many threads from the next `decode` on."""
        return

    @abstractmethod
    def memory(self) -> tuple[Memory, ...]:
        """Bytes this context takes (KV and compute; weights are 0 here)."""

    def close(self) -> None:
        """Free everything. Safe to call twice."""
        return


class Model(ABC):
    """Loaded weights and their vocabulary. Tokenizing may be called from any thread."""

    description: ModelDescription

    @abstractmethod
    def tokenize(self, text: str, *, add_special: bool, parse_special: bool) -> list[int]:
        """Text to token ids; ``add_special`` adds BOS/EOS as the model wants them."""

    @abstractmethod
    def piece(self, token: int, *, special: bool = False) -> bytes:
        """The bytes of one token; control tokens give b"" unless *special*. May be half a character."""

    @abstractmethod
    def detokenize(self, tokens: Sequence[int], *, remove_special: bool = False, unparse_special: bool = True) -> str:
        """Token ids to text, as llama.cpp's detokenizer does it."""

    @abstractmethod
    def is_end(self, token: int) -> bool:
        """Whether *token* ends a generation (EOS, EOT, ...)."""

    @abstractmethod
    def context(self, kind: ContextKind, *, ctx_len: int, slots: int, spec: LoadSpec) -> Context:
        """Make a context for *slots* running sequences of *ctx_len* tokens each.

        ``ctx_len`` and ``slots`` are exact; the backend pads what its library wants padded and may
        offer more sequence ids than slots (for kept sequences).

        Raises:
            BackendOutOfMemory: Not enough memory; nothing is left behind.
        """

    @abstractmethod
    def memory(self) -> tuple[Memory, ...]:
        """Bytes of the weights by device, as loaded."""

    def close(self) -> None:
        """Free the weights. All contexts must be closed before."""
        return


class Backend(ABC):
    """One kind of device that runs models.

    Attributes:
        name: Unique among backends, e.g. ``llama-cpu``; also a legal config key.
        interpreter: Python that runs this backend's runners; None is the daemon's own.
        architectures: ``general.architecture`` of the models that this backend runs and no general one
            can; None for a general backend. A backend that names a model's architecture comes before all
            others for it.
    """

    name: str
    interpreter: str | None = None
    architectures: frozenset[str] | None = None

    @abstractmethod
    def devices(self) -> Sequence[Device]:
        """List the devices of this backend, best first; empty if it is not available here.

        Runs in: a probe job, never in the daemon.
        """

    @abstractmethod
    def load(self, spec: LoadSpec, files: Mapping[str, Path], progress: LoadProgress) -> Model:
        """Load the weights of *spec*; *files* maps each digest in it to a file on this host.

        Raises:
            ModelRejected: The file is unusable.
            BackendOutOfMemory: Not enough memory.

        Runs in: runner, main thread, before any request.
        """
