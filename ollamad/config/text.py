"""A value as TOML writes it: in the example file and in ``config show``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ollamad.config.durations import format_duration
from ollamad.config.schema import Option
from ollamad.types import FOREVER_NS


def value_text(option: Option, value: Any) -> str:
    """*value* of *option* as it would stand in the file."""
    if value is None:
        return '"auto"'
    if option.type == "duration":
        return json.dumps("-1" if value == FOREVER_NS else format_duration(value))
    if isinstance(value, Path):
        value = str(value)
    return json.dumps(list(value) if isinstance(value, tuple) else value, ensure_ascii=False)
