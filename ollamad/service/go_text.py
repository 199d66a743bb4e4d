"""What the text of a Go template tells without executing it: which variables it uses, and its thinking tags.

Source: models contract 7.7, 8.3. The template language itself has a room of its own; this reads just
enough of it to know what a model can do.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

_SPACE = " \t\r\n"
_MARK = re.compile(r"[\"`]|\}\}")
_REST_OF_TEXT = {'"': re.compile(r"(?:[^\"\\]|\\.)*+\"", re.DOTALL), "`": re.compile(r"[^`]*+`")}
_STRING = re.compile(r"\"(?:[^\"\\]|\\.)*+\"|`[^`]*+`", re.DOTALL)
_FIELD = re.compile(r"\.([^\W\d]\w*)")
_OPENERS = frozenset(("if", "range", "with", "block", "define"))


def variables(text: str) -> frozenset[str]:
    """Lower-cased names of all fields that the template's actions mention."""
    return frozenset(name.lower() for action in _actions(text) for name in _fields(action))


def thinking_tags(text: str) -> tuple[str, str] | None:
    """The texts around ``.Thinking`` in a range over ``.Messages``; None where none can be inferred."""
    found: tuple[str, str] | None = None
    for nodes, ranges_over_messages in _lists(text):
        mentioned = any(isinstance(node, _Mention) and "Thinking" in node.fields for node in nodes)
        if not (mentioned and ranges_over_messages):
            continue
        first, last = nodes[0], nodes[-1]
        if isinstance(first, str) and isinstance(last, str) and first.strip() and last.strip():
            found = (first.strip(), last.strip())
    return found


def has_tool_round_trip(text: str) -> bool:
    """Whether the template renders tools, calls and their results. Source: models contract 5.8."""
    marks = ('eq .Role "tool"', "tool_response", "TOOL_RESULTS")
    return {"tools", "toolcalls"} <= variables(text) and any(mark in text for mark in marks)


@dataclass(frozen=True, slots=True)
class _Mention:
    """A node that is no text; ``fields`` are the names in it, for a block those of its head."""

    fields: frozenset[str]


@dataclass(slots=True)
class _Block:
    """An open block: ``over_messages`` is what the nearest range around its nodes says."""

    over_messages: bool
    nodes: list[str | _Mention] = field(default_factory=list)


def _lists(text: str) -> Iterator[tuple[list[str | _Mention], bool]]:
    """Every list of nodes, inner ones first, with whether its nearest range is over the messages."""
    stack = [_Block(over_messages=False)]
    for part in _parts(text):
        if isinstance(part, str):
            stack[-1].nodes.append(part)
            continue
        word = part.text.split(maxsplit=1)[0] if part.text else ""
        mention = _Mention(frozenset(_fields(part.text)))
        if word in _OPENERS:
            stack[-1].nodes.append(mention)
            over = "Messages" in mention.fields if word == "range" else stack[-1].over_messages
            stack.append(_Block(over))
        elif word == "else" and len(stack) > 1:
            block = stack.pop()
            yield block.nodes, block.over_messages
            stack.append(_Block(block.over_messages))
        elif word == "end" and len(stack) > 1:
            block = stack.pop()
            yield block.nodes, block.over_messages
        elif part.text:
            stack[-1].nodes.append(mention)
    for block in reversed(stack):
        yield block.nodes, block.over_messages


@dataclass(frozen=True, slots=True)
class _Action:
    """What stands between braces, without trim marks; "" for a comment."""

    text: str


def _parts(text: str) -> Iterator[str | _Action]:
    """Texts, trimmed where the template says so, and actions; empty texts are no nodes.

    One pass: what is never closed ends the reading, or a hostile template would take quadratic time.
    """
    position, trim = 0, False
    while (start := text.find("{{", position)) >= 0 and (end := _end(text, start + 2)) >= 0:
        piece = text[position:start]
        piece = piece.lstrip(_SPACE) if trim else piece
        inner = text[start + 2 : end]
        if inner.startswith("-"):
            piece, inner = piece.rstrip(_SPACE), inner[1:]
        if piece:
            yield piece
        trim = inner.endswith("-")
        inner = (inner[:-1] if trim else inner).strip(_SPACE)
        yield _Action("" if inner.startswith("/*") else inner)
        position = end + 2
    rest = text[position:].lstrip(_SPACE) if trim else text[position:]
    if rest:
        yield rest


def _end(text: str, start: int) -> int:
    """Where the action that starts at *start* has its closing braces, -1 if nowhere."""
    if text[start : start + 16].lstrip("-").lstrip(_SPACE).startswith("/*"):
        close = text.find("*/", start)
        return text.find("}}", close) if close >= 0 else -1
    at = start
    while mark := _MARK.search(text, at):
        if mark[0] == "}}":
            return mark.start()
        rest = _REST_OF_TEXT[mark[0]].match(text, mark.end())
        if rest is None:
            return -1
        at = rest.end()
    return -1


def _actions(text: str) -> Iterator[str]:
    return (part.text for part in _parts(text) if isinstance(part, _Action))


def _fields(action: str) -> list[str]:
    return _FIELD.findall(_STRING.sub("", action))
