"""Every option of the core, declared once: name, type, default, unit, limits, variable, help, and when a change acts.

`etc/ollamad.toml`, the environment table, `ollamactl config` and the docs come from here or are
tested against it. Plugins declare theirs with the same `Option`, under ``[plugins.NAME]``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

#: When a changed value acts: at once, on the next load of a model, or after a restart.
Applies: TypeAlias = Literal["at once", "next load", "restart"]

#: ``duration`` is nanoseconds, written as Go duration text or as seconds; ``size`` is bytes.
OptionType: TypeAlias = Literal[
    "bool", "tristate", "int", "float", "string", "strings", "duration", "host", "path", "choice", "level"
]


@dataclass(frozen=True, slots=True)
class Option:
    """One option.

    ``key`` is dotted (``server.port``); for a plugin's option it is the bare name. ``minimum`` and
    ``maximum`` are inclusive. ``choices`` are the allowed texts of a ``choice``. ``variable`` is the
    environment variable, "" for none.
    """

    key: str
    type: OptionType
    default: Any
    help: str
    applies: Applies = "restart"
    variable: str = ""
    unit: str = ""
    minimum: float | None = None
    maximum: float | None = None
    choices: tuple[str, ...] = ()
    check: Callable[[Any], str | None] | None = None
