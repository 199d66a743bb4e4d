"""Plugins that break one rule each; named by `plugins.extra` in tests of a real daemon."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Any

from ollamad.plugin import Frontend, HttpRequest, Reply, Route, Services, hookimpl


class Raises:
    @hookimpl
    def ollamad_register_frontends(self, register: Callable[[Frontend], None]) -> None:
        raise RuntimeError("broken on purpose")


class Exits:
    @hookimpl
    def ollamad_register_frontends(self, register: Callable[[Frontend], None]) -> None:
        sys.exit("no wish to go on")


class OneRoute(Frontend):
    """A frontend with one route."""

    def __init__(self, name: str, path: str) -> None:
        self.name = name
        self._path = path

    def routes(self, services: Services) -> Sequence[Route]:
        return (Route("GET", self._path, self._answer, "inference"),)

    async def _answer(self, request: HttpRequest) -> Reply:
        return Reply(200, self.name.encode(), "text/plain")


class Registers:
    """Registers one frontend."""

    def __init__(self, frontend: Frontend) -> None:
        self._frontend = frontend

    @hookimpl
    def ollamad_register_frontends(self, register: Callable[[Frontend], None]) -> None:
        register(self._frontend)


class Misspelt:
    @hookimpl
    def ollamad_register_frontend(self, register: Any) -> None:
        """No such hook."""


raises = Raises()
exits = Exits()
taken = Registers(OneRoute("taken", "/api/version"))
namesake = Registers(OneRoute("ollama-api", "/namesake"))
good = Registers(OneRoute("good", "/good"))
misspelt = Misspelt()
