"""What admins may see of the daemon: the configuration, the plugins, how it goes. Fulfils `plugin.frontend.Admin`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from ollamad.config.sections import Explained
from ollamad.plugin._manager import Record


class AdminService:
    """Asks the daemon's parts when it is asked; keeps nothing."""

    def __init__(
        self,
        *,
        config: Callable[[], Sequence[Explained]],
        plugins: Callable[[], Sequence[Record]],
        status: Callable[[], Mapping[str, Any]],
        runners: Callable[[], Awaitable[Sequence[Mapping[str, Any]]]],
    ) -> None:
        self._config = config
        self._plugins = plugins
        self._status = status
        self._runners = runners

    async def config_show(self) -> Sequence[Mapping[str, Any]]:
        """One mapping per option: key, value, default, source, detail, applies."""
        return [asdict(row) for row in self._config()]

    async def plugins(self) -> Sequence[Mapping[str, Any]]:
        """One mapping per plugin, in loading order; a failed one says why."""
        return [describe_plugin(record) for record in self._plugins()]

    async def status(self) -> Mapping[str, Any]:
        """How the daemon goes (see `daemon.app` for the keys), and under ``runners`` what each runner counted."""
        return {**self._status(), "runners": list(await self._runners())}


def describe_plugin(record: Record) -> Mapping[str, Any]:
    """A plugin as JSON can hold it."""
    return {
        "name": record.name,
        "status": record.status,
        "reason": record.reason,
        "details": record.details,
        "distribution": record.distribution,
        "version": record.version,
        "backends": [backend.name for backend in record.backends],
        "frontends": [frontend.name for frontend in record.frontends],
    }
