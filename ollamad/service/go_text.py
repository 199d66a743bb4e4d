"""What the text of a Go template tells without executing it: which variables it uses, and its thinking tags.

Source: models contract 7.7, 8.3. The template language itself has a room of its own; this reads just
enough of it to know what a model can do.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

_ACTION = re.compile(r"\{\{-?\s*(/\*.*?\*/|(?:\"(?:\\.|[^\"\\])*\"|`[^`]*`|[^\"`])*?)\s*-?\}\}", re.DOTALL)
_STRING = re.compile(r"\"(?:\\.|[^\"\\])*\"|`[^`]*`")
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
        elif not part.text.startswith("/*"):
            stack[-1].nodes.append(mention)
    for block in reversed(stack):
        yield block.nodes, block.over_messages


@dataclass(frozen=True, slots=True)
class _Action:
    text: str


def _parts(text: str) -> Iterator[str | _Action]:
    """Texts, trimmed where the template says so, and actions; empty texts are no nodes."""
    position, trim = 0, False
    for match in _ACTION.finditer(text):
        piece = text[position : match.start()]
        piece = piece.lstrip(" \t\r\n") if trim else piece
        piece = piece.rstrip(" \t\r\n") if match.group().startswith("{{-") else piece
        if piece:
            yield piece
        yield _Action(match[1])
        position, trim = match.end(), match.group().endswith("-}}")
    rest = text[position:].lstrip(" \t\r\n") if trim else text[position:]
    if rest:
        yield rest


def _actions(text: str) -> Iterator[str]:
    return (match[1] for match in _ACTION.finditer(text) if not match[1].startswith("/*"))


def _fields(action: str) -> list[str]:
    return _FIELD.findall(_STRING.sub("", action))
