"""One value of one option, from the three kinds of text it can be written in.

The environment is read as Ollama reads it (runtime contract 3.1): a wrong value is the default and a
warning. A file and a flag are strict: `ValueError` says what was seen and what is allowed.
"""

from __future__ import annotations

import os.path
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ollamad.config.durations import hold, parse_hold
from ollamad.config.host import parse_host
from ollamad.config.schema import Option, Places

LEVELS = ("TRACE", "DEBUG", "INFO", "WARN", "ERROR")
_TRUE = ("1", "t", "T", "TRUE", "true", "True")
_FALSE = ("0", "f", "F", "FALSE", "false", "False")


class Unusable(ValueError):
    """A text of the environment that is no value of the option; ``silent``: Ollama does not warn either."""

    def __init__(self, silent: bool = False) -> None:
        super().__init__("invalid environment variable, using default")
        self.silent = silent


def trim(text: str) -> str:
    """*text* without white space, then without quotes at its ends."""
    return text.strip().strip("\"'")


def default_of(option: Option, places: Places) -> Any:
    """The value of *option* when nobody gives one."""
    return option.default_from(places) if option.default_from is not None else option.default


def from_environment(option: Option, text: str, places: Places) -> Any:
    """The value of a trimmed, non-empty text. Raises: Unusable."""
    if option.type in ("bool", "tristate"):
        return text not in _FALSE
    if option.type == "level":
        return _level_of_debug(text)
    if option.type == "duration":
        try:
            return parse_hold(text, zero_forever=option.zero_forever)
        except ValueError:
            raise Unusable(silent=True) from None
    if option.type == "int" and not (text.isascii() and text.isdigit()):
        raise Unusable()
    if option.type == "choice":
        text = text.lower()
    try:
        return from_text(option, text, places)
    except ValueError:
        raise Unusable() from None


def _level_of_debug(text: str) -> str:
    """``OLLAMA_DEBUG``: a boolean, or n for a threshold of -4n."""
    if text in _TRUE:
        return "DEBUG"
    try:
        number = int(text)
    except ValueError:
        return "INFO"
    return {0: "INFO", 1: "DEBUG", -1: "WARN"}.get(number, "TRACE" if number > 1 else "ERROR")


def from_text(option: Option, text: str, places: Places) -> Any:
    """The value of a flag's text. Raises: ValueError."""
    return _checked(option, _from_text(option, text, places), text)


def _from_text(option: Option, text: str, places: Places) -> Any:
    if option.default is None and text == "auto":
        return None
    if option.type in ("bool", "tristate"):
        if text not in _TRUE + _FALSE:
            raise _wrong(option, text)
        return text in _TRUE
    if option.type in ("int", "float"):
        number: Callable[[str], Any] = int if option.type == "int" else float
        try:
            return number(text)
        except ValueError:
            raise _wrong(option, text) from None
    if option.type == "strings":
        return tuple(part for part in text.split(",") if part)
    return _from_string(option, text, places)


def _from_string(option: Option, text: str, places: Places) -> Any:
    """Types that are written as a string in TOML too."""
    if option.type == "duration":
        try:
            return parse_hold(text, zero_forever=option.zero_forever)
        except ValueError:
            raise _wrong(option, text) from None
    if option.type == "level":
        if text.upper() not in LEVELS:
            raise _wrong(option, text)
        return text.upper()
    if option.type == "host":
        if parse_host(text)[1]:
            raise _wrong(option, text)
        return text
    if option.type == "path":
        if not text:
            raise _wrong(option, text)
        expanded = places.home / text[2:] if text.startswith("~/") else Path(text)
        return Path(os.path.abspath(expanded))
    return text


def from_toml(option: Option, value: Any, places: Places) -> Any:
    """The value of a TOML item. Raises: ValueError."""
    kind = option.type
    if isinstance(value, str) and (kind in _STRING_TYPES or (option.default is None and value == "auto")):
        return _checked(option, _from_text(option, value, places), value)
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if kind in ("bool", "tristate") and isinstance(value, bool):
        return value
    if kind == "int" and number and isinstance(value, int):
        return _checked(option, value, value)
    if kind == "float" and number:
        return _checked(option, float(value), value)
    if kind == "duration" and number:
        return _checked(option, hold(int(value * 1_000_000_000), zero_forever=option.zero_forever), value)
    if kind == "strings" and isinstance(value, list) and all(isinstance(one, str) for one in value):
        return _checked(option, tuple(value), value)
    raise _wrong(option, value)


_STRING_TYPES = ("string", "duration", "host", "path", "choice", "level")


def _checked(option: Option, value: Any, seen: Any) -> Any:
    """*value* if the option's limits, choices and check admit it."""
    if value is None:
        return value
    if option.type in ("int", "float"):
        low, high = option.minimum, option.maximum
        # "not >=" refuses NaN as well.
        if (low is not None and not value >= low) or (high is not None and not value <= high):
            raise _wrong(option, seen)
    if option.type == "choice" and value not in option.choices:
        raise _wrong(option, seen)
    refusal = option.check(value) if option.check is not None else None
    if refusal is not None:
        raise ValueError(refusal)
    return value


def _wrong(option: Option, seen: Any) -> ValueError:
    return ValueError(f"saw {_shown(seen)}; allowed: {allowed(option)}")


def _shown(seen: Any) -> str:
    if isinstance(seen, bool):
        return "true" if seen else "false"
    text = f'"{seen}"' if isinstance(seen, str) else str(seen)
    return text if len(text) <= 80 else f"{text[:77]}..."


def allowed(option: Option) -> str:
    """What may be written for *option*, in words."""
    words = {
        "bool": "true or false",
        "tristate": "true or false",
        "int": "a whole number",
        "float": "a number",
        "string": "a text",
        "strings": "a list of texts",
        "duration": 'a duration such as "5m" or a number of seconds',
        "host": 'an address such as "127.0.0.1" or "0.0.0.0:11434"',
        "path": "a path",
        "choice": " or ".join(f'"{one}"' for one in option.choices),
        "level": " or ".join(f'"{one}"' for one in LEVELS),
    }[option.type]
    low, high = option.minimum, option.maximum
    if low is not None and high is not None:
        words += f" from {low:.15g} to {high:.15g}"
    elif low is not None:
        words += f" of at least {low:.15g}"
    if option.unit:
        words += f" ({option.unit})"
    return f'{words}, or "auto"' if option.default is None else words
