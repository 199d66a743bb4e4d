"""Breaks a stream of text at words on a terminal, as the text comes. Source: runtime contract, output of run."""

from __future__ import annotations

from collections.abc import Callable

from ollamad.cli.table import display_width

#: Columns kept free at the right, and the least a word must leave free to be moved to the next line.
_MARGIN = 5
_WORD_MARGIN = 10


class WordWrap:
    """Passes text on to *write*; a word that would cross the right edge moves to the next line.

    ``width`` below 10 means no wrapping.
    """

    def __init__(self, write: Callable[[str], object], width: int) -> None:
        self._write = write
        self._width = width
        self._length = 0
        self._word = ""

    def feed(self, text: str) -> None:
        """Write a piece of text; the state goes on with the next piece."""
        if self._width < 10:
            self._write(text)
            return
        self._write("".join(self._char(char) for char in text))

    def _char(self, char: str) -> str:
        if char in "\r\n":
            self._length, self._word = 0, ""
            return char
        columns = display_width(char)
        breaks = columns >= 2 or char in " \t"
        if self._length + 1 > self._width - _MARGIN:
            return self._break_line(char, columns, breaks)
        self._length += columns
        self._word = "" if breaks else self._word + char
        return char

    def _break_line(self, char: str, columns: int, breaks: bool) -> str:
        moved = self._word
        width = display_width(moved)
        if width > self._width - _WORD_MARGIN:
            self._word, self._length = ("" if breaks else char), columns
            return "\n" + char
        self._word = "" if breaks else moved + char
        self._length = width + columns
        back = f"\x1b[{width}D" if moved else ""
        return f"{back}\x1b[K\n{moved}{char}"
