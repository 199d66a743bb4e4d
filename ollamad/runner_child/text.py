"""Bytes of tokens to text that may be sent: whole characters, and nothing of a stop string."""

from __future__ import annotations

import codecs
from collections.abc import Sequence

#: Identical pieces after the first at which an answer has run into a loop. Source: runtime contract §2.9.
REPEATS_MAX = 30


class OutputText:
    """The text of one answer, piece by piece.

    What `feed` returns is final. A piece that ends within a character, or that may be the beginning of a stop
    string, is held back until the next. Bytes that are no UTF-8 become U+FFFD.
    """

    def __init__(self, stops: Sequence[str] = ()) -> None:
        self._stops = [stop for stop in stops if stop]
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._held = ""
        self.stopped = False

    def feed(self, piece: bytes) -> str:
        """Take the bytes of one token; return the text that can be sent now. After a stop nothing more comes."""
        if self.stopped:
            return ""
        text = self._held + self._decoder.decode(piece)
        if not self._stops:
            return text
        found = [at for at in (text.find(stop) for stop in self._stops) if at >= 0]
        if found:
            self.stopped = True
            self._held = ""
            return text[: min(found)]
        keep = max(_overlap(text, stop) for stop in self._stops)
        cut = len(text) - keep
        self._held = text[cut:]
        return text[:cut]

    def finish(self) -> str:
        """Return what was held back for a stop string that did not come; half a character is dropped."""
        held, self._held = self._held, ""
        return held


def _overlap(text: str, stop: str) -> int:
    """Length of the longest beginning of *stop*, not all of it, that *text* ends with."""
    for length in range(min(len(stop) - 1, len(text)), 0, -1):
        if text.endswith(stop[:length]):
            return length
    return 0


class RepeatGuard:
    """Notices that the same piece, but for blanks around it, came more than `REPEATS_MAX` times after the first."""

    def __init__(self) -> None:
        self._last: str | None = None
        self._repeats = 0

    def loops(self, piece: str) -> bool:
        """Take a piece; True if it must not be sent because the answer runs in a loop."""
        trimmed = piece.strip()
        if trimmed == self._last:
            self._repeats += 1
        else:
            self._last, self._repeats = trimmed, 0
        return self._repeats > REPEATS_MAX
