"""Go's duration texts: ``5m``, ``1.5h``, ``1h2m3s``, in nanoseconds. Source: runtime contract 3.5 and 7.6."""

from __future__ import annotations

import re

from ollamad.types import FOREVER_NS

_UNITS_NS = {
    "ns": 1,
    "us": 1_000,
    "µs": 1_000,
    "μs": 1_000,
    "ms": 1_000_000,
    "s": 1_000_000_000,
    "m": 60_000_000_000,
    "h": 3_600_000_000_000,
}
_PART = re.compile(r"([0-9]*)(?:\.([0-9]*))?(ns|us|µs|μs|ms|s|m|h)")


def parse_duration(text: str) -> int:
    """Nanoseconds of a Go duration text. Raises: ValueError."""
    sign, rest = (-1, text[1:]) if text.startswith("-") else (1, text.removeprefix("+"))
    if rest == "0":
        return 0
    total, at = 0, 0
    while at < len(rest):
        match = _PART.match(rest, at)
        if match is None or not (match[1] or match[2]):
            break
        unit = _UNITS_NS[match[3]]
        fraction = match[2] or ""
        total += int(match[1] or 0) * unit + int(fraction or 0) * unit // 10 ** len(fraction)
        at = match.end()
    if at == 0 or at < len(rest) or total > FOREVER_NS:
        raise ValueError(f"{text!r} is no duration")
    return sign * total


def parse_hold(text: str, *, zero_forever: bool = False) -> int:
    """Nanoseconds of a duration text or of whole seconds; a negative one is for ever. Raises: ValueError."""
    try:
        value = parse_duration(text)
    except ValueError:
        if not re.fullmatch(r"[+-]?[0-9]{1,19}", text):
            raise
        value = int(text) * _UNITS_NS["s"]
    return hold(value, zero_forever=zero_forever)


def hold(value_ns: int, *, zero_forever: bool = False) -> int:
    """*value_ns* with negative (and, where it means so, zero) as for ever, and nothing above that."""
    if value_ns < 0 or (zero_forever and value_ns == 0):
        return FOREVER_NS
    return min(value_ns, FOREVER_NS)


def format_duration(value_ns: int) -> str:
    """The text that Go prints for a duration."""
    if value_ns == 0:
        return "0s"
    sign, size = ("-", -value_ns) if value_ns < 0 else ("", value_ns)
    for unit, name in ((1_000, "ns"), (1_000_000, "µs"), (1_000_000_000, "ms")):
        if size < unit:
            return f"{sign}{_fraction(size, unit // 1_000)}{name}"
    minutes, rest = divmod(size, _UNITS_NS["m"])
    hours, minutes = divmod(minutes, 60)
    text = f"{_fraction(rest, _UNITS_NS['s'])}s"
    if hours:
        return f"{sign}{hours}h{minutes}m{text}"
    return f"{sign}{minutes}m{text}" if minutes else f"{sign}{text}"


def _fraction(value: int, unit: int) -> str:
    whole, part = divmod(value, unit)
    digits = str(unit + part)[1:].rstrip("0")
    return f"{whole}.{digits}" if digits else str(whole)
