"""JSON texts as Go's encoding/json reads them: the first value only, and with its words for what is wrong.

A valid text goes through Python's own scanner. Where that one complains (or gives up on depth), `_Scanner` reads
the same bytes again, slowly, and either finds Go's error or the value. Objects stay lists of pairs and
numbers stay texts: which key wins and what fits into a field is for `decode` to say.
"""

from __future__ import annotations

import codecs
import json
import re
from typing import Any

#: Source: encoding/json, maxNestingDepth.
MAX_DEPTH = 10000

_SPACE = re.compile(r"[ \t\r\n]*")
_SURROGATE = re.compile(
    r"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|(u[dD][89a-fA-F][0-9a-fA-F]{2})|.)", re.S
)
_PLAIN = re.compile(r'[^"\\\x00-\x1f]*')
_HEX = "0123456789abcdefABCDEF"


class SyntaxFault(Exception):
    """The text is no JSON; ``str()`` is Go's message."""


class Pairs(list[tuple[str, Any]]):
    """An object: its pairs in order, duplicates and all."""


class Number(str):
    """A number as it was written."""

    __slots__ = ()


def _one_each(error: UnicodeError) -> tuple[str, int]:
    """Go writes U+FFFD for each byte that is no UTF-8, Python for each broken sequence."""
    assert isinstance(error, UnicodeDecodeError)
    return "\ufffd" * (error.end - error.start), error.end


codecs.register_error("ollamad-go", _one_each)


def _no_constant(name: str) -> Any:
    raise ValueError(name)  # NaN and Infinity are Python's own


_fast = json.JSONDecoder(
    object_pairs_hook=Pairs, parse_int=Number, parse_float=Number, parse_constant=_no_constant, strict=True
)


def parse(body: bytes) -> Any:
    """The first value of *body*; what follows it is not looked at.

    Raises:
        SyntaxFault: With Go's text; ``missing request body`` when there is none.
    """
    text = body.decode("utf-8", "ollamad-go")
    start = _SPACE.match(text).end()  # type: ignore[union-attr]
    if start == len(text):
        raise SyntaxFault("missing request body")
    # Python takes `1.` for a number and a rest; inside of a list it sees the error.
    if text[start] in '{["tfn':
        try:
            return _fast.raw_decode(_without_lone_surrogates(text), start)[0]
        except (ValueError, RecursionError):
            pass  # the slow scanner knows Go's word for it, or takes the depth
    return _Scanner(body.decode("latin-1")).value()


def _without_lone_surrogates(text: str) -> str:
    """Half a pair is U+FFFD to Go; Python would keep it, and nothing could encode it again."""
    if "\\u" not in text:
        return text
    return _SURROGATE.sub(lambda found: "\\ufffd" if found[1] else found[0], text)


def quote_char(char: str) -> str:
    """A byte in Go's error texts."""
    if char == "'":
        return "'\\''"
    if char == '"':
        return "'\"'"
    return f"'{quote(char)[1:-1]}'"


_ESCAPES = {"\a": "\\a", "\b": "\\b", "\f": "\\f", "\n": "\\n", "\r": "\\r", "\t": "\\t", "\v": "\\v"}


def quote(text: str) -> str:
    """A text as Go's %q prints it."""
    return '"' + "".join(map(_quoted, text)) + '"'


def _quoted(char: str) -> str:
    if char in '"\\':
        return "\\" + char
    if char in _ESCAPES:
        return _ESCAPES[char]
    if char == " " or char.isprintable():
        return char
    code = ord(char)
    if code < 0x80:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


class _Scanner:
    """Reads a text of bytes (Latin-1) with a stack of its own, so that depth costs no recursion."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0

    def value(self) -> Any:
        root: list[Any] = []
        stack: list[tuple[list[Any], str | None]] = []  # what is open, and the key that waits for its value
        holder: list[Any] = root
        key: str | None = None
        while True:
            opened = self._begin()
            if opened is not None:
                if len(stack) >= MAX_DEPTH:
                    raise SyntaxFault("exceeded max depth")
                _put(holder, key, opened)
                if not self._closes_at_once(opened):
                    stack.append((holder, key))
                    holder = opened
                    key = self._key("looking for beginning of object key string") if type(opened) is Pairs else None
                    continue
            else:
                _put(holder, key, self._scalar())
            while stack:  # behind a value: the next one, or the end of what holds it
                if self._more(holder):
                    key = self._key("looking for beginning of object key string") if type(holder) is Pairs else None
                    break
                holder, key = stack.pop()
            else:
                return root[0]

    def _peek(self) -> str:
        self._at = _SPACE.match(self._text, self._at).end()  # type: ignore[union-attr]
        if self._at >= len(self._text):
            raise SyntaxFault("unexpected EOF")
        return self._text[self._at]

    def _fault(self, char: str, where: str) -> SyntaxFault:
        return SyntaxFault(f"invalid character {quote_char(char)} {where}")

    def _begin(self) -> list[Any] | None:
        """An empty object or list where one begins; None before any other value."""
        char = self._peek()
        if char in "{[":
            self._at += 1
            return Pairs() if char == "{" else []
        if char not in '"-tfn0123456789':
            raise self._fault(char, "looking for beginning of value")
        return None

    def _closes_at_once(self, opened: list[Any]) -> bool:
        if self._peek() != ("}" if type(opened) is Pairs else "]"):
            return False
        self._at += 1
        return True

    def _key(self, where: str) -> str:
        char = self._peek()
        if char != '"':
            raise self._fault(char, where)
        key = self._string()
        char = self._peek()
        if char != ":":
            raise self._fault(char, "after object key")
        self._at += 1
        return key

    def _more(self, holder: list[Any]) -> bool:
        char = self._peek()
        end, where = ("}", "after object key:value pair") if type(holder) is Pairs else ("]", "after array element")
        if char not in ("," + end):
            raise self._fault(char, where)
        self._at += 1
        return char == ","

    def _scalar(self) -> Any:
        char = self._text[self._at]
        if char == '"':
            return self._string()
        for word, value in (("true", True), ("false", False), ("null", None)):
            if char == word[0]:
                self._word(word)
                return value
        return self._number()

    def _word(self, word: str) -> None:
        for index, want in enumerate(word[1:], 1):
            char = self._next(index)
            if char != want:
                raise self._fault(char, f"in literal {word} (expecting {quote_char(want)})")
        self._at += len(word)

    def _next(self, offset: int) -> str:
        if self._at + offset >= len(self._text):
            raise SyntaxFault("unexpected EOF")
        return self._text[self._at + offset]

    def _number(self) -> Number:
        start, at = self._at, self._at
        if self._text[at] == "-":
            at += 1
            self._digit(at, "in numeric literal")
        at = at + 1 if self._text[at] == "0" else self._digits(at)
        if self._text[at : at + 1] == ".":
            self._digit(at + 1, "after decimal point in numeric literal")
            at = self._digits(at + 1)
        if self._text[at : at + 1] in ("e", "E"):
            at += 2 if self._text[at + 1 : at + 2] in ("+", "-") else 1
            self._digit(at, "in exponent of numeric literal")
            at = self._digits(at)
        self._at = at
        return Number(self._text[start:at])

    def _digit(self, at: int, where: str) -> None:
        if at >= len(self._text):
            raise SyntaxFault("unexpected EOF")
        if self._text[at] not in "0123456789":
            raise self._fault(self._text[at], where)

    def _digits(self, at: int) -> int:
        while self._text[at : at + 1] in tuple("0123456789"):
            at += 1
        return at

    def _string(self) -> str:
        start = self._at
        self._at += 1
        while True:
            self._at = _PLAIN.match(self._text, self._at).end()  # type: ignore[union-attr]
            char = self._next(0)
            self._at += 1
            if char == '"':
                break
            if char != "\\":
                raise self._fault(char, "in string literal")
            self._escape()
        inner = self._text[start : self._at].encode("latin-1").decode("utf-8", "ollamad-go")
        return str(json.loads(_without_lone_surrogates(inner)))

    def _escape(self) -> None:
        char = self._next(0)
        self._at += 1
        if char in 'bfnrt\\/"':
            return
        if char != "u":
            raise self._fault(char, "in string escape code")
        for _ in range(4):
            char = self._next(0)
            self._at += 1
            if char not in _HEX:
                raise self._fault(char, "in \\u hexadecimal character escape")


def _put(holder: list[Any], key: str | None, value: Any) -> None:
    holder.append(value if key is None else (key, value))
