"""The daemon's log: logfmt lines on standard error. Source: runtime contract 6.1.

What a record carries in ``extra`` are its attributes: ``log.warning("text", extra={"model": name})``. Names that
`logging` keeps for itself go into a mapping, ``extra={"attributes": {"name": value}}``.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Mapping
from datetime import datetime
from typing import Any, TextIO

#: Below DEBUG; `logging` has no name for it.
TRACE = 5

_LEVELS = {
    "TRACE": TRACE,
    "DEBUG": logging.DEBUG,
    "INFO": logging.INFO,
    "WARN": logging.WARNING,
    "ERROR": logging.ERROR,
}
_NAMES = {number: name for name, number in _LEVELS.items()} | {logging.CRITICAL: "ERROR+4"}
#: What every record has; the rest came with ``extra``. The last two are made by formatters.
_STANDARD = {*logging.makeLogRecord({}).__dict__, "message", "asctime"}
_ESCAPES = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t"}


class LogfmtFormatter(logging.Formatter):
    """``time=… level=… source=FILE:LINE msg=… key=value …``; one line whatever the record holds."""

    def format(self, record: logging.LogRecord) -> str:
        moment = datetime.fromtimestamp(record.created).astimezone().isoformat(timespec="milliseconds")
        if moment.endswith("+00:00"):
            moment = moment[:-6] + "Z"
        parts = [
            f"time={moment}",
            f"level={_NAMES.get(record.levelno, record.levelname)}",
            f"source={record.filename}:{record.lineno}",
            f"msg={quoted(record.getMessage())}",
        ]
        parts += attribute_texts(_attributes(record))
        if record.exc_info:
            parts.append(f"traceback={quoted(self.formatException(record.exc_info))}")
        return " ".join(parts)


def _attributes(record: logging.LogRecord) -> dict[str, Any]:
    own = {key: value for key, value in record.__dict__.items() if key not in _STANDARD}
    own.update(own.pop("attributes", {}))
    return own


def attribute_texts(attributes: Mapping[str, Any], group: str = "") -> list[str]:
    """``key=value`` for each attribute; a mapping is a group, ``group.key=value``."""
    texts = []
    for key, value in attributes.items():
        if isinstance(value, Mapping):
            texts += attribute_texts(value, f"{group}{key}.")
        else:
            shown = str(value).lower() if isinstance(value, bool) else str(value)
            texts.append(f"{group}{key}={quoted(shown)}")
    return texts


def quoted(text: str) -> str:
    """*text*, in Go's quotes where logfmt needs them."""
    if text and text.isprintable() and not any(sign in text for sign in ' "='):
        return text
    return f'"{"".join(map(_escaped, text))}"'


def _escaped(sign: str) -> str:
    if sign in _ESCAPES:
        return _ESCAPES[sign]
    if sign.isprintable():
        return sign
    number = ord(sign)
    if number < 0x80:
        return f"\\x{number:02x}"
    return f"\\u{number:04x}" if number < 0x10000 else f"\\U{number:08x}"


def install(level: str, stream: TextIO | None = None) -> None:
    """Send all records from *level* on to *stream* (standard error)."""
    handler = logging.StreamHandler(sys.stderr if stream is None else stream)
    handler.setFormatter(LogfmtFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(_LEVELS[level])
    logging.addLevelName(TRACE, "TRACE")
