"""What a new configuration would change, decided from when each option acts. Pure: nothing is applied here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias, TypeVar

from ollamad.config.sections import Config


@dataclass(frozen=True, slots=True)
class Applied:
    """Every change acts at once; ``keys`` may be empty."""

    keys: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class NeedsReload:
    """Some changes act when a model is loaded next. ``models``: which; empty means any."""

    keys: tuple[str, ...]
    models: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class NeedsRestart:
    """Some changes act only after a restart of the daemon."""

    keys: tuple[str, ...]


V = TypeVar("V")
Outcome: TypeAlias = Applied | NeedsReload | NeedsRestart


def apply(old: Config, new: Config) -> Outcome:
    """The strongest need among the options that differ, with the keys that have it."""
    changed = {
        key: one.option.applies for key, one in _both(old.settings, new.settings).items() if _differs(old, new, key)
    }
    tables = [name for name in _both(old.plugin_tables, new.plugin_tables) if _table_differs(old, new, name)]
    restart = [key for key, applies in changed.items() if applies == "restart"] + [f"plugins.{one}" for one in tables]
    if restart:
        return NeedsRestart(tuple(restart))
    models = tuple(name for name in _both(old.models, new.models) if old.models.get(name) != new.models.get(name))
    general = [key for key, applies in changed.items() if applies == "next load" and not key.startswith("models.")]
    if general:
        return NeedsReload(tuple(general))
    if models:
        return NeedsReload(tuple(f"models.{name}" for name in models), models)
    return Applied(tuple(changed))


def _both(old: Mapping[str, V], new: Mapping[str, V]) -> dict[str, V]:
    return {**old, **new}


def _differs(old: Config, new: Config, key: str) -> bool:
    before, after = old.settings.get(key), new.settings.get(key)
    return before is None or after is None or before.value != after.value


def _table_differs(old: Config, new: Config, plugin: str) -> bool:
    before, after = old.plugin_tables.get(plugin), new.plugin_tables.get(plugin)
    return (before.values if before else {}) != (after.values if after else {})
