"""What the rooms are given: one frozen section each, and the whole with the source of every value.

A field is named as its option; a duration's field ends in ``_ns``. A room never sees `Config`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeAlias

from ollamad.config.schema import Applies, Option, Places
from ollamad.config.text import value_text

#: Where a value came from, weakest first.
Source: TypeAlias = Literal["default", "file", "environment", "flag"]


@dataclass(frozen=True, slots=True)
class ServerConfig:
    """The listener ``default`` and the limits of every listener."""

    host: str
    port: int
    profile: Literal["inference", "manage", "admin"]
    origins: tuple[str, ...]
    max_connections: int
    max_header_bytes: int
    max_body_bytes: int
    header_timeout_s: float
    body_timeout_s: float
    idle_timeout_s: float
    write_timeout_s: float
    drain_timeout_s: float


@dataclass(frozen=True, slots=True)
class StoreConfig:
    """Where models lie."""

    path: Path
    demo: bool
    noprune: bool


@dataclass(frozen=True, slots=True)
class SchedulerConfig:
    """Who may wait and how long models stay. ``num_parallel`` None is automatic."""

    keep_alive_ns: int
    load_timeout_ns: int
    max_queue: int
    max_loaded_models: int
    num_parallel: int | None
    max_loading: int
    memory_budget_bytes: int
    gpu_overhead_bytes: int
    spread: bool


@dataclass(frozen=True, slots=True)
class RunnerConfig:
    """How models are loaded; 0 and None are automatic."""

    context_length: int
    flash_attention: bool | None
    kv_cache_type: str
    go_template: bool | None
    step_ms: int
    threads: int
    threads_batch: int
    adapt_threads: bool
    speculation: bool


@dataclass(frozen=True, slots=True)
class PluginsConfig:
    """Which plugins load."""

    disabled: tuple[str, ...]
    extra: tuple[str, ...]
    load_timeout_s: float


@dataclass(frozen=True, slots=True)
class LoggingConfig:
    """What is logged."""

    level: str
    requests: bool


@dataclass(frozen=True, slots=True)
class ListenerConfig:
    """``[listeners.NAME]``: a further TCP listener."""

    host: str
    port: int
    profile: Literal["inference", "manage", "admin"]


@dataclass(frozen=True, slots=True)
class ModelSection:
    """``[models."NAME"]``: wins over the Modelfile, loses against the request."""

    keep_alive_ns: int | None = None
    parameters: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Setting:
    """A value and where it came from; ``detail`` is ``FILE:LINE``, the variable or the flag."""

    option: Option
    value: Any
    source: Source = "default"
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Explained:
    """A row of ``config show``; values are as JSON can hold them, ``text`` is the value as the file would write it."""

    key: str
    value: Any
    default: Any
    source: Source
    detail: str
    applies: Applies
    text: str


@dataclass(frozen=True, slots=True)
class Note:
    """Something to log as a warning once there is a log."""

    message: str
    attributes: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class RawTable:
    """A plugin's section before its plugin has loaded: values, line of each key, and the file."""

    values: Mapping[str, Any]
    lines: Mapping[str, int]
    file: str


@dataclass(frozen=True, slots=True)
class Config:
    """All that was configured. ``settings`` has every option of the core by its dotted key, and those of tables."""

    server: ServerConfig
    store: StoreConfig
    scheduler: SchedulerConfig
    runner: RunnerConfig
    plugins: PluginsConfig
    logging: LoggingConfig
    listeners: Mapping[str, ListenerConfig]
    models: Mapping[str, ModelSection]
    settings: Mapping[str, Setting]
    plugin_tables: Mapping[str, RawTable]
    plugin_flags: Mapping[str, Mapping[str, str]]
    places: Places
    environment: Mapping[str, str]
    file: Path | None = None
    notes: tuple[Note, ...] = ()

    def explain(self) -> list[Explained]:
        """Every option of the core with its value and where that came from, in the order of the example file."""
        return explain(self.settings, self.places)


def explain(settings: Mapping[str, Setting], places: Places, prefix: str = "") -> list[Explained]:
    """Rows for *settings*, each key with *prefix* in front."""
    rows = []
    for key, one in settings.items():
        option = one.option
        default = option.default_from(places) if option.default_from is not None else option.default
        text = value_text(option, one.value)
        rows.append(
            Explained(prefix + key, plain(one.value), plain(default), one.source, one.detail, option.applies, text)
        )
    return rows


def plain(value: Any) -> Any:
    """*value* as JSON can hold it."""
    if isinstance(value, Path):
        return str(value)
    return list(value) if isinstance(value, tuple) else value
