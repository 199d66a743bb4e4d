"""Recorded text with holes: `⟦kind argument⟧` stands for a value that may differ, and says of which form it must be.

Everything outside the holes is compared byte by byte: values, the order of keys, escapes, the form of numbers.
"""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from typing import Any

HOLE = re.compile(r"(⟦[^⟧]*⟧)")
STRING = r'"(?:[^"\\]|\\.)*"'
STAMP = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(\.\d*[1-9])?(Z|[+-]\d\d:\d\d)")  # Go prints no zeros at the end
HOUR_NS = 3600 * 10**9


class Mismatch(AssertionError):
    """What came is not what was recorded."""


@dataclass
class Known:
    """What one case has shown so far.

    Attributes:
        at: Wall clock when the answer came.
        same: Values that must come again wherever the same hole stands, and differ between different holes.
        parts: Growing text of a stream by field, each piece as it was spelled.
    """

    at: float = 0.0
    same: dict[str, Any] = field(default_factory=dict)
    parts: dict[str, list[str]] = field(default_factory=dict)


def _stamp(text: str) -> float:
    found = STAMP.fullmatch(text)
    if not found:
        raise Mismatch(f"{text!r} is not a time as Go prints it")
    zone = "+00:00" if found[3] == "Z" else found[3]
    return datetime.fromisoformat(found[1] + zone).timestamp() + float(found[2] or 0)


def _now(value: Any, _: str, known: Known) -> bool:
    return value.endswith("Z") and abs(_stamp(value) - known.at) < 120


def _past(value: Any, _: str, known: Known) -> bool:
    return 1.5e9 < _stamp(value) < known.at + 60


def _expires(value: Any, argument: str, known: Known) -> bool:
    left = float(argument)
    return abs(_stamp(value) - known.at - left) <= max(4.0, 0.03 * abs(left))


def _never(value: Any, _: str, known: Known) -> bool:
    return datetime.fromisoformat(value[:10]).replace(tzinfo=UTC).timestamp() > known.at + 10 * 365 * 86400


def _same(value: Any, argument: str, known: Known) -> bool:
    kind = argument.partition("#")[0]
    others = {v for k, v in known.same.items() if k != argument and k.startswith(kind + "#")}
    return known.same.setdefault(argument, value) == value and value not in others


def _lines(value: Any, argument: str, _: Known) -> bool:
    return sorted(value.split("\n")) == sorted(json.loads(argument).split("\n"))


def _modelfile(value: Any, argument: str, _: Known) -> bool:
    """The order of the PARAMETER lines is open, their place is not."""
    return _parameters_sorted(value) == _parameters_sorted(json.loads(argument))


def _parameters_sorted(text: str) -> list[str]:
    lines = text.split("\n")
    places = [i for i, line in enumerate(lines) if line.startswith("PARAMETER ")]
    for place, line in zip(places, sorted(lines[i] for i in places), strict=True):
        lines[place] = line
    return lines


def _part(_: Any, argument: str, known: Known) -> bool:
    return bool(argument)


Check = Callable[[Any, str, Known], bool]

# Kind -> (what it looks like, what must hold of the value).
HOLES: dict[str, tuple[str, Check]] = {
    "now": (STRING, _now),
    "past": (STRING, _past),
    "expires": (STRING, _expires),
    "never": (STRING, _never),
    "version": (STRING, lambda value, *_: re.fullmatch(r"\d+\.\d+\.\d+.*", value) is not None),
    "hex64": (STRING, lambda value, *_: re.fullmatch("[0-9a-f]{64}", value) is not None),
    "text": (STRING, lambda value, *_: value != ""),
    "file": (STRING, lambda value, *_: value == "" or value.endswith(".gguf")),
    "same": (STRING, _same),
    "lines": (STRING, _lines),
    "modelfile": (STRING, _modelfile),
    "part": (r'"(?:[^"\\]|\\.)+"', _part),
    "ns": (r"\d+", lambda value, *_: 0 < value < HOUR_NS),
    "positive": (r"\d+", lambda value, *_: value > 0),
    "natural": (r"\d+", lambda *_: True),
    "any": (r".+?", lambda *_: True),
}


@cache
def _compiled(template: str) -> tuple[re.Pattern[str], tuple[tuple[str, str], ...]]:
    pieces, holes = [], []
    for piece in HOLE.split(template):
        if not HOLE.fullmatch(piece):
            pieces.append(re.escape(piece))
            continue
        kind, _, argument = piece[1:-1].partition(" ")
        holes.append((kind, argument))
        pieces.append(f"({HOLES[kind][0]})")
    return re.compile("".join(pieces), re.S), tuple(holes)


def fits(template: str, text: str) -> bool:
    """Whether *text* has the form of *template*, whatever stands in its holes."""
    return _compiled(template)[0].fullmatch(text) is not None


def compare(template: str, text: str, known: Known) -> None:
    """Raise Mismatch unless *text* is *template* with right values in its holes."""
    pattern, holes = _compiled(template)
    found = pattern.fullmatch(text)
    if not found:
        raise Mismatch(f"\nrecorded {template}\ncame     {text}")
    for (kind, argument), value in zip(holes, found.groups(), strict=True):
        if kind == "any":
            continue
        if kind == "part":
            known.parts.setdefault(argument, []).append(value[1:-1])
        if not HOLES[kind][1](json.loads(value), argument, known):
            raise Mismatch(f"{value} is no value for ⟦{kind} {argument}⟧ in\n{template}")
