"""Numbers that anyone may count, and their text form for Prometheus.

A number's name, help and labels are declared once where it is counted, at module level:
``_DEATHS = counter("ollamad_runner_deaths_total", "Runners that ended unasked.", "cause")``. What a
number means to a policy is not known here.
"""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections.abc import Sequence
from typing import TypeVar

#: Seconds; from an answer out of memory to a long load.
DEFAULT_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)

Labels = tuple[str, ...]


class Metric:
    """A named family of numbers, one per combination of label values. Safe from any thread."""

    kind = "untyped"

    def __init__(self, name: str, help: str, labels: Sequence[str] = ()) -> None:
        self.name = name
        self.help = help
        self.labels = tuple(labels)
        self._lock = threading.Lock()

    def render(self) -> list[str]:
        """Lines of the text format, with its two comment lines first."""
        return [f"# HELP {self.name} {_escape_help(self.help)}", f"# TYPE {self.name} {self.kind}", *self._samples()]

    def _samples(self) -> list[str]:
        raise NotImplementedError

    def _key(self, labels: tuple[str, ...]) -> Labels:
        assert len(labels) == len(self.labels), f"{self.name} has the labels {self.labels}"
        return labels

    def _line(self, key: Labels, value: float, *, suffix: str = "", bound: str | None = None) -> str:
        pairs = [*zip(self.labels, key, strict=True), *([("le", bound)] if bound is not None else [])]
        text = ",".join(f'{name}="{_escape(label)}"' for name, label in pairs)
        return f"{self.name}{suffix}{{{text}}} {_number(value)}" if pairs else f"{self.name}{suffix} {_number(value)}"


class _Single(Metric):
    """A metric with one number per combination; without labels it exists from the start, as 0."""

    def __init__(self, name: str, help: str, labels: Sequence[str] = ()) -> None:
        super().__init__(name, help, labels)
        self._values: dict[Labels, float] = {} if labels else {(): 0.0}

    def value(self, *labels: str) -> float:
        """Return the number as it stands; 0 if it was never touched."""
        return self._values.get(self._key(labels), 0.0)

    def _add(self, amount: float, labels: tuple[str, ...]) -> None:
        key = self._key(labels)
        with self._lock:
            self._values[key] = self._values.get(key, 0.0) + amount

    def _samples(self) -> list[str]:
        with self._lock:
            return [self._line(key, value) for key, value in sorted(self._values.items())]


class Counter(_Single):
    """A number that only grows."""

    kind = "counter"

    def add(self, amount: float = 1.0, /, *labels: str) -> None:
        """Count *amount* more under the given label values."""
        assert amount >= 0, "a counter only grows"
        self._add(amount, labels)


class Gauge(_Single):
    """A number that goes up and down."""

    kind = "gauge"

    def add(self, amount: float, /, *labels: str) -> None:
        """Move the number by *amount*."""
        self._add(amount, labels)

    def set(self, value: float, /, *labels: str) -> None:
        """Make *value* the number."""
        key = self._key(labels)
        with self._lock:
            self._values[key] = value

    def remove(self, *labels: str) -> None:
        """Forget a combination, as of a runner that is gone."""
        with self._lock:
            self._values.pop(self._key(labels), None)


class Histogram(Metric):
    """How often a value fell below each bound, with sum and count."""

    kind = "histogram"

    def __init__(
        self, name: str, help: str, labels: Sequence[str] = (), buckets: Sequence[float] = DEFAULT_BUCKETS
    ) -> None:
        super().__init__(name, help, labels)
        self.buckets = tuple(sorted(buckets))
        self._counts: dict[Labels, list[int]] = {}
        self._sums: dict[Labels, float] = {}

    def observe(self, value: float, /, *labels: str) -> None:
        """Count one *value*."""
        key = self._key(labels)
        with self._lock:
            counts = self._counts.setdefault(key, [0] * (len(self.buckets) + 1))
            counts[bisect_left(self.buckets, value)] += 1
            self._sums[key] = self._sums.get(key, 0.0) + value

    def _samples(self) -> list[str]:
        lines = []
        with self._lock:
            for key, counts in sorted(self._counts.items()):
                below = 0
                for bound, count in zip((*map(_number, self.buckets), "+Inf"), counts, strict=True):
                    below += count
                    lines.append(self._line(key, below, suffix="_bucket", bound=bound))
                lines.append(self._line(key, self._sums[key], suffix="_sum"))
                lines.append(self._line(key, below, suffix="_count"))
        return lines


M = TypeVar("M", bound=Metric)


class Registry:
    """All metrics of a process by name. Declaring the same one twice returns the first."""

    def __init__(self) -> None:
        self._metrics: dict[str, Metric] = {}

    def declare(self, metric: M) -> M:
        """Keep *metric* for `render`; an equal declaration made before wins."""
        known = self._metrics.setdefault(metric.name, metric)
        assert type(known) is type(metric), f"{metric.name} is declared twice"
        assert known.labels == metric.labels, f"{metric.name} is declared twice"
        return known

    def names(self) -> tuple[str, ...]:
        """Every declared name, sorted."""
        return tuple(sorted(self._metrics))

    def render(self) -> str:
        """The text format 0.0.4 of Prometheus."""
        return "".join(f"{line}\n" for name in self.names() for line in self._metrics[name].render())


#: What `/metrics` shows.
REGISTRY = Registry()


def counter(name: str, help: str, *labels: str) -> Counter:
    """Declare a counter of this process."""
    return REGISTRY.declare(Counter(name, help, labels))


def gauge(name: str, help: str, *labels: str) -> Gauge:
    """Declare a gauge of this process."""
    return REGISTRY.declare(Gauge(name, help, labels))


def histogram(name: str, help: str, *labels: str, buckets: Sequence[float] = DEFAULT_BUCKETS) -> Histogram:
    """Declare a histogram of this process."""
    return REGISTRY.declare(Histogram(name, help, labels, buckets))


def _escape_help(text: str) -> str:
    return text.replace("\\", r"\\").replace("\n", r"\n")


def _escape(text: str) -> str:
    return _escape_help(text).replace('"', r"\"")


def _number(value: float) -> str:
    if value != value or value in (float("inf"), float("-inf")):
        return {"inf": "+Inf", "-inf": "-Inf"}.get(str(value), "NaN")
    return str(int(value)) if value == int(value) else repr(float(value))
