"""How many threads the next step runs with. Pure: it is told what each step took.

More threads are faster until another process wants a core: then the threads of a step wait for the one that lost
its core, after every operation, and one thread less can be many times faster. A very small model is faster on one
thread anyway, because waking the others costs more than they do. Nobody can know either beforehand, so: a step that
costs clearly more than its shape cost lately starts a search downwards, a few steps long; and now and then one step
tries more threads, to notice that the neighbour has left.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from statistics import median
from typing import Literal

#: A step this much slower than usual is suspicious; so many of the last four make a search.
_SLOW = 1.4
_SLOW_STEPS = 3
#: Another count has to be this much faster to be taken, or nothing but noise would move it.
_BETTER = 0.9
#: Steps between two tries of more threads: a neighbour that left is noticed within 200, and a try that takes 5 times
#: as long as a step costs 2.5 %. A shape that comes rarely (prompts) has so many steps of its own between two tries.
_PROBE_STEPS = 160
_PROBE_OWN_STEPS = 16
#: Every so manyth try is one of fewer threads.
_PROBE_DOWN = 4
#: Steps until the next search after one that found nothing, doubled each time up to the last.
_PATIENCE, _PATIENCE_MAX = 20, 160
#: While one shape has just met a neighbour, fewer slow steps are enough for the others.
_ALARM_STEPS, _ALARMED_SLOW_STEPS = 100, 2
#: Steps of this many tokens multiply matrices for long between two meetings of threads: no first search.
_LONG = 16
_PROOF_STEPS = 3
#: A try of more threads that costs no more than this goes on for some steps: the gain may be less than the noise.
_WORTH_A_LOOK, _LOOK_STEPS = 1.3, 5

Why = Literal["first", "slower", "probe"]


@dataclass(frozen=True, slots=True)
class Change:
    """The steps of a shape (its largest number of tokens) go on with another number of threads."""

    tokens: int
    before: int
    after: int
    why: Why


def ladder(most: int) -> tuple[int, ...]:
    """The numbers worth trying, falling: close together near *most*, for one neighbour or two, then halves."""
    near = {most - 2**power for power in range(most.bit_length()) if most - 2**power >= 1}
    halves = {2**power for power in range(most.bit_length()) if 2**power <= most // 2}
    return tuple(sorted({most, 1} | near | halves, reverse=True))


class ThreadRule:
    """Chooses among 1 and ``most`` threads, for steps with prompt tokens among 1 and ``most_prefill``.

    A shape is a range of batch sizes, with or without prompt tokens; each has a number of its own. With
    ``adapts`` false the numbers are always the largest.
    """

    def __init__(self, most: int, most_prefill: int, *, adapts: bool = True) -> None:
        self._most = max(most, 1)
        self._most_prefill = max(most_prefill, 1)
        self._adapts = adapts
        self._shapes: dict[tuple[bool, int], _Shape] = {}
        self._steps = 0
        self._alarm_until = 0
        self._alarmed_by: _Shape | None = None
        self.changes = 0

    def most(self, prefill: bool) -> int:
        """The largest number, for a step whose last bits must not depend on what was measured."""
        return self._most_prefill if prefill else self._most

    def choose(self, tokens: int, prefill: bool) -> int:
        """Threads for a step of *tokens* tokens."""
        most = self.most(prefill)
        if not self._adapts or most == 1:
            return most
        key = (prefill, (tokens - 1).bit_length())
        shape = self._shapes.get(key)
        if shape is None:
            shape = self._shapes[key] = _Shape(most, 2 ** key[1], self._steps)
        return shape.trying or shape.count

    def measured(self, tokens: int, prefill: bool, threads: int, elapsed_ns: int) -> Change | None:
        """A step that `choose` was asked for took this long; a change if its shape goes on with another number."""
        shape = self._shapes.get((prefill, (tokens - 1).bit_length()))
        if shape is None:
            return None
        self._steps += 1
        alarmed = self._steps < self._alarm_until and shape is not self._alarmed_by
        change = shape.measured(threads, elapsed_ns / tokens, self._steps, alarmed)
        if change is None:
            return None
        self.changes += 1
        if change.why == "slower":
            self._alarm_until, self._alarmed_by = self._steps + _ALARM_STEPS, shape
        elif change.why == "probe" and change.after > change.before:
            for other in self._shapes.values():
                other.probe_at = self._steps
        return change


class _Shape:
    """The number of threads of one shape, what steps cost with it lately, and the search in progress.

    ``trying`` is 0, or the number that the next step is to try. A number that seems better is *proved* by a few
    steps before it counts.
    """

    def __init__(self, most: int, tokens: int, now: int) -> None:
        self.count = most
        self.trying = 0
        self.probe_at = now + _PROBE_STEPS
        self._ladder = ladder(most)
        self._tokens = tokens
        self._usual = 0.0
        self._known: dict[int, float] = {}
        self._recent: deque[float] = deque(maxlen=_SLOW_STEPS + 1)
        self._own_steps = 0
        self._probes = 0
        self._patience = 0
        self._search_at = 0
        self._why: Why = "first"
        self._level = 0.0
        self._waiting: list[int] = []
        self._found: dict[int, list[float]] = {}
        self._proving = False

    def measured(self, threads: int, cost: float, now: int, alarmed: bool) -> Change | None:
        """Take the cost of a step with *threads*."""
        if self.trying:
            return self._tried(cost, now) if threads == self.trying else None
        if threads == self.count:
            self._settled(cost, now, alarmed)
        return None

    # --- with the number that counts

    def _settled(self, cost: float, now: int, alarmed: bool) -> None:
        recent = self._recent
        recent.append(cost)
        self._own_steps += 1
        if not self._usual:
            if len(recent) == recent.maxlen:
                self._usual = median(recent)
                if self._tokens <= _LONG:
                    self._begin("first", now, self._usual, [one for one in self._ladder if one < self.count])
            return
        slow = self._usual * _SLOW
        if cost <= slow:
            self._usual += (cost - self._usual) / 8
            self._known[self.count] = self._usual
        slower = [one for one in recent if one > slow]
        if now >= self._search_at and len(slower) >= (_ALARMED_SLOW_STEPS if alarmed else _SLOW_STEPS):
            # The least of them: one step that was slow for a reason of its own must not make others look good.
            self._begin("slower", now, min(slower), [one for one in self._ladder if one < self.count])
        elif now >= self.probe_at and self._own_steps >= _PROBE_OWN_STEPS:
            self._probe(now)

    def _probe(self, now: int) -> None:
        """Try the largest number and the next up; now and then the next down."""
        self._probes += 1
        self._own_steps = 0
        self.probe_at = now + _PROBE_STEPS
        place = self._ladder.index(self.count)
        wanted = [self._ladder[0], self._ladder[place - 1]] if place else []
        if self._probes % _PROBE_DOWN == 0:
            wanted = list(self._ladder[place + 1 : place + 2])
        self._begin("probe", now, self._usual, list(dict.fromkeys(wanted)))

    # --- with another

    def _begin(self, why: Why, now: int, level: float, wanted: list[int]) -> None:
        self._why, self._level, self._waiting = why, level, wanted
        self._found = {}
        self._next(now)

    def _tried(self, cost: float, now: int) -> Change | None:
        costs = self._found.setdefault(self.trying, [])
        costs.append(cost)
        if self._proving:
            needed = _LOOK_STEPS if self._why == "probe" else _PROOF_STEPS
            return self._prove(costs, now) if len(costs) >= needed else None
        if self._why == "probe":
            self._proving = cost <= _WORTH_A_LOOK * self._level
            if not self._proving:
                self._next(now)
            return None
        # Where there is little to try, each number gets a second chance.
        if len(self._ladder) <= 4 and len(costs) < 2 and cost > self._level * _BETTER:
            return None
        best = min(self._found, key=lambda one: min(self._found[one]))
        if self._hopeless(min(costs), min(self._found[best])):
            self._waiting.clear()
        if self._waiting:
            self._next(now)
        elif self._is_better(best, min(self._found[best])):
            self._proving, self.trying = True, best
        else:
            self._give_up(now)
        return None

    def _next(self, now: int) -> None:
        self._proving = False
        if self._waiting:
            self.trying = self._waiting.pop(0)
        else:
            self._give_up(now)

    def _is_better(self, threads: int, cost: float) -> bool:
        """Whether *threads* are to be taken: clearly better, or as good again as before a neighbour came."""
        if self._why == "probe" and threads > self.count and cost <= 1.1 * self._known.get(threads, 0.0):
            return cost <= self._level
        return cost <= _BETTER * self._level

    def _hopeless(self, cost: float, best: float) -> bool:
        """Whether going on downwards cannot help, after a number that cost this much."""
        if self._why == "first":
            return cost > 1.15 * min(best, self._level)
        return cost > 2 * self._level or (best < 0.8 * self._level and cost > 1.1 * best)

    def _prove(self, costs: list[float], now: int) -> Change | None:
        cost = median(costs)
        if not self._is_better(self.trying, cost):
            self._next(now)
            return None
        change = Change(self._tokens, self.count, self.trying, self._why)
        self.count = self.trying
        self._settle(cost, now)
        self._patience = 0
        return change

    def _give_up(self, now: int) -> None:
        """Stay; what steps cost now is what they cost, and the next search waits longer."""
        if self._why == "slower":
            self._patience = min(max(2 * self._patience, _PATIENCE), _PATIENCE_MAX)
            self._search_at = now + self._patience
        self._settle(self._level, now)

    def _settle(self, usual: float, now: int) -> None:
        self.trying = 0
        self._usual = usual
        self._recent.clear()
        self._own_steps = 0
        if self._why != "probe":
            self.probe_at = now + _PROBE_STEPS
