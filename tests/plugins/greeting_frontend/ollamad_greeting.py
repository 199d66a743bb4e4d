"""A frontend by a stranger: GET /greeting/NAME lets a model say hello, in plain text."""

from ollamad.plugin import Frontend, InferenceRequest, Message, ModelNotFound, Option, Reply, Route, Stream, hookimpl


class Greeting(Frontend):
    name = "greeting"

    def routes(self, services):
        async def greet(request):
            try:
                model = await services.inference.resolve(request.params["name"])
            except ModelNotFound as error:
                return Reply(404, str(error).encode(), "text/plain; charset=utf-8")
            messages = (Message("user", request.query or "Who are you?"),)
            answer = await services.inference.chat(
                request.context, InferenceRequest(model, messages=messages, think=False)
            )

            async def text():
                try:
                    async for event in answer:
                        if hasattr(event, "text"):
                            yield event.text.encode()
                finally:
                    await answer.aclose()

            return Stream(text(), content_type="text/plain; charset=utf-8")

        return [Route("GET", "/greeting/{name}", greet)]


@hookimpl
def ollamad_options():
    return [Option("tone", "string", "friendly", "How to greet.")]


@hookimpl
def ollamad_register_frontends(register):
    register(Greeting())
