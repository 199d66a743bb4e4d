"""The text of a Modelfile: a state machine over code points, and the printer that is its inverse.

Source: models contract 4.1 to 4.3.
"""

from __future__ import annotations

import codecs
from collections.abc import Iterable
from dataclasses import dataclass

from ollamad.errors import InvalidRequest

_WORDS = (
    "from",
    "license",
    "template",
    "system",
    "adapter",
    "draft",
    "renderer",
    "parser",
    "parameter",
    "message",
    "requires",
)
_QUOTED_WORDS = frozenset(_WORDS) - {"from", "parameter", "message"}
_ROLES = ("system", "user", "assistant")
_UNEXPECTED_END = "unexpected EOF"
_BAD_WORD = "command must be one of {}, or {}".format(", ".join(f'"{word}"' for word in _WORDS[:-1]), f'"{_WORDS[-1]}"')
_BAD_ROLE = 'message role must be one of "system", "user", or "assistant"'


class ModelfileError(InvalidRequest):
    """A Modelfile that cannot be read; ``line`` is 0 where no line is to blame."""

    def __init__(self, message: str, line: int = 0) -> None:
        super().__init__(f"(line {line}): {message}" if line else message)
        self.line = line


@dataclass(frozen=True, slots=True)
class Command:
    """One instruction. ``FROM`` is ``model``; a parameter has its own name; a message reads ``role: text``."""

    name: str
    argument: str


def parse(source: bytes | str) -> tuple[Command, ...]:
    """Read a whole Modelfile.

    Raises:
        ModelfileError: An unknown command or role, an open quote, or no ``FROM``.
    """
    text = source if isinstance(source, str) else _decode(source)
    reader = _Reader()
    for character in text:
        reader.feed(character)
    commands = reader.finish()
    if not any(command.name == "model" for command in commands):
        raise ModelfileError("no FROM line")
    return commands


def dump(commands: Iterable[Command]) -> str:
    """Print commands, one per line; `parse` gives them back."""
    return "".join(f"{_line(command)}\n" for command in commands)


def _line(command: Command) -> str:
    if command.name == "model":
        return f"FROM {command.argument}"
    if command.name in _QUOTED_WORDS:
        return f"{command.name.upper()} {_quote(command.argument)}"
    if command.name == "message":
        role, _, content = command.argument.partition(": ")
        return f"MESSAGE {role} {_quote(content)}"
    return f"PARAMETER {command.name} {_quote(command.argument)}"


def _quote(text: str) -> str:
    if "\n" not in text and not text.startswith(" ") and not text.endswith(" "):
        return text
    return f'"""{text}"""' if '"' in text else f'"{text}"'


def _unquote(text: str) -> str | None:
    """The value in *text*, None while its quotes are open."""
    for mark in ('"""', '"'):
        if text.startswith(mark):
            return text[len(mark) : -len(mark)] if len(text) >= 2 * len(mark) and text.endswith(mark) else None
    return text


def _decode(data: bytes) -> str:
    for mark, encoding in (
        (codecs.BOM_UTF8, "utf-8"),
        (codecs.BOM_UTF16_LE, "utf-16-le"),
        (codecs.BOM_UTF16_BE, "utf-16-be"),
    ):
        if data.startswith(mark):
            return data[len(mark) :].decode(encoding, "replace")
    return data.decode("utf-8", "replace")


class _Reader:
    """States: between commands, comment, command word, parameter name, role, value."""

    def __init__(self) -> None:
        self._state = self._between
        self._line = 1
        self._text: list[str] = []
        self._name = ""
        self._role = ""
        self._commands: list[Command] = []

    def feed(self, character: str) -> None:
        if character in "\r\n":
            self._line += 1
        self._state(character)

    def finish(self) -> tuple[Command, ...]:
        if self._state == self._value:
            value = _unquote(self._pending().strip(" \t\r\n"))
            if value is None:
                raise ModelfileError(_UNEXPECTED_END)
            self._add(value)
        elif self._state not in (self._between, self._comment):
            raise ModelfileError(_UNEXPECTED_END)
        return tuple(self._commands)

    def _pending(self) -> str:
        return "".join(self._text)

    def _keep(self, character: str) -> None:
        if character.isprintable():
            self._text.append(character)

    def _between(self, character: str) -> None:
        if character == "#":
            self._state = self._comment
        elif character not in " \t\r\n":
            self._text = []
            self._keep(character)
            self._state = self._word

    def _comment(self, character: str) -> None:
        if character in "\r\n":
            self._state = self._between

    def _word(self, character: str) -> None:
        if character.isascii() and character.isalpha():
            self._text.append(character)
            return
        word = self._pending().lower()
        if character not in " \t" or word not in _WORDS:
            raise ModelfileError(_BAD_WORD, self._line)
        self._text = []
        self._name = "model" if word == "from" else word
        self._state = {"parameter": self._parameter, "message": self._message}.get(word, self._value)

    def _parameter(self, character: str) -> None:
        if character.isascii() and (character.isalnum() or character == "_"):
            self._text.append(character)
            return
        if character not in " \t":
            raise ModelfileError(f"{_UNEXPECTED_END}: {self._pending()}")
        self._name, self._text = self._pending(), []
        self._state = self._value

    def _message(self, character: str) -> None:
        if character.isascii() and character.isalpha():
            self._text.append(character)
            return
        if character not in " \t":
            raise ModelfileError(f"{_UNEXPECTED_END}: {self._pending()}")
        if self._pending() not in _ROLES:
            raise ModelfileError(_BAD_ROLE, self._line)
        self._role, self._text = self._pending(), []
        self._state = self._value

    def _value(self, character: str) -> None:
        if character in " \t":
            self._text.append(character)
        elif character not in "\r\n":
            self._keep(character)
        elif (value := _unquote(self._pending().strip(" \t\r\n"))) is None:
            self._text.append(character)
        else:
            self._add(value)
            self._state = self._between

    def _add(self, value: str) -> None:
        argument = f"{self._role}: {value}" if self._role else value
        self._commands.append(Command(self._name, argument))
        self._role = ""
        self._text = []
