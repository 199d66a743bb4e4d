"""What every `Frontend` promises, as tests: subclass, give the fixtures, and pytest runs them.

```python
class TestMine(FrontendContract):
    plugin_module = "my_frontend"
    examples = (Example("POST", "/mine", b'{"model": "m"}'),)

    @pytest.fixture
    def frontend(self) -> Frontend:
        return MyFrontend()
```

Each test is one rule. The services are fakes that know one model, ``m``; no server runs.
"""

from __future__ import annotations

import asyncio
import inspect
import re
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from ollamad.plugin.frontend import PROFILES, Frontend, Reply, RequestContext, Route, Stream
from ollamad.testing.fake_services import FakeServices

#: Bodies that no API expects: a handler answers them, it does not fail.
ODD_BODIES = (b"", b"{}", b"[]", b'"m"', b"{", b"\xff\xfe", b'{"model": 7}')

#: Modules a frontend has no business with: the web side of the daemon, and what makes it heavy.
FOREIGN = ("ollamad.http", "ollamad.daemon", "ollamad.engine", "aiohttp", "fastapi", "starlette", "llama_cpp", "numpy")

VARIABLE = re.compile(r"\{([^{}/]*)\}")


@dataclass(frozen=True)
class Example:
    """A request that the frontend serves for the model ``m``; *path* is a real path, not a pattern."""

    method: str
    path: str
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)


class AskedRequest:
    """An `HttpRequest` as a handler gets it."""

    def __init__(self, example: Example, params: Mapping[str, str]) -> None:
        self.method = example.method
        self.path, _, self.query = example.path.partition("?")
        self.params = params
        self.headers = {name.lower(): value for name, value in example.headers.items()}
        self.context = RequestContext("test", 0, "test", "admin", "127.0.0.1:1")
        self._body = example.body

    async def body(self) -> bytes:
        return self._body

    async def chunks(self) -> AsyncIterator[bytes]:
        yield self._body


class FrontendContract:
    """The rules."""

    plugin_module = ""
    examples: Sequence[Example] = ()
    patience_s = 10.0

    @pytest.fixture
    def frontend(self) -> Frontend:
        """The frontend under test."""
        raise NotImplementedError("give a fixture `frontend`")

    @pytest.fixture
    def options(self) -> Mapping[str, Any]:
        """The frontend's own config section, as `listeners` gets it."""
        return {}

    @pytest.fixture
    def fakes(self) -> FakeServices:
        """The services, and what was asked of them."""
        return FakeServices()

    @pytest.fixture
    def routes(self, frontend: Frontend, fakes: FakeServices) -> Sequence[Route]:
        """The frontend's routes."""
        return frontend.routes(fakes.services())

    # --- registering

    def test_importing_the_plugin_stays_light(self) -> None:
        """Importing the plugin loads no web library and no room of the daemon, and prints nothing."""
        assert self.plugin_module, "say which module the entry point names"
        script = f"import sys; sys.path[:] = {sys.path!r}; import {self.plugin_module}"
        tell = f"print([one for one in {FOREIGN!r} if one in sys.modules])"
        command = [sys.executable, "-c", f"{script}; {tell}"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
        assert done.stdout == "[]\n"

    def test_the_name_is_a_config_key(self, frontend: Frontend) -> None:
        """The name can be written in the configuration without quotes."""
        assert re.fullmatch(r"[A-Za-z0-9_-]+", frontend.name)

    def test_giving_routes_asks_nothing(self, frontend: Frontend, fakes: FakeServices) -> None:
        """Giving routes calls no service: the start does not wait for models."""
        frontend.routes(fakes.services())
        assert fakes.calls == []

    def test_routes_are_the_same_each_time(self, frontend: Frontend, fakes: FakeServices) -> None:
        """Asked again, a frontend gives the same routes."""
        first, second = ([_claim(one) for one in frontend.routes(fakes.services())] for _ in range(2))
        assert first == second

    def test_routes_are_legal(self, routes: Sequence[Route]) -> None:
        """Methods are upper-case tokens, paths start with a slash and name a variable once; no route is there twice."""
        for route in routes:
            variables = VARIABLE.findall(route.path)
            assert re.fullmatch(r"[A-Z]+", route.method), route
            assert re.fullmatch(r"(/([^{}/\s?#]*|\{[A-Za-z_]\w*\}))+", route.path), route
            assert len(set(variables)) == len(variables), route
        claims = [(method, VARIABLE.sub("{}", path)) for method, path, _ in map(_claim, routes)]
        assert len(set(claims)) == len(claims)

    def test_profiles_are_known(self, routes: Sequence[Route]) -> None:
        """A route's profile is one that listeners have."""
        assert {route.profile for route in routes} <= set(PROFILES)

    def test_handlers_are_coroutine_functions(self, routes: Sequence[Route]) -> None:
        """A handler is awaited: it is an async function, or an object whose call is one."""
        for route in routes:
            call = getattr(type(route.handler), "__call__", None)  # noqa: B004 - the method is looked at, not whether it is there
            assert inspect.iscoroutinefunction(route.handler) or inspect.iscoroutinefunction(call), route

    def test_listeners_are_legal(self, frontend: Frontend, options: Mapping[str, Any]) -> None:
        """A listener has a name of its own, a known profile and exactly one place."""
        listeners = frontend.listeners(options)
        assert len({one.name for one in listeners}) == len(listeners)
        for one in listeners:
            assert one.profile in PROFILES
            assert [one.tcp, one.unix, one.fd].count(None) == 2

    # --- answering

    def test_examples_are_served(self, routes: Sequence[Route], fakes: FakeServices) -> None:
        """Each example finds its route and gets a `Reply` or a `Stream` that is no error."""
        for example in self.examples:
            status, _ = self._ask(routes, example)
            assert 200 <= status < 300, example

    def test_odd_bodies_are_answered(self, routes: Sequence[Route]) -> None:
        """A body that means nothing gets an answer and no exception."""
        for route in routes:
            for body in ODD_BODIES:
                self._answered(route, Example(route.method, VARIABLE.sub("m", route.path), body), "m")

    def test_an_unknown_model_is_an_answer(self, routes: Sequence[Route], fakes: FakeServices) -> None:
        """Where the model is not there, the client is told so; the handler does not raise."""
        fakes.models = frozenset()
        for example in self.examples:
            self._ask(routes, example)

    def test_whole_answers_are_closed(self, routes: Sequence[Route], fakes: FakeServices) -> None:
        """What was begun is closed once the answer was sent."""
        for example in self.examples:
            self._ask(routes, example)
        assert [answer.closed for answer in fakes.answers] == [True] * len(fakes.answers)

    def test_a_stream_that_is_left_is_closed(self, routes: Sequence[Route], fakes: FakeServices) -> None:
        """A client that leaves after the first chunk ends the answer: its slot is free."""
        for example in self.examples:
            self._ask(routes, example, chunks=1)
        assert [answer.closed for answer in fakes.answers] == [True] * len(fakes.answers)

    # --- how

    def _ask(self, routes: Sequence[Route], example: Example, chunks: int | None = None) -> tuple[int, bytes]:
        for route in routes:
            found = re.fullmatch(VARIABLE.sub(r"(?P<\1>[^/]+)", route.path), example.path.partition("?")[0])
            if found and route.method == example.method:
                return self._run(route, example, found.groupdict(), chunks)
        raise AssertionError(f"no route for {example}")

    def _answered(self, route: Route, example: Example, value: str) -> tuple[int, bytes]:
        return self._run(route, example, dict.fromkeys(VARIABLE.findall(route.path), value), None)

    def _run(self, route: Route, example: Example, params: Mapping[str, str], chunks: int | None) -> tuple[int, bytes]:
        work = _sent(route, AskedRequest(example, params), chunks)
        return asyncio.run(asyncio.wait_for(work, self.patience_s))


def _claim(route: Route) -> tuple[str, str, str]:
    return route.method, route.path, route.profile


async def _sent(route: Route, request: AskedRequest, chunks: int | None) -> tuple[int, bytes]:
    """Send an answer as `http/` does: all of it, or *chunks* chunks until the client leaves."""
    made: Any = route.handler(request)
    answer = await made if inspect.isawaitable(made) else made
    if isinstance(answer, Reply):
        return answer.status, answer.body
    if not isinstance(answer, Stream):
        return 0, b""  # no answer at all: the rule about examples refuses it
    body = b""
    try:
        async for chunk in answer.chunks:
            body += chunk
            chunks = None if chunks is None else chunks - 1
            if chunks == 0:
                break
    finally:
        if (close := getattr(answer.chunks, "aclose", None)) is not None:
            await close()
    return answer.status, body
