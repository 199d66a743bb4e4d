"""A TOML file with the line of every key.

`tomllib` tells no lines, so after the whole was parsed the text is cut into its statements: a line is joined
to the ones before it until they parse. That is one statement, and it begins where the one before ended.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ollamad.errors import ConfigError

#: A configuration is written by people; more is a wrong file (a model, a log).
MAX_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Document:
    """Nested tables as `tomllib` gives them, and the line of each key path."""

    file: str = ""
    values: Mapping[str, Any] = field(default_factory=dict)
    lines: Mapping[tuple[str, ...], int] = field(default_factory=dict)

    def where(self, *path: str) -> str:
        """``FILE:LINE`` of a key."""
        line = self.lines.get(path)
        return f"{self.file}:{line}" if line else self.file

    def error(self, message: str, *path: str) -> ConfigError:
        """A `ConfigError` at a key."""
        return ConfigError(message, source=self.file, line=self.lines.get(path), key=dotted(path))


def dotted(path: tuple[str, ...]) -> str:
    """The key as it would be written: parts with other signs than letters, digits, ``-`` and ``_`` in quotes."""
    return ".".join(part if re.fullmatch(r"[A-Za-z0-9_-]+", part) else f'"{part}"' for part in path)


def read_document(path: Path) -> Document:
    """Read a TOML file. Raises: ConfigError for one that cannot be read or is no TOML."""
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
        text = data.decode()
    except OSError as error:
        raise ConfigError(f"cannot be read: {error.strerror}", source=str(path)) from error
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise ConfigError("is no UTF-8 text", source=str(path), line=line) from error
    if len(data) > MAX_BYTES:
        raise ConfigError(f"is larger than {MAX_BYTES} bytes", source=str(path))
    return parse_document(text, str(path))


def parse_document(text: str, file: str) -> Document:
    """Parse TOML text. Raises: ConfigError."""
    try:
        values = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        message = str(error)
        found = re.search(r" \(at line (\d+), column (\d+)\)$", message)
        line = int(found[1]) if found else text.count("\n") + 1
        plain = message[: found.start()] if found else message.removesuffix(" (at end of document)")
        raise ConfigError(plain[:1].lower() + plain[1:], source=file, line=line) from error
    return Document(file, values, dict(_lines(text)))


def _lines(text: str) -> Iterator[tuple[tuple[str, ...], int]]:
    table: tuple[str, ...] = ()
    for statement, line in _statements(text):
        if statement.lstrip().startswith("["):
            table = _header_path(tomllib.loads(statement))
            yield table, line
        else:
            for path in _leaf_paths(tomllib.loads(statement)):
                yield table + path, line


def _statements(text: str) -> Iterator[tuple[str, int]]:
    """Each statement with the number of its first line; blank lines and comments are none."""
    pending, first = "", 1
    for number, line in enumerate(text.splitlines(keepends=True), 1):
        if not pending:
            if not line.strip() or line.lstrip().startswith("#"):
                continue
            first = number
        pending += line
        try:
            tomllib.loads(pending)
        except tomllib.TOMLDecodeError:
            continue
        yield pending, first
        pending = ""


def _header_path(tables: Any) -> tuple[str, ...]:
    """The path of a lone ``[a.b]`` or ``[[a.b]]``."""
    path: tuple[str, ...] = ()
    while tables:
        if isinstance(tables, list):
            tables = tables[0]
            continue
        (key, tables), *_ = tables.items()
        path += (key,)
    return path


def _leaf_paths(values: Mapping[str, Any]) -> Iterator[tuple[str, ...]]:
    for key, value in values.items():
        yield (key,)
        if isinstance(value, dict):
            for path in _leaf_paths(value):
                yield (key, *path)
