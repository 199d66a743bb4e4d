"""The API over a real socket with one model that nobody runs: enough for what never reaches a model."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any, cast

import pytest
from ollamad_ollama_api import OllamaApi

from ollamad.errors import InvalidName, ModelNotFound
from ollamad.http import HttpServer, HttpSettings, RouteTable
from ollamad.names import is_valid, parse_name, parse_reference, short
from ollamad.plugin import Admin, Inference, Library, Listener, ResolvedModel, Services


class Names:
    """Knows `rp-chat`, and every rule about names."""

    async def resolve(self, name: str, *, align_case: bool = True) -> ResolvedModel:
        parsed = parse_name(parse_reference(name).base)
        if not is_valid(parsed):
            raise InvalidName(name)
        if parsed.model != "rp-chat":
            raise ModelNotFound(name, short(parsed))
        return ResolvedModel(name, parsed, short(parsed), "d" * 64, (), capabilities=("completion",))

    async def unload(self, model: ResolvedModel) -> None:
        assert is_valid(model.name)

    async def show(self, name: str, **options: Any) -> Any:
        return await self.resolve(name)

    async def list(self) -> list[Any]:
        return []


@pytest.fixture
async def port() -> AsyncIterator[int]:
    """The port of the server."""
    names = Names()
    services = Services(cast(Inference, names), cast(Library, names), cast(Admin, names), "0.1.0", "0.32.1")
    table = RouteTable()
    table.add("ollama-api", OllamaApi().routes(services))
    loop = asyncio.get_running_loop()
    server = HttpServer(
        table, HttpSettings(), access_log=lambda record: None, spawn=lambda work, name: loop.create_task(work)
    )
    bound = await server.start([Listener("default", "manage", tcp=("127.0.0.1", 0))])
    yield int(bound[0].address[1])
    await server.stop()
