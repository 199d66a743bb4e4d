"""When guessing ahead pays: what steps cost, what guesses are worth, and how many rows they get.

A guess is a row more in the batch; if the sampler chooses it, the step yields a token more. What a batch of n rows
costs is measured on this machine while it runs (on two AVX2 cores a batch of 3 costs more than one of 4), what a
guess is worth is for its guesser to say. Nothing here knows where guesses come from, and nothing here chooses
tokens.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from collections.abc import Sequence as ReadOnly
from dataclasses import dataclass
from typing import Protocol

from ollamad.engine.sequence import Sequence

#: Most guesses for one sequence in one step.
MOST_GUESSES = 15
#: About how many guesses a step of many sequences may have: choosing among them takes 1 µs for each.
_MOST_TOGETHER = 32
#: By how much a step with guesses has to be expected to be better than one without.
_MARGIN = 1.05
#: A guess that is less likely than this, with all before it, is worth no row on any machine.
_LEAST_CHANCE = 0.05
_REMEMBERED = 5
_TRUSTED = 3  # measurements before a batch length is compared with others
_FRESH_STEPS = 256
#: An unmeasured batch length is assumed to be this much cheaper than its neighbours say, so that it gets measured.
_HOPE = 0.9


@dataclass(frozen=True, slots=True)
class Guess:
    """What a sequence may say next. ``chances[i]``: that ``tokens[i]`` is right if all before it are."""

    tokens: ReadOnly[int] = ()
    chances: ReadOnly[float] = ()


class Guesser(Protocol):
    """A source of guesses: text that repeats itself, or a smaller model.

    Runs in: runner, engine thread. Called while a step is planned; a plan may be dropped, so guessing changes
    nothing that `took` and `forget` do not.
    """

    def guess(self, wanted: ReadOnly[tuple[Sequence, int]]) -> list[Guess]:
        """Guess for each ``(sequence, most)`` up to *most* tokens, never an end-of-generation token."""

    def took(self, sequence: Sequence, token: int) -> None:
        """*token* is what *sequence* said next, guessed or not."""

    def forget(self, sequence: Sequence) -> None:
        """*sequence* has ended. It may never have been asked about."""


class CostCurve:
    """Time of a step by its number of rows, from the steps that were made.

    The lower quartile of the last few times, since a neighbour on the machine makes single steps arbitrarily slow.
    A length that was not used for `_FRESH_STEPS` steps is unknown again: contexts grow, neighbours leave.
    """

    def __init__(self) -> None:
        self._steps = 0
        self._times: dict[int, deque[int]] = {}
        self._usual: dict[int, int] = {}
        self._last: dict[int, int] = {}

    def measured(self, rows: int, elapsed_ns: int) -> None:
        """A step without prompt tokens took this long."""
        self._steps += 1
        times = self._times.get(rows)
        if times is None or self._steps - self._last[rows] > _FRESH_STEPS:
            times = self._times[rows] = deque(maxlen=_REMEMBERED)
        times.append(elapsed_ns)
        self._usual[rows] = sorted(times)[len(times) // 4]
        self._last[rows] = self._steps

    def trusted(self, rows: int) -> bool:
        """Whether a batch of this length was measured often enough to compare others with it."""
        return rows in self._times and len(self._times[rows]) >= _TRUSTED

    def costs(self, base: int, most: int) -> list[float]:
        """Expected times of *base*, *base* + 1, ... *base* + *most* rows, where *base* rows were measured."""
        oldest = self._steps - _FRESH_STEPS
        rows, price = base, float(self._usual[base])
        costs = [price]
        rise = price / (2 * base)
        for known in sorted(n for n, last in self._last.items() if n > base and last >= oldest):
            if len(costs) > most:
                break
            usual, gap = self._usual[known], known - rows
            between = max((usual - price) / gap, 0.0)
            costs += [_HOPE * (price + between * step) for step in range(1, gap)]
            costs.append(usual)
            # A second row may cost as much as the first, and the next six as little as one.
            rise = max(min(costs[0] / (2 * base), (usual - costs[0]) / (known - base)), 0.0)
            rows, price = known, usual
        costs += [_HOPE * (price + rise * step) for step in range(1, most + 2 - len(costs))]
        return costs[: most + 1]


class Speculation:
    """Chooses how many guesses of which sequence go into a step, so that it yields most tokens per second."""

    def __init__(self, guesser: Guesser, curve: CostCurve | None = None, *, repeatable: bool = False) -> None:
        """*repeatable*: guess also for sequences whose text has to be the same again (tests of exactness)."""
        self.guesser = guesser
        self._repeatable = repeatable
        self.curve = curve or CostCurve()
        self.guessed = 0
        self.accepted = 0

    def choose(self, decoding: list[Sequence], room: int) -> list[ReadOnly[int]]:
        """The guesses for each of *decoding*, at most *room* together; an empty list if there are none at all."""
        base = len(decoding)
        if room <= 0 or not self.curve.trusted(base):
            return []
        most = max(min(MOST_GUESSES, _MOST_TOGETHER // base), 1)
        guesses = self.guesser.guess([(sequence, min(self._most(sequence), most)) for sequence in decoding])
        counts = self._share_out([guess.chances for guess in guesses], base, room)
        return [guess.tokens[:count] for guess, count in zip(guesses, counts, strict=True)] if counts else []

    def _most(self, sequence: Sequence) -> int:
        return 0 if sequence.repeatable and not self._repeatable else sequence.most_guesses()

    def _share_out(self, chances: Iterable[ReadOnly[float]], base: int, room: int) -> list[int]:
        """How many guesses each sequence gets: the likeliest first, as long as their step pays."""
        worth: list[tuple[float, int]] = []
        sequences = 0
        for number, each in enumerate(chances):
            sequences += 1
            chance = 1.0
            for conditional in each:
                chance *= conditional
                if chance < _LEAST_CHANCE:
                    break
                worth.append((chance, number))
        if not worth:
            return []
        worth.sort(reverse=True)
        costs = self.curve.costs(base, min(len(worth), room))
        best, best_rate = 0, _MARGIN * base / costs[0]
        expected = float(base)
        for count in range(1, len(costs)):
            expected += worth[count - 1][0]
            rate = expected / costs[count]
            if rate > best_rate:
                best, best_rate = count, rate
        counts = [0] * sequences
        for _, number in worth[:best]:
            counts[number] += 1
        return counts if best else []
