"""The admin routes: read-only views of the daemon, as JSON."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import Any

from ollamad.plugin import Handler, HttpRequest, Reply, Route, Services


def admin_routes(services: Services) -> tuple[Route, ...]:
    """``GET /ollamad/config``, ``/ollamad/plugins`` and ``/ollamad/status``."""
    admin = services.admin
    return (
        Route("GET", "/ollamad/config", _view("options", admin.config_show), "admin"),
        Route("GET", "/ollamad/plugins", _view("plugins", admin.plugins), "admin"),
        Route("GET", "/ollamad/status", _view("", admin.status), "admin"),
    )


def _view(key: str, read: Callable[[], Awaitable[Any]]) -> Handler:
    """Answer what *read* gives, under *key* where that is no object itself."""

    async def handler(request: HttpRequest) -> Reply:
        value = await read()
        return Reply(200, json.dumps({key: value} if key else value, ensure_ascii=False).encode())

    return handler
