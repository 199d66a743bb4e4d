"""The admin routes."""

import json
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, cast

import pytest
from ollamad_unix_socket.routes import admin_routes

from ollamad.plugin import Inference, Library, Reply, RequestContext, Route, Services


class FixedAdmin:
    async def config_show(self) -> Sequence[Mapping[str, Any]]:
        return [{"key": "server.port", "value": 1}]

    async def plugins(self) -> Sequence[Mapping[str, Any]]:
        return [{"name": "grün"}]

    async def status(self) -> Mapping[str, Any]:
        return {"pid": 7}


class Request:
    method, path, query = "GET", "/", ""
    params: Mapping[str, str] = {}
    headers: Mapping[str, str] = {}
    context = RequestContext("id", 0, "unix", "admin", "unix:1")

    async def body(self) -> bytes:
        return b""

    async def chunks(self) -> AsyncIterator[bytes]:
        yield b""


def routes() -> dict[str, Route]:
    services = Services(cast(Inference, None), cast(Library, None), FixedAdmin(), "1", "2")
    return {route.path: route for route in admin_routes(services)}


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("/ollamad/config", {"options": [{"key": "server.port", "value": 1}]}),
        ("/ollamad/plugins", {"plugins": [{"name": "grün"}]}),
        ("/ollamad/status", {"pid": 7}),
    ],
)
async def test_views(path: str, value: Any) -> None:
    """Each view is JSON of what the admin service says."""
    reply = await routes()[path].handler(Request())
    assert isinstance(reply, Reply)
    assert (reply.status, json.loads(reply.body)) == (200, value)


def test_all_are_for_admins() -> None:
    """No listener of a lower profile shows them."""
    assert {route.profile for route in routes().values()} == {"admin"}
