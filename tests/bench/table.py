"""Lines of the table: samples of ours and of the peers, what is claimed about them, and whether it holds."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field


@dataclass
class Line:
    """One figure.

    Attributes:
        samples: Contender -> one value per round; the first is ours.
        ratio: Median of ours over median of each peer has to be at least (``more``) or at most this; None: no claim.
        limit: Median of ours itself has to be at least or at most this; None: no claim.
        more: Whether more is better.
        against: Peers that the ratio is claimed against; empty is all.
    """

    figure: str
    unit: str
    samples: Mapping[str, Sequence[float]]
    ratio: float | None = None
    limit: float | None = None
    more: bool = True
    against: tuple[str, ...] = ()
    note: str = ""
    misses: list[str] = field(init=False)

    def __post_init__(self) -> None:
        self.misses = []
        ours = self.median(self.ours)
        if self.limit is not None and not self._holds(ours, self.limit):
            self.misses.append(f"{ours:.4g} {self.unit}, should be {self._sign} {self.limit:g}")
        for peer in self.peers if self.ratio is not None else ():
            if (not self.against or peer in self.against) and not self._holds(self.ratio_to(peer), self.ratio or 0):
                self.misses.append(f"{self.ratio_to(peer):.3f} of {peer}, should be {self._sign} {self.ratio:g}")

    @property
    def ours(self) -> str:
        return next(iter(self.samples))

    @property
    def peers(self) -> list[str]:
        return list(self.samples)[1:]

    def median(self, name: str) -> float:
        return statistics.median(self.samples[name])

    def ratio_to(self, peer: str) -> float:
        return self.median(self.ours) / self.median(peer)

    @property
    def _sign(self) -> str:
        return "≥" if self.more else "≤"

    def _holds(self, value: float, wanted: float) -> bool:
        return value >= wanted if self.more else value <= wanted


def render(lines: Sequence[Line]) -> str:
    """A table in Markdown."""
    rows = ["| Figure | Contender | Median | Least – most | Ours / it | To reach | |", "|---|---|---|---|---|---|---|"]
    for line in lines:
        for name, values in line.samples.items():
            ours = name == line.ours
            claims = line.limit if ours else line.ratio if not line.against or name in line.against else None
            sign = "≥" if line.more else "≤"
            rows.append(
                f"| {line.figure if ours else ''} | {name} | {line.median(name):.4g} {line.unit}"
                f" | {min(values):.4g} – {max(values):.4g} | {'' if ours else f'{line.ratio_to(name):.3f}'}"
                f" | {'' if claims is None else f'{sign} {claims:g}'} | {_verdict(line, ours)} |"
            )
        if line.note:
            rows.append(f"| | | {line.note} | | | | |")
    return "\n".join(rows)


def _verdict(line: Line, ours: bool) -> str:
    if not ours or (line.limit is None and (line.ratio is None or not line.peers)):
        return ""
    return "missed: " + "; ".join(line.misses) if line.misses else "reached"
