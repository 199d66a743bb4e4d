"""Numbers, sizes and times as people read them. Source: runtime contract, value formatting."""

from __future__ import annotations

import math
from datetime import UTC, datetime

_DECIMAL_UNITS = ((10**12, "TB"), (10**9, "GB"), (10**6, "MB"), (10**3, "KB"))

#: From this far ahead a time is "for ever": 21 years of 365 days.
_FOREVER_S = 21 * 365 * 86400


def human_bytes(size: int) -> str:
    """Decimal units, two or three digits: ``9.6 GB``, ``10 KB``."""
    for unit, name in _DECIMAL_UNITS:
        if size >= unit:
            value = size / unit
            if value >= 10:
                return f"{size // unit} {name}"
            return f"{value:.1f} {name}" if size % unit else f"{size // unit} {name}"
    return f"{size} B"


def human_number(count: int) -> str:
    """A count of parameters: ``8.0B``, ``133.70M``, ``2K``."""
    if count >= 10**9:
        value = count / 10**9
        return f"{count // 10**9}B" if count % 10**9 == 0 else f"{value:.1f}B"
    if count >= 10**6:
        return f"{count // 10**6}M" if count % 10**6 == 0 else f"{count / 10**6:.2f}M"
    if count >= 1000:
        return f"{count / 1000:.0f}K"
    return str(count)


def human_duration(seconds: float) -> str:
    """An elapsed time in one unit: ``About an hour``, ``3 weeks``."""
    if seconds < 1:
        return "Less than a second"
    whole = int(seconds)
    if whole == 1:
        return "1 second"
    if whole < 60:
        return f"{whole} seconds"
    minutes = whole // 60
    if minutes == 1:
        return "About a minute"
    if minutes < 60:
        return f"{minutes} minutes"
    hours = math.floor(seconds / 3600 + 0.5)
    if hours == 1:
        return "About an hour"
    for limit, divisor, name in ((48, 1, "hours"), (336, 24, "days"), (1440, 168, "weeks"), (17520, 720, "months")):
        if hours < limit:
            return f"{hours // divisor} {name}"
    return f"{int(seconds / 3600) // 8760} years"


def human_time(when: datetime | None, now: datetime, zero: str = "Never") -> str:
    """``2 days ago``, ``4 minutes from now``, ``Forever``; *zero* for the zero time (year 1 or None)."""
    if when is None or when.year <= 1:
        return zero
    ahead = (when - now).total_seconds()
    if ahead >= _FOREVER_S:
        return "Forever"
    return f"{human_duration(ahead)} from now" if ahead > 0 else f"{human_duration(-ahead)} ago"


def parse_time(text: str) -> datetime | None:
    """An RFC 3339 time; a year past 9999 or bad text gives the largest time or None."""
    try:
        head, _, rest = text.partition(".")
        if rest:
            digits = len(rest) - len(rest.lstrip("0123456789"))
            text = f"{head}.{rest[: min(digits, 6)]}{rest[digits:]}"
        when = datetime.fromisoformat(text)
    except ValueError:
        return datetime.max.replace(tzinfo=UTC) if text[:5].isdigit() else None
    return when if when.tzinfo else when.replace(tzinfo=UTC)


def go_number(value: float) -> str:
    """Shortest text of a 64-bit float as Go's ``%v`` prints it, with an exponent outside [1e-4, 1e6)."""
    if value == 0:
        return "0"
    digits, exponent_text = f"{value:.17e}".split("e")
    for precision in range(17):
        candidate = f"{value:.{precision}e}"
        if float(candidate) == value:
            digits, exponent_text = candidate.split("e")
            break
    exponent = int(exponent_text)
    if -4 <= exponent < 6:
        return f"{value:.{max(len(digits.lstrip('-').replace('.', '')) - 1 - exponent, 0)}f}"
    sign = "-" if exponent < 0 else "+"
    return f"{digits}e{sign}{abs(exponent):02d}"


def processor(size: int, size_vram: int) -> str:
    """Where a loaded model lies: ``100% CPU``, ``48%/52% CPU/GPU``."""
    if size_vram == 0:
        return "100% CPU"
    if size_vram == size:
        return "100% GPU"
    if size_vram > size or size == 0:
        return "Unknown"
    cpu = math.floor((size - size_vram) / size * 100 + 0.5)
    return f"{cpu}%/{100 - cpu}% CPU/GPU"
