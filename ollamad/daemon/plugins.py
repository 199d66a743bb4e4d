"""Loads the plugins, checks their sections, and joins what they contribute."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ollamad.config.load import plugin_settings
from ollamad.config.sections import Config, Explained, Note, Setting, explain
from ollamad.errors import ConfigError, PluginError
from ollamad.http.routing import RouteTable
from ollamad.plugin._manager import Attached, PluginManager, Record

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Plugins:
    """The manager with the checked sections of what it loaded."""

    manager: PluginManager
    settings: dict[str, Mapping[str, Setting]] = field(default_factory=dict)
    notes: list[Note] = field(default_factory=list)

    @property
    def sections(self) -> dict[str, Mapping[str, Any]]:
        """Plugin name -> its options' values."""
        return {name: {key: one.value for key, one in settings.items()} for name, settings in self.settings.items()}

    def offering_backends(self, extra: Sequence[str]) -> tuple[str, ...]:
        """Those of ``plugins.extra`` that a child needs: broken ones would break or delay it as they did here."""
        useful = {record.name for record in self.manager.records if record.status == "loaded" and record.backends}
        return tuple(name for name in extra if name in useful)

    @property
    def failed(self) -> tuple[str, ...]:
        """Names of plugins that could not be loaded."""
        return tuple(record.name for record in self.manager.records if record.status == "failed")

    def explain(self, config: Config) -> list[Explained]:
        """Rows of ``config show`` for the options of plugins."""
        rows = []
        for name, settings in self.settings.items():
            rows += explain(settings, config.places, f"plugins.{name}.")
        return rows

    def join_routes(self, attached: Sequence[Attached], table: RouteTable) -> None:
        """Put the routes into *table*; a plugin whose route is taken by the core fails."""
        for part in attached:
            try:
                table.add(part.plugin, part.routes)
            except PluginError as error:
                self.manager.fail(part.plugin, str(error))

    def tell(self) -> None:
        """Log what was noticed, and each plugin that failed."""
        for note in self.notes:
            log.warning(note.message, extra={"attributes": note.attributes})
        for record in self.manager.records:
            if record.status == "failed":
                tell_failed(record.name, record.reason)


def load_plugins(config: Config) -> Plugins:
    """Load every plugin. Raises: ConfigError for the section of a loaded one."""
    section = config.plugins
    manager = PluginManager(section.disabled, section.extra, section.load_timeout_s)
    manager.load()
    plugins = Plugins(manager)
    for record in [one for one in manager.records if one.status == "loaded"]:
        _check_section(plugins, record, config)
    loaded = {one.name for one in manager.records if one.status == "loaded"}
    for name in [*config.plugin_tables, *config.plugin_flags]:
        if name not in loaded:
            plugins.notes.append(Note("options of a plugin that is not loaded", {"plugin": name}))
    return plugins


def _check_section(plugins: Plugins, record: Record, config: Config) -> None:
    try:
        settings, notes = plugin_settings(config, record.name, record.options)
    except ConfigError:
        raise
    except Exception as error:  # a check or default of the plugin's own that raises
        plugins.manager.fail(record.name, f"options: {type(error).__name__}: {error}")
        return
    plugins.settings[record.name] = settings
    plugins.notes += notes


def tell_failed(name: str, reason: str) -> None:
    """Log that a plugin failed."""
    log.warning("plugin failed", extra={"plugin": name, "reason": reason})
