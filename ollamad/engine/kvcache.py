"""Who holds which cell: pure bookkeeping of sequence ids, shared prefixes, and what may be given up.

It mirrors the native cache exactly (one number per cell, counted once however many sequences share it)
and says, as operations, what the native cache has to do. It knows no clock, no context and no request.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass
from typing import TypeAlias

from ollamad.engine.prefix import common_length


@dataclass(frozen=True, slots=True)
class Remove:
    """Forget positions ``[start, end)`` of a sequence (-1: to the end)."""

    sequence_id: int
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Copy:
    """Let *target* share the cells ``[0, end)`` of *source*."""

    source: int
    target: int
    end: int


@dataclass(frozen=True, slots=True)
class Shift:
    """Add *delta* to the positions ``[start, end)``."""

    sequence_id: int
    start: int
    end: int
    delta: int


Operation: TypeAlias = Remove | Copy | Shift

# A cell's weight is the number of finished sequences that hold it, plus this for each running one.
_RUNNING = 1 << 16
_ALL = 1 << 62

#: A kept cell costs every token that is computed beside it a little: llama.cpp's unified cache looks at the mask of
#: each cell up to the highest used one. It earns the time of a prefilled token when it is used again. So it goes when
#: it has cost as much as it may earn, and never costs more than twice what the best foresight would. Measured in
#: CPU time of one thread: shape of Qwen2.5-0.5B 0.5 µs of 7.7 ms, 1 to 15,000 (with 0 and 6,000 kept cells a step
#: of one stream takes 18.5 and 21.5 ms, of eight 108 and 131); demo model 0.11 µs of 0.34 ms, 1 to 3,000 (0.60 ms
#: with 0 kept cells, 0.82 with 2,000). Cells freed below those of a running stream speed up the next ones only.
KEPT_FOR = 8192
#: So few cells are kept until their room is needed: 3 % of a step of Qwen2.5-0.5B.
KEPT_FREELY = 1024


class Holding:
    """The cells of one sequence id. Position i is ``cells[i]`` and holds ``tokens[i]``.

    ``tokens`` may be longer than ``cells``: the rest is not computed yet. Tokens are prefix keys; opaque
    media join later as the hash of their span, once per cell. ``pure`` bounds the positions whose cells were
    computed from exactly the tokens before them: after a shift, later cells remember what was dropped.
    ``used`` is when it was last running or shared, in computed tokens.
    """

    __slots__ = ("cells", "id", "key", "pure", "running", "tokens", "used")

    def __init__(self, sequence_id: int, tokens: list[int], key: str) -> None:
        self.id = sequence_id
        self.tokens = tokens
        self.cells: list[int] = []
        self.key = key
        self.pure = _ALL
        self.running = True
        self.used = 0

    @property
    def reusable(self) -> int:
        """Number of leading positions that another sequence with the same tokens may use."""
        return min(len(self.cells), self.pure)


class KVCache:
    """Cells and sequence ids of one context.

    Holds: a cell is free or held; used plus free cells are ``n_cells``; running sequences are never
    evicted. Operations pile up in ``operations``, in order, and must be done before the next decode.

    Finished sequences are kept until their cells are needed, or until `expire` finds that they cost more than they
    are worth.
    """

    def __init__(
        self,
        n_cells: int,
        n_sequences: int,
        *,
        can_share: bool,
        can_cut: bool,
        can_shift: bool,
        kept_for: int = KEPT_FOR,
        kept_freely: int = KEPT_FREELY,
    ) -> None:
        self.n_cells = n_cells
        self.can_share = can_share
        self.can_cut = can_cut
        self.can_shift = can_shift
        self.operations: list[Operation] = []
        self.used = 0
        self.kept_cells = 0
        self.computed = 0
        self._kept_for = kept_for
        self._kept_freely = kept_freely
        self._ids = list(range(n_sequences))
        self._running: dict[int, Holding] = {}
        self._kept: dict[int, Holding] = {}  # least recently used first
        self._weights: list[int] = []
        self._spare: list[int] = []

    @property
    def free(self) -> int:
        """Cells that nobody holds."""
        return self.n_cells - self.used

    @property
    def has_kept(self) -> bool:
        """Whether there is anything to evict."""
        return bool(self._kept)

    def begin(self, tokens: list[int], key: str) -> Holding:
        """Give a running sequence an id and the longest beginning of *tokens* that is already computed.

        At least one token is left to compute, since its logits are wanted.
        """
        source, length = self.longest(tokens, key)
        if source is None:
            return self._fresh(tokens, key)
        if not source.running and self._may_take(source, length):
            return self._take(source, tokens, length)
        if not self.can_share or self._is_last_resort(source):
            return self._fresh(tokens, key)
        # The source must outlive the search for an id, which may evict the least recently used.
        self._touch(source)
        holding = self._fresh(tokens, key)
        self.operations.append(Copy(source.id, holding.id, length))
        self._hold(holding, source.cells[:length])
        return holding

    def extend(self, holding: Holding, count: int) -> None:
        """*count* more tokens of a running sequence were computed."""
        spare, weights, cells = self._spare, self._weights, holding.cells
        self.used += count
        self.computed += count
        assert self.used <= self.n_cells
        for _ in range(count):
            if spare:
                cell = spare.pop()
                weights[cell] = _RUNNING
            else:
                cell = len(weights)
                weights.append(_RUNNING)
            cells.append(cell)

    def make_room(self, count: int) -> bool:
        """Evict finished sequences, least recently used first, until *count* cells are free."""
        while self.free < count and self._kept:
            self._drop(next(iter(self._kept.values())))
        return self.free >= count

    def expire(self) -> None:
        """Evict what was not used while ``kept_for`` tokens were computed, down to ``kept_freely`` kept cells."""
        while self.kept_cells > self._kept_freely:
            oldest = next(iter(self._kept.values()))
            if self.computed - oldest.used <= self._kept_for:
                return
            self._drop(oldest)

    def evict_all(self) -> None:
        """Evict every finished sequence."""
        for holding in list(self._kept.values()):
            self._drop(holding)

    def take_back(self, holding: Holding, length: int) -> None:
        """Forget the cells of a running sequence from *length* on: they hold guesses that were wrong."""
        self.operations.append(Remove(holding.id, length, -1))
        self._release(holding, length, len(holding.cells))

    def shift(self, holding: Holding, keep: int, discard: int) -> bool:
        """Drop ``[keep, keep + discard)`` and move what follows forward.

        The native shift moves a cell for everyone who holds it. So finished sequences that share a
        cell to be moved are cut back to before it, and where a running one does, nothing moves: what lies
        behind *keep* is forgotten and has to be computed again (False).
        """
        end = len(holding.cells)
        moved = holding.cells[keep + discard :]
        moves = all(self._weights[cell] < 2 * _RUNNING for cell in moved)
        if moves:
            self._release_kept(moved)
            self.operations.append(Remove(holding.id, keep, keep + discard))
            self.operations.append(Shift(holding.id, keep + discard, end, -discard))
            self._release(holding, keep, keep + discard)
        else:
            self.operations.append(Remove(holding.id, keep, -1))
            self._release(holding, keep, end)
        del holding.tokens[keep : keep + discard]
        if moves:
            holding.pure = min(holding.pure, keep)
        return moves

    def finish(self, holding: Holding) -> None:
        """A running sequence ended: keep what may be reused, under its id."""
        del self._running[holding.id]
        self._weigh(holding.cells, 1 - _RUNNING)
        holding.running = False
        holding.used = self.computed
        self._kept[holding.id] = holding
        if not self._cut(holding, holding.reusable):
            return
        del holding.tokens[len(holding.cells) :]
        for other in list(self._kept.values()):
            if other is not holding and _begins(holding, other):
                self._drop(other)  # says nothing that the new one does not

    def drop(self, holding: Holding) -> None:
        """A running or finished sequence is forgotten with all its cells."""
        self._drop(holding)

    def refused(self, sequence_id: int) -> Holding | None:
        """The native cache would not cut this sequence: forget it whole.

        Returns the holding if it is a running one; it is empty then and keeps its id.
        """
        holding = self._running.get(sequence_id)
        if holding is None:
            if sequence_id in self._kept:
                self._drop(self._kept[sequence_id])
            return None
        self.operations.append(Remove(sequence_id, 0, -1))
        self._release(holding, 0, len(holding.cells))
        holding.pure = _ALL
        return holding

    # --- choosing a beginning

    def longest(self, tokens: list[int], key: str) -> tuple[Holding | None, int]:
        """Who holds the longest computed beginning of *tokens*, and how long it is; one token is always left.

        The cells are the index: whoever holds the last cell of a beginning holds all of it, so a beginning that
        many share is compared once. (255 sequences that share ever more of 4,000 tokens: 0.6 ms; comparing each
        of them from its beginning took 127 ms.)
        """
        best: Holding | None = None
        longest = 0
        limit = len(tokens) - 1
        holdings = list(self._kept.values())
        if self.can_share:
            holdings += self._running.values()
        for holding in holdings:
            if holding.key != key:
                continue
            most = min(holding.reusable, limit)
            if most < longest or (most > longest and holding.tokens[longest] != tokens[longest]):
                continue  # cannot be longer than what was found
            same = best is not None and holding.cells[longest - 1] == best.cells[longest - 1]
            length = common_length(holding.tokens, tokens, most, longest if same else 0)
            whole = length == len(holding.cells)
            if not holding.running and not whole and not self.can_cut and not self.can_share:
                continue
            if length > longest or (length == longest and length and whole and not holding.running):
                best, longest = holding, length
        return best, longest

    def _may_take(self, source: Holding, length: int) -> bool:
        """Whether to continue a finished sequence itself, which loses what it holds beyond *length*."""
        if length == len(source.cells):
            return True
        if not self.can_cut:
            return False
        if self.can_share:
            return self._is_last_resort(source)
        # Without sharing a short beginning is not worth a long sequence, as long as there is another id.
        return 2 * length >= len(source.cells) or not self._ids

    def _is_last_resort(self, source: Holding) -> bool:
        """Whether the only way to an id is to give up *source*."""
        return not self._ids and not source.running and len(self._kept) == 1

    def _take(self, source: Holding, tokens: list[int], length: int) -> Holding:
        self._cut(source, length)
        del self._kept[source.id]
        self._weigh(source.cells, _RUNNING - 1)
        source.running = True
        source.pure = _ALL
        source.tokens = tokens
        self._running[source.id] = source
        return source

    def _touch(self, holding: Holding) -> None:
        if not holding.running:
            holding.used = self.computed
            self._kept[holding.id] = self._kept.pop(holding.id)

    def _fresh(self, tokens: list[int], key: str) -> Holding:
        if not self._ids:
            assert self._kept, "more running sequences than sequence ids"
            self._drop(next(iter(self._kept.values())))
        holding = Holding(heapq.heappop(self._ids), tokens, key)
        self._running[holding.id] = holding
        return holding

    # --- cells

    def _cut(self, holding: Holding, length: int) -> bool:
        """Shorten a finished sequence; False if it had to go altogether."""
        if length == len(holding.cells) and length:
            return True
        if length and self.can_cut:
            self.operations.append(Remove(holding.id, length, -1))
            self._release(holding, length, len(holding.cells))
            return True
        self._drop(holding)
        return False

    def _drop(self, holding: Holding) -> None:
        self.operations.append(Remove(holding.id, 0, -1))
        self._release(holding, 0, len(holding.cells))
        del (self._running if holding.running else self._kept)[holding.id]
        heapq.heappush(self._ids, holding.id)

    def _release_kept(self, cells: list[int]) -> None:
        """Cut finished sequences back until none of them holds one of *cells*."""
        weights = self._weights
        shared = {cell for cell in cells if weights[cell] % _RUNNING}
        if not shared:
            return
        for holding in list(self._kept.values()):
            first = next((i for i, cell in enumerate(holding.cells) if cell in shared), None)
            if first is not None and self._cut(holding, first):
                del holding.tokens[first:]

    def _hold(self, holding: Holding, cells: list[int]) -> None:
        """A running sequence shares *cells* with another."""
        self._weigh(cells, _RUNNING)
        holding.cells = cells

    def _release(self, holding: Holding, start: int, end: int) -> None:
        self._weigh(holding.cells[start:end], -(_RUNNING if holding.running else 1))
        del holding.cells[start:end]

    def _weigh(self, cells: list[int], change: int) -> None:
        weights = self._weights
        for cell in cells:
            before = weights[cell]
            after = weights[cell] = before + change
            if not after:
                self._spare.append(cell)
                self.used -= 1
            self.kept_cells += (0 < after < _RUNNING) - (0 < before < _RUNNING)


def _begins(longer: Holding, shorter: Holding) -> bool:
    """Whether all of a finished sequence is the beginning of another; the last token is the cheapest to ask."""
    count = len(shorter.cells)
    return (
        shorter.key == longer.key
        and count <= len(longer.cells)
        and shorter.tokens[-1] == longer.tokens[count - 1]
        and shorter.tokens == longer.tokens[:count]
    )
