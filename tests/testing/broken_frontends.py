"""Fakes that each break one rule of the frontend contract; run by test_frontend_contract.py, not collected by name.

``breaks`` names the one test that has to fail.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

import pytest

from ollamad.plugin import (
    Answer,
    Frontend,
    HttpRequest,
    InferenceRequest,
    Listener,
    Message,
    ModelNotFound,
    Piece,
    Reply,
    Route,
    Services,
    Stream,
)
from ollamad.testing.contracts import Example, FrontendContract


class Whole(Frontend):
    """Keeps every rule; a subclass breaks one."""

    name = "whole"
    services: Services

    def routes(self, services: Services) -> Sequence[Route]:
        self.services = services
        return [Route("GET", "/say/{name}", self.say), Route("POST", "/say/{name}", self.say, "manage")]

    async def say(self, request: HttpRequest) -> Any:
        try:
            model = await self.services.inference.resolve(request.params["name"])
        except ModelNotFound as error:
            return Reply(404, str(error).encode(), "text/plain")
        wanted = InferenceRequest(model, messages=(Message("user", "hi"),))
        return Stream(self.text(await self.services.inference.chat(request.context, wanted)), content_type="text/plain")

    async def text(self, answer: Answer) -> AsyncIterator[bytes]:
        try:
            async for event in answer:
                if isinstance(event, Piece):
                    yield event.text.encode()
        finally:
            await answer.aclose()


class Fake(FrontendContract):
    breaks = ""
    plugin_module = "ollamad.plugin"
    examples = (Example("GET", "/say/m"), Example("POST", "/say/m", b"hello"))
    frontend_type: type[Frontend] = Whole

    @pytest.fixture
    def frontend(self) -> Frontend:
        return self.frontend_type()


class TestWhole(Fake):
    """Breaks nothing."""


class TestHeavy(Fake):
    breaks = "test_importing_the_plugin_stays_light"
    plugin_module = "ollamad.http"


class TestOddName(Fake):
    breaks = "test_the_name_is_a_config_key"

    class frontend_type(Whole):
        name = "two words"


class TestAsksAtStart(Fake):
    breaks = "test_giving_routes_asks_nothing"

    class frontend_type(Whole):
        def routes(self, services: Services) -> Sequence[Route]:
            services.inference.running()
            return super().routes(services)


class TestChangesItsMind(Fake):
    breaks = "test_routes_are_the_same_each_time"

    class frontend_type(Whole):
        asked = 0

        def routes(self, services: Services) -> Sequence[Route]:
            self.asked += 1
            return [*super().routes(services), Route("GET", f"/more/{self.asked}", self.say_nothing)]

        async def say_nothing(self, request: HttpRequest) -> Reply:
            return Reply()


class TestSmallMethod(Fake):
    breaks = "test_routes_are_legal"

    class frontend_type(Whole):
        def routes(self, services: Services) -> Sequence[Route]:
            return [*super().routes(services), Route("get", "/small/{name}", self.say)]


class TestTwice(Fake):
    breaks = "test_routes_are_legal"

    class frontend_type(Whole):
        def routes(self, services: Services) -> Sequence[Route]:
            return [*super().routes(services), Route("GET", "/say/{other}", self.by_other)]

        async def by_other(self, request: HttpRequest) -> Reply:
            return Reply()


class TestUnknownProfile(Fake):
    breaks = "test_profiles_are_known"

    class frontend_type(Whole):
        def routes(self, services: Services) -> Sequence[Route]:
            return [*super().routes(services), Route("GET", "/king/{name}", self.say, "king")]  # type: ignore[arg-type]


class TestPlainFunction(Fake):
    breaks = "test_handlers_are_coroutine_functions"

    class frontend_type(Whole):
        def routes(self, services: Services) -> Sequence[Route]:
            return [*super().routes(services), Route("GET", "/plain", lambda request: Reply())]  # type: ignore[arg-type]


class TestTwoPlaces(Fake):
    breaks = "test_listeners_are_legal"

    class frontend_type(Whole):
        def listeners(self, options: Mapping[str, Any]) -> Sequence[Listener]:
            return [Listener("both", "admin", tcp=("127.0.0.1", 0), unix="/tmp/socket")]


class TestAnswersNothing(Fake):
    breaks = "test_examples_are_served"

    class frontend_type(Whole):
        async def say(self, request: HttpRequest) -> Any:
            return await super().say(request) if request.method == "GET" else {"status": 200}


class TestFailsOnOddBodies(Fake):
    breaks = "test_odd_bodies_are_answered"

    class frontend_type(Whole):
        async def say(self, request: HttpRequest) -> Any:
            (await request.body()).decode()
            return await super().say(request)


class TestLetsErrorsOut(Fake):
    breaks = "test_an_unknown_model_is_an_answer"

    class frontend_type(Whole):
        async def say(self, request: HttpRequest) -> Any:
            await self.services.inference.resolve(request.params["name"])
            return await super().say(request)


class TestForgetsAtTheEnd(Fake):
    breaks = "test_whole_answers_are_closed"

    class frontend_type(Whole):
        async def text(self, answer: Answer) -> AsyncIterator[bytes]:
            try:
                async for event in answer:
                    yield getattr(event, "text", "").encode()
            except GeneratorExit:
                await answer.aclose()
                raise


class TestForgetsTheLeaver(Fake):
    breaks = "test_a_stream_that_is_left_is_closed"

    class frontend_type(Whole):
        async def text(self, answer: Answer) -> AsyncIterator[bytes]:
            async for event in answer:
                yield getattr(event, "text", "").encode()
            await answer.aclose()
