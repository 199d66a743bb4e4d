"""Base64 as Go's StdEncoding decodes it, with its offset of the first wrong byte."""

from __future__ import annotations

import binascii
import re

_GOOD = re.compile(r"(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?")
_DIGIT = re.compile(r"[A-Za-z0-9+/]")
_ENDS = "\r\n"


class Corrupt(Exception):
    """``str()`` is Go's message; ``offset`` counts bytes of the text as it was sent."""

    def __init__(self, offset: int) -> None:
        super().__init__(f"illegal base64 data at input byte {offset}")
        self.offset = offset


def decode(text: str) -> bytes:
    """Decode *text*; line ends in it are skipped, padding is needed. Raises Corrupt."""
    bare = text.translate({10: None, 13: None})
    if _GOOD.fullmatch(bare):
        return binascii.a2b_base64(bare)
    raise Corrupt(_first_wrong(text))


def _first_wrong(text: str) -> int:
    """Walk over groups of four as Go's decodeQuantum does, and say where it stops."""
    raw = text.encode("utf-8", "surrogatepass").decode("latin-1")  # offsets are bytes
    at = 0
    while True:
        in_group = 0
        while in_group < 4:
            if at == len(raw):
                return at - in_group
            char = raw[at]
            at += 1
            if _DIGIT.match(char):
                in_group += 1
            elif char not in _ENDS:
                return at - 1 if char != "=" else _behind_padding(raw, at, in_group)


def _behind_padding(raw: str, at: int, in_group: int) -> int:
    """What is wrong after the first ``=``, which stands at ``at - 1``."""
    if in_group < 2:
        return at - 1
    if in_group == 2:
        at = _skip_ends(raw, at)
        if at == len(raw):
            return at
        if raw[at] != "=":
            return at - 1
        at += 1
    return _skip_ends(raw, at)


def _skip_ends(raw: str, at: int) -> int:
    while at < len(raw) and raw[at] in _ENDS:
        at += 1
    return at
