"""Durations of `keep_alive` (http-api contract 4.1): Go's ParseDuration, with its errors."""

from __future__ import annotations

import re

#: The largest time.Duration.
LONGEST_NS = 2**63 - 1
FOREVER = -1

_UNITS = {
    "ns": 1,
    "us": 1_000,
    "µs": 1_000,
    "μs": 1_000,
    "ms": 1_000_000,
    "s": 1_000_000_000,
    "m": 60_000_000_000,
    "h": 3_600_000_000_000,
}
_STEP = re.compile(r"([0-9]*)(?:(\.)([0-9]*))?([^0-9.]*)")


class BadDuration(Exception):
    """``str()`` is Go's message."""


def parse_duration(text: str) -> int:
    """Nanoseconds of a text such as ``1h30m``. Raises BadDuration."""
    rest = text[1:] if text[:1] in ("-", "+") else text
    if rest == "0":
        return 0
    if not rest:
        raise BadDuration(f"time: invalid duration {_quote(text)}")
    total = 0
    while rest:
        step = _STEP.match(rest)
        assert step is not None
        whole, dot, fraction, unit = step[1], step[2], step[3] or "", step[4]
        if not whole and not fraction:
            raise BadDuration(f"time: invalid duration {_quote(text)}")
        if not unit:
            raise BadDuration(f"time: missing unit in duration {_quote(text)}")
        if unit not in _UNITS:
            raise BadDuration(f"time: unknown unit {_quote(unit)} in duration {_quote(text)}")
        total += _step_ns(whole, fraction if dot else "", _UNITS[unit])
        if total > LONGEST_NS + (text[0] == "-"):
            raise BadDuration(f"time: invalid duration {_quote(text)}")
        rest = rest[step.end() :]
    return -total if text[0] == "-" else total


def _step_ns(whole: str, fraction: str, unit_ns: int) -> int:
    # 18 digits of a fraction are more than a nanosecond of an hour; Go stops there too.
    part: int = int(fraction[:18] or "0") * unit_ns // 10 ** len(fraction[:18])
    return min(int(whole[:30] or "0"), LONGEST_NS + 1) * unit_ns + part


def _quote(text: str) -> str:
    """Quote as package time does: bytes beyond ASCII and controls as \\x.., nothing else changed."""
    out = []
    for char in text:
        if char in '"\\':
            out.append("\\" + char)
        elif char < " " or char >= "\x80":
            out.extend(f"\\x{byte:02x}" for byte in char.encode("utf-8", "surrogatepass"))
        else:
            out.append(char)
    return '"' + "".join(out) + '"'
