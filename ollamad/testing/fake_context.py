"""A `Context` without a model: exact attention bookkeeping, and tokens that tell what was visible.

The next token is a function of the tokens that a sequence sees, in order, and of the seed. So a cell
that leaks into another sequence, a cut that leaves something behind or a wrong row show in the text.
"""

from __future__ import annotations

import time
import zlib
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from ollamad.plugin.backend import BackendError, Batch, Context, KVCacheFull, Sampler
from ollamad.testing.fake_gates import Gates
from ollamad.testing.fake_options import EOS, FakeOptions
from ollamad.types import Memory, SamplingParameters

_LETTERS = b"etaoinshrdlucmfwypvbgkjqxz      ."
_LEAD = 0xC3  # with a byte in [0xA0, 0xBF]: a letter with an accent


@dataclass(eq=False, slots=True)
class Cell:
    """One position's keys and values. ``history`` is what its computation saw, itself included."""

    token: int
    position: int
    history: int
    owners: set[int] = field(default_factory=set)


@dataclass(frozen=True, slots=True)
class Logits:
    """What a real context would turn into a row of numbers."""

    digest: int
    last: int


def extend_digest(digest: int, token: int) -> int:
    """The digest of a list of tokens with one more."""
    return zlib.crc32(token.to_bytes(4, "little"), digest)


class FakeSampler(Sampler):
    """Chooses a token from `Logits`; any penalty bans every recent token."""

    def __init__(self, parameters: SamplingParameters, options: FakeOptions, ctx_len: int) -> None:
        last = parameters.repeat_last_n
        self.accepted: deque[int] = deque(maxlen=ctx_len if last < 0 else last)
        self.closed = False
        self._options = options
        self._seed = parameters.seed & 0xFFFFFFFF if parameters.temperature > 0 else 0
        self._bans = (
            parameters.repeat_penalty > 1.0 or parameters.presence_penalty > 0 or parameters.frequency_penalty > 0
        )

    def accept(self, tokens: Sequence[int]) -> None:
        self.accepted.extend(tokens)

    def close(self) -> None:
        self.closed = True

    def choose(self, logits: Logits) -> int:
        """The next token. No seed gives random numbers here: a fake repeats itself."""
        if self.closed:
            raise BackendError("a closed sampler was used")
        number = zlib.crc32(self._seed.to_bytes(4, "little"), logits.digest) if self._seed else logits.digest
        if self._options.wide and logits.last == _LEAD:
            return 0xA0 + number % 0x20
        letters = _LETTERS + bytes((_LEAD,)) if self._options.wide else _LETTERS
        every = self._options.end_every
        if every and number % every == 0:
            return EOS
        banned = set(self.accepted) if self._bans else ()
        for step in range(len(letters)):
            token = letters[(number // 64 + step) % len(letters)]
            if token not in banned:
                return token
        return EOS


class FakeContext(Context):
    """Follows the interface to the letter and raises `BackendError` where llama.cpp would break."""

    def __init__(self, options: FakeOptions, gates: Gates, *, n_ctx: int, n_batch: int, n_sequences: int) -> None:
        self.n_ctx = n_ctx
        self.n_batch = n_batch
        self.n_sequences = n_sequences
        self.can_share_prefix = options.can_share
        self.can_cut = options.can_cut
        self.can_shift = options.can_shift
        self.used = 0
        self.steps = 0
        self.closed = False
        self.threads = (0, 0)
        self.refuse_cuts = False  # a context may find out late that it cannot
        self.cells: list[list[Cell]] = [[] for _ in range(n_sequences)]
        self._digests: list[list[int]] = [[] for _ in range(n_sequences)]
        self._logits: dict[int, Logits] = {}
        self._options = options
        self._gates = gates

    def visible(self, sequence_id: int) -> list[int]:
        """The tokens that the next token of a sequence would see."""
        return [cell.token for cell in self.cells[sequence_id]]

    def decode(self, batch: Batch) -> None:
        self._gates.enter("decode")
        self._check(batch)
        if self.used + len(batch) > self.n_ctx:
            raise KVCacheFull
        if self._options.step_us or self._options.token_us:
            time.sleep((self._options.step_us + self._options.token_us * len(batch)) / 1e6)
        self.steps += 1
        self._logits.clear()
        self.used += len(batch)
        rows = zip(batch.tokens, batch.positions, batch.sequence_ids, batch.outputs, strict=True)
        for row, (token, position, sequence_id, output) in enumerate(rows):
            digests = self._digests[sequence_id]
            digest = extend_digest(digests[-1] if digests else self._options.seed, token)
            self.cells[sequence_id].append(Cell(token, position, digest, {sequence_id}))
            digests.append(digest)
            if output:
                self._logits[row] = Logits(digest, token)

    def _check(self, batch: Batch) -> None:
        if self.closed:
            raise BackendError("a closed context was used")
        if not 0 < len(batch) <= self.n_batch:
            raise BackendError(f"a batch of {len(batch)} tokens where 1 to {self.n_batch} are allowed")
        if sum(batch.outputs) > self.n_outputs:
            raise BackendError(f"{sum(batch.outputs)} outputs where at most {self.n_outputs} are allowed")
        ends: dict[int, int] = {}
        for position, sequence_id in zip(batch.positions, batch.sequence_ids, strict=True):
            if not 0 <= sequence_id < self.n_sequences:
                raise BackendError(f"sequence id {sequence_id} is out of range")
            cells = self.cells[sequence_id]
            expected = ends.get(sequence_id, cells[-1].position + 1 if cells else 0)
            if position != expected:
                raise BackendError(f"sequence {sequence_id} continues at {expected}, not {position}")
            ends[sequence_id] = position + 1

    def sampler(self, parameters: SamplingParameters, grammar: str | None = None) -> FakeSampler:
        if grammar == "":
            raise ValueError("failed to parse grammar")
        return FakeSampler(parameters, self._options, self.n_ctx)

    def sample(self, picks: Sequence[tuple[Sampler, int]]) -> list[int]:
        self._gates.enter("sample")
        tokens: list[int] = []
        for sampler, row in picks:
            assert isinstance(sampler, FakeSampler)
            if row not in self._logits:
                raise BackendError(f"row {row} has no logits")
            token = sampler.choose(self._logits[row])
            sampler.accept((token,))
            tokens.append(token)
        return tokens

    def remove(self, sequence_id: int, start: int, end: int) -> bool:
        cells = self.cells[sequence_id]
        last = cells[-1].position if cells else -1
        end = last + 1 if end < 0 else end
        if start > 0 or end <= last:
            if start > last:
                return True
            if not self.can_cut or self.refuse_cuts:
                return False
        gone = [cell for cell in cells if start <= cell.position < end]
        for cell in gone:
            cell.owners.discard(sequence_id)
            self.used -= not cell.owners
        self._settle(sequence_id, [cell for cell in cells if not start <= cell.position < end])
        return True

    def copy(self, source: int, target: int, start: int, end: int) -> None:
        if not self.can_share_prefix:
            raise BackendError("this context shares no cells")
        if self.cells[target]:
            raise BackendError(f"sequence {target} is not empty")
        end = self.n_ctx if end < 0 else end
        shared = [cell for cell in self.cells[source] if start <= cell.position < end]
        for cell in shared:
            cell.owners.add(target)
        self._settle(target, shared)

    def shift(self, sequence_id: int, start: int, end: int, delta: int) -> None:
        if not self.can_shift:
            raise BackendError("this context cannot shift")
        end = self.n_ctx if end < 0 else end
        for cell in self.cells[sequence_id]:
            if start <= cell.position < end:
                cell.position += delta  # for every owner, as llama.cpp does it

    def embed(self, sequences: Sequence[Sequence[int]]) -> list[list[float]]:
        self._gates.enter("embed")
        if sum(map(len, sequences)) > self.n_batch or len(sequences) > self.n_sequences:
            raise BackendError("more inputs than a step holds")
        return [self._vector(tokens) for tokens in sequences]

    def _vector(self, tokens: Sequence[int]) -> list[float]:
        digest = self._options.seed
        for token in tokens:
            digest = extend_digest(digest, token)
        return [(extend_digest(digest, i) % 2001 - 1000) / 1000 for i in range(self._options.n_embd)]

    def set_threads(self, decode: int, prefill: int) -> None:
        self.threads = (decode, prefill)

    def memory(self) -> tuple[Memory, ...]:
        per_cell = self._options.cell_bytes
        return (Memory("fake0", "fake", 0, self.n_ctx * per_cell, self.n_batch * per_cell),)

    def close(self) -> None:
        if not self.closed:
            self._gates.enter("stop")
            self.closed = True

    def _settle(self, sequence_id: int, cells: list[Cell]) -> None:
        """Store a sequence's cells and the digests of what each position sees."""
        digests: list[int] = []
        digest = self._options.seed
        for cell in cells:
            digest = extend_digest(digest, cell.token)
            digests.append(digest)
        self.cells[sequence_id] = cells
        self._digests[sequence_id] = digests
