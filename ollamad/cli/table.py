"""Tables without rules, as `ollama` prints them. Source: runtime contract, tables."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from itertools import zip_longest

_ANSI = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


def display_width(text: str) -> int:
    """Columns that *text* takes on a terminal: wide characters 2, marks and escape sequences 0."""
    width = 0
    for char in _ANSI.sub("", text):
        if unicodedata.combining(char) or unicodedata.category(char) in ("Mn", "Me", "Cf"):
            continue
        width += 2 if unicodedata.east_asian_width(char) in "WF" else 1
    return width


def wrap(text: str, limit: int) -> list[str]:
    """Break *text* at single blanks into lines of at most *limit* columns, as evenly as can be.

    The sum of the squared room left over is the least over all lines but the last; ties take the earlier
    break. A word longer than *limit* widens the limit for this text.
    """
    words = text.split(" ")
    widths = [display_width(word) for word in words]
    limit = max([limit, *widths])
    count = len(words)
    best = [0.0] * (count + 1)
    breaks = [count] * (count + 1)
    for start in range(count - 1, -1, -1):
        best[start], length = float("inf"), -1
        for end in range(start + 1, count + 1):
            length += 1 + widths[end - 1]
            if length > limit:
                break
            cost = best[end] + (0 if end == count else (limit - length) ** 2)
            if cost < best[start]:
                best[start], breaks[start] = cost, end
    lines, start = [], 0
    while start < count:
        lines.append(" ".join(words[start : breaks[start]]))
        start = breaks[start]
    return lines


def _cell(text: str, limit: int) -> list[str]:
    lines = text.split("\n")
    return wrap(" ".join(lines), min(limit, max(display_width(line) for line in lines)))


def render(headers: Sequence[str], rows: Sequence[Sequence[str]], limit: int = 30) -> str:
    """The table as text. With no *headers* only rows are printed."""
    cells = [[_cell(text, limit) for text in row] for row in rows]
    titles = [header.upper() for header in headers]
    widths = [
        max([display_width(title or ""), *(display_width(line) for cell in column if cell for line in cell)])
        for title, column in zip_longest(titles, zip_longest(*cells), fillvalue=())
    ]
    out = []
    if titles:
        padded = [_pad(title, width) for title, width in zip(titles, widths, strict=True)]
        out.append("    ".join(padded) + " ")
    for row in cells:
        for lines in zip_longest(*row, fillvalue=""):
            out.append("".join(_pad(line, width) + "    " for line, width in zip(lines, widths, strict=False)))
    return "".join(line + "\n" for line in out)


def _pad(text: str, width: int) -> str:
    return text + " " * (width - display_width(text))
