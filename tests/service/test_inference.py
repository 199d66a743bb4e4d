"""Requests become tasks, answers become events, and a lease is given back however a request ends."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from ollamad.errors import (
    CapabilityMissing,
    InvalidRequest,
    LoadFailed,
    OptionTypeError,
    PromptTooLong,
    QueueFull,
    RequestCancelled,
    RunnerDied,
    RunnerFailed,
    Unsupported,
)
from ollamad.plugin.frontend import EmbedRequest, InferenceRequest, RequestContext
from ollamad.scheduler.loop import Scheduler
from ollamad.scheduler.settings import SchedulerSettings
from ollamad.service.inference import InferenceService, ModelSettings
from ollamad.types import (
    Device,
    Finished,
    Memory,
    Message,
    ModelConfig,
    ModelFacts,
    ModelName,
    Piece,
    ResolvedModel,
    Timings,
    WeightsRef,
)
from ollamad.wire.messages import Chat, Delta, Done, Embed, Generate, LoadSpec, Ready, Render

ENDLESS = object()


def model(name: str = "m", **changes: Any) -> ResolvedModel:
    full = ModelName("registry.ollama.ai", "library", name, "latest")
    made = ResolvedModel(
        name,
        full,
        f"{name}:latest",
        f"digest-{name}",
        (WeightsRef(f"sha256:{name}", 1),),
        facts=ModelFacts(context_length=2048),
        capabilities=("completion",),
        prompt_path="native",
    )
    return replace(made, **changes)


class Runner:
    """A connection that answers from a script: events, an exception, or `ENDLESS`."""

    def __init__(self, spec: LoadSpec, script: list[Any]) -> None:
        self.ready = Ready(
            (Memory("cpu", "cpu", 5, 3, 2),), spec.ctx_len, spec.slots, 512, 2048, 1, 1, True, False, False
        )
        self.closed = asyncio.Event()
        self.reason = ""
        self.script = script
        self.tasks: list[Any] = []
        self.streams: list[Stream] = []

    def submit(self, request_id: str, task: Any, client: str = "") -> Stream:
        if self.closed.is_set():
            raise RunnerDied(self.reason)
        self.tasks.append(task)
        self.streams.append(Stream(self.script))
        return self.streams[-1]

    async def stop(self, grace_s: float = 0.0) -> None:
        self.closed.set()


class Stream:
    def __init__(self, script: list[Any]) -> None:
        self.script = list(script)
        self.closed = False

    def __aiter__(self) -> Stream:
        return self

    async def __anext__(self) -> Any:
        if not self.script:
            raise StopAsyncIteration
        event = self.script.pop(0)
        if event is ENDLESS:
            await asyncio.get_running_loop().create_future()
        if isinstance(event, Exception):
            raise event
        return event

    async def aclose(self) -> None:
        self.closed = True


@dataclass
class Bench:
    """The service over a real scheduler whose runners follow ``script``."""

    script: list[Any] = field(default_factory=lambda: [Done("r", reason="stop")])
    settings: dict[str, Any] = field(default_factory=dict)
    model_settings: ModelSettings = field(default_factory=ModelSettings)
    context_length: int = 0
    runners: list[Runner] = field(default_factory=list)
    tasks: list[asyncio.Task[Any]] = field(default_factory=list)
    now: int = 0

    def __post_init__(self) -> None:
        self.gate = asyncio.Event()
        self.gate.set()
        self.scheduler = Scheduler(
            self, self.spawn, SchedulerSettings(**{"num_parallel": 1, **self.settings}), self.devices
        )
        self.scheduler.start()
        self.service = InferenceService(
            self,
            self.scheduler,
            settings_of=lambda _: self.model_settings,
            context_length=lambda: self.context_length,
            now_ns=lambda: self.now,
        )

    def spawn(self, coroutine: Any, name: str) -> asyncio.Task[Any]:
        self.tasks.append(asyncio.get_running_loop().create_task(coroutine, name=name))
        return self.tasks[-1]

    async def devices(self) -> list[Device]:
        return [Device("cpu", "cpu", "CPU", 2**40, 2**40)]

    async def start(self, spec: LoadSpec, *, stall_timeout_ns: int | None = None) -> Runner:
        await self.gate.wait()
        self.runners.append(Runner(spec, self.script))
        return self.runners[-1]

    async def resolve(self, name: str, *, align_case: bool = True) -> ResolvedModel:
        return model(name)

    @property
    def task(self) -> Any:
        return self.runners[-1].tasks[-1]

    @property
    def leases(self) -> int:
        return self.scheduler.status()["leases"]

    async def until(self, holds: Callable[[], Any]) -> None:
        for _ in range(2000):
            if holds():
                return
            await asyncio.sleep(0)
        raise AssertionError("it does not come to hold")

    async def generate(self, of: ResolvedModel | None = None, **fields: Any) -> list[Any]:
        fields.setdefault("prompt", "hi")
        answer = await self.service.generate(context(), InferenceRequest(of or model(), **fields))
        return [event async for event in answer]

    async def chat(self, of: ResolvedModel | None = None, **fields: Any) -> list[Any]:
        fields.setdefault("messages", (Message("user", "hi"),))
        answer = await self.service.chat(context(), InferenceRequest(of or model(), **fields))
        return [event async for event in answer]


def context(request_id: str = "r") -> RequestContext:
    return RequestContext(request_id, 0, "default", "inference", "test")


@pytest.fixture
async def bench() -> AsyncIterator[Callable[..., Bench]]:
    made: list[Bench] = []

    def make(**fields: Any) -> Bench:
        made.append(Bench(**fields))
        return made[-1]

    yield make
    for one in made:
        await one.scheduler.close()
        for task in one.tasks:
            task.cancel()
        await asyncio.gather(*one.tasks, return_exceptions=True)


EMBEDS = {"capabilities": ("embedding",)}


# --- answers ----------------------------------------------------------------------------------


async def test_events_of_an_answer(bench):
    """Deltas become pieces and the last message the end, with all that the runner counted."""
    timings = Timings(3, 1, 10, 2, 20)
    done = Done("r", reason="length", timings=timings, tokens=(1, 2), prompt_cut_tokens=4, context_shifts=1)
    b = bench(script=[Delta("r", "a"), Delta("r", "b", "thinking", 1), done])
    b.now = 77
    assert await b.generate() == [
        Piece("a"),
        Piece("b", "thinking", 1),
        Finished("length", timings, 77, (1, 2), prompt_cut_tokens=4, context_shifts=1),
    ]
    await b.until(lambda: b.leases == 0)


async def test_answer_tells_queue_and_reload(bench):
    """Load time, time in the queue and the reason of a reload stand on the answer."""
    b = bench()
    await b.generate()
    b.now = 5
    request = InferenceRequest(model(), prompt="x", options={"num_ctx": 256})
    answer = await b.service.generate(context(), request)
    assert (answer.load_ns, answer.reload_reason) == (5, "num_ctx")
    assert answer.queue_ns >= 0
    await answer.aclose()


@pytest.mark.parametrize(
    ("kind", "error", "text"),
    [
        ("invalid", InvalidRequest, "words"),
        ("too_long", PromptTooLong, "words"),
        ("unknown_task", Unsupported, "words"),
        ("cancelled", RequestCancelled, "request canceled"),
        ("template", RunnerFailed, "words"),
        ("internal", RunnerFailed, "an error was encountered while running the model: words"),
        ("memory", RunnerFailed, "an error was encountered while running the model: words"),
        ("slow_reader", RunnerFailed, "words"),
    ],
)
async def test_failures_are_told_by_whose_fault_they_are(bench, kind, error, text):
    """A failed task says whether the input or the runner is at fault, after what came before; its slot is free."""
    b = bench(script=[Delta("r", "a"), RunnerFailed("words", kind)])
    answer = await b.service.generate(context(), InferenceRequest(model(), prompt="x"))
    assert await anext(aiter(answer)) == Piece("a")
    with pytest.raises(error) as caught:
        await anext(aiter(answer))
    assert str(caught.value) == text
    assert type(caught.value) is error
    await b.until(lambda: b.leases == 0)
    with pytest.raises(StopAsyncIteration):
        await anext(aiter(answer))


async def test_memory_failure_expires_models(bench):
    """SCH-32: a runner out of memory makes all models leave."""
    b = bench(script=[RunnerFailed("out of memory", "memory")])
    with pytest.raises(RunnerFailed):
        await b.generate()
    await b.until(lambda: not b.service.running())


async def test_dead_runner_is_told(bench):
    """A runner that dies under an answer is told with its last words."""
    b = bench(script=[RunnerDied("signal: killed")])
    with pytest.raises(RunnerDied, match=r"unexpectedly stopped.*signal: killed"):
        await b.generate()
    await b.until(lambda: b.leases == 0)


# --- a client that leaves ---------------------------------------------------------------------


async def test_leaving_while_running(bench):
    """Closing an answer cancels it in the runner and frees its slot; closing it again is fine."""
    b = bench(script=[Delta("r", "a"), ENDLESS])
    answer = await b.service.chat(context(), InferenceRequest(model(), messages=(Message("user", "x"),)))
    await anext(aiter(answer))
    await answer.aclose()
    await answer.aclose()
    assert b.runners[0].streams[0].closed
    await b.until(lambda: b.leases == 0)


async def test_leaving_while_reading(bench):
    """A client that is cancelled while it waits for the next event frees its slot."""
    b = bench(script=[ENDLESS])
    task = b.spawn(b.generate(), "client")
    await b.until(lambda: b.leases == 1 and b.runners[0].streams)
    task.cancel()
    await b.until(lambda: b.leases == 0)
    assert b.runners[0].streams[0].closed


async def test_leaving_while_loading_and_queued(bench):
    """Clients that leave while loading or queued leave nothing behind."""
    b = bench()
    b.gate.clear()
    clients = [b.spawn(b.generate(), "client") for _ in range(3)]
    await b.until(lambda: b.scheduler.status()["queue"]["waiting"] == 3)
    for client in clients:
        client.cancel()
    await b.until(lambda: b.scheduler.status()["queue"]["waiting"] == 0 and not b.scheduler.status()["models"])
    assert b.runners == []


async def test_six_left_and_a_seventh(bench):
    """Q27: after six answers that were left one after the other the seventh is served."""
    b = bench(script=[Delta("r", "a"), ENDLESS])
    for _ in range(6):
        answer = await b.service.generate(context(), InferenceRequest(model(), prompt="x"))
        await anext(aiter(answer))
        await answer.aclose()
    b.runners[0].script = [Done("r", reason="stop")]
    assert len(await b.generate()) == 1


# --- checks -----------------------------------------------------------------------------------


@pytest.mark.parametrize("call", ["generate", "chat", "load", "render"])
async def test_embedding_models_do_not_write(bench, call):
    """GE-04, CH-04: a model without completion is refused before its options are looked at or it is loaded."""
    b = bench()
    request = InferenceRequest(model(**EMBEDS), options={"num_ctx": "big"})
    more = {"chat": True} if call == "render" else {}
    with pytest.raises(CapabilityMissing) as caught:
        await getattr(b.service, call)(context(), request, **more)
    assert (caught.value.requested, caught.value.missing) == ("m", ("completion",))
    assert str(caught.value) == "registry.ollama.ai/library/m:latest does not support completion"
    assert b.runners == []


async def test_wrong_option_is_refused_before_the_queue(bench):
    """OP-20: a wrong type is an error of scheduling; nothing is loaded."""
    b = bench()
    with pytest.raises(OptionTypeError):
        await b.generate(options={"num_ctx": "big"})
    assert b.runners == []


async def test_unknown_option_is_logged(bench, caplog):
    """OP-24: an unknown option is ignored with a warning that names it."""
    await bench().generate(options={"mirostat": 1})
    assert [record.option for record in caplog.records if record.msg == "invalid option provided"] == ["mirostat"]


async def test_too_large_context_is_reduced_with_a_warning(bench, caplog):
    """More context than the model was trained for is reduced, not refused."""
    b = bench()
    await b.generate(options={"num_ctx": 99999})
    assert b.task.num_ctx == 2048
    assert "requested context size too large for model" in caplog.text


async def test_go_templates_are_refused_but_raw_and_load_work(bench):
    """A model whose template is Go answers nothing yet but raw prompts, and can be loaded."""
    b = bench()
    go = model(prompt_path="go", template="{{ .Prompt }}")
    for call in (b.generate, b.chat):
        with pytest.raises(Unsupported, match="Go templates are not available in this version of ollamad"):
            await call(go)
    await b.generate(go, raw=True)
    assert b.task.prompt == "hi"
    assert await b.service.load(context(), InferenceRequest(go)) >= 0


async def test_old_vision_model(bench):
    """The first packaging of llama3.2-vision is refused with the way out."""
    old = model(config=ModelConfig(model_families=("mllama",)), projectors=(WeightsRef("sha256:p", 1),))
    with pytest.raises(LoadFailed, match=r"ollama pull llama3.2-vision"):
        await bench().chat(old)


async def test_queue_full(bench):
    """A full queue is told, and the requests in it are served."""
    b = bench(settings={"max_queue": 1})
    b.gate.clear()
    first = b.spawn(b.generate(), "client")
    await b.until(lambda: b.scheduler.status()["queue"]["waiting"] == 1)
    with pytest.raises(QueueFull):
        await b.generate()
    b.gate.set()
    assert len(await first) == 1


# --- tasks ------------------------------------------------------------------------------------


async def test_generate_on_the_native_path(bench):
    """A prompt becomes a talk through the model's own template, and its tokens come back."""
    b = bench()
    await b.generate(model(system="S"), prefix_tokens=(1, 2), think=False)
    task = b.task
    assert isinstance(task, Generate)
    assert task.messages == (Message("system", "S"), Message("user", "hi"))
    assert (task.prompt, task.prefix_tokens, task.wants_context, task.think) == ("", (1, 2), True, False)


@pytest.mark.parametrize(("fields", "wants_context"), [({}, True), ({"raw": True}, False)], ids=["GE-32", "GE-15"])
async def test_prompts_that_stay_as_they_are(bench, fields, wants_context):
    """GE-15, GE-20, GE-32: raw prompts, and those of a model without a template, are passed on unchanged."""
    b = bench()
    await b.generate(model(prompt_path="none", system="S"), prompt="plain prompt", **fields)
    assert (b.task.prompt, b.task.messages, b.task.wants_context) == ("plain prompt", (), wants_context)


@pytest.mark.parametrize("path", ["native", "none"])
async def test_chat(bench, path):
    """CH-15, CH-21: a talk goes to the runner as messages, also without any template."""
    b = bench()
    await b.chat(model(prompt_path=path, system="S"), truncate=False, shift=False)
    task = b.task
    assert isinstance(task, Chat)
    assert task.messages == (Message("system", "S"), Message("user", "hi"))
    assert (task.truncate, task.shift) == (False, False)


@pytest.mark.parametrize(
    ("call", "asked", "sent"),
    [("generate", 0, 20480), ("chat", 0, 0), ("generate", -1, 20480), ("chat", 100, 100), ("chat", -2, 20480)],
)
async def test_num_predict(bench, call, asked, sent):
    """OP-26, Q24: no limit means ten contexts; zero is no limit on generate, and nothing on chat."""
    b = bench()
    await getattr(b, call)(options={"num_predict": asked})
    assert b.task.parameters.num_predict == sent


@pytest.mark.parametrize(
    ("first", "second", "num_ctx"),
    [({"num_ctx": 512}, {"num_ctx": 512}, 512), ({}, {}, 2048), ({"num_ctx": 9999}, {"num_ctx": 3000}, 2048)],
    ids=["same", "automatic", "PT-21"],
)
async def test_context_for_fitting(bench, first, second, num_ctx):
    """PT-21, PT-22: a prompt is fitted into what was asked for, or into what is loaded if that is less."""
    b = bench()
    await b.generate(options=first)
    await b.generate(options=second)
    assert b.task.num_ctx == num_ctx
    assert len(b.runners) == 1


async def test_sampling_options_do_not_reload(bench):
    """OP-33: other sampling options use the model that is loaded, other load options replace it (OP-34)."""
    b = bench()
    await b.generate(options={"temperature": 0})
    await b.generate(options={"temperature": 1, "seed": 4})
    assert (len(b.runners), b.task.parameters.temperature) == (1, 1.0)
    await b.generate(options={"num_batch": 64})
    assert len(b.runners) == 2


async def test_settings_of_the_model(bench):
    """The model's section in the configuration gives parameters and the hold time of a fresh load."""
    b = bench(model_settings=ModelSettings(0, {"top_k": 3}), context_length=1024)
    await b.generate()
    assert (b.task.parameters.top_k, b.task.num_ctx) == (3, 1024)
    await b.until(lambda: not b.service.running())


# --- load, unload, running, render ------------------------------------------------------------


async def test_load_then_running_then_unload(bench):
    """LUN-01, LUN-03: a load leaves the model listed under its name until it is unloaded."""
    b = bench()
    b.now = 9
    assert await b.service.load(context(), InferenceRequest(await b.service.resolve("m"))) == 9
    await b.until(lambda: b.leases == 0)
    (running,) = b.service.running()
    assert (running.name, running.digest, running.size_bytes, running.ctx_len) == ("m:latest", "digest-m", 10, 2048)
    assert (running.size_vram_bytes, running.slots, running.busy) == (0, 1, 0)
    await b.service.unload(model())
    await b.until(lambda: not b.service.running())
    await b.service.unload(model("other"))


async def test_render(bench):
    """The rendered prompt comes from the runner; a prompt that stays as it is needs no task."""
    b = bench(script=[Done("r", text="rendered")])
    request = InferenceRequest(model(), messages=(Message("user", "hi", images=(b"x",)),))
    rendered = await b.service.render(context(), request, chat=True)
    assert (rendered.prompt, rendered.image_count) == ("rendered", 1)
    assert isinstance(b.task, Render)
    tasks = len(b.runners[0].tasks)
    raw = InferenceRequest(model(), prompt="as it is", raw=True)
    assert (await b.service.render(context(), raw, chat=False)).prompt == "as it is"
    assert len(b.runners[0].tasks) == tasks


# --- embed ------------------------------------------------------------------------------------


async def test_embed(bench):
    """EM-16: all inputs go down in one task, and vectors come back in order with the sum of tokens."""
    b = bench(script=[Done("r", count=7, vectors=(b"1", b"2"))])
    b.now = 4
    answer = await b.service.embed(context(), EmbedRequest(model(**EMBEDS), ("a", "b"), dimensions=3))
    assert (answer.vectors, answer.prompt_tokens, answer.load_ns, answer.total_ns) == ((b"1", b"2"), 7, 4, 4)
    assert b.task == Embed(("a", "b"), True, True, 3, 2048, 512)
    await b.until(lambda: b.leases == 0)


async def test_embed_of_nothing_loads(bench):
    """EM-03, EM-17: without inputs the model is loaded; a model that writes text may be loaded this way too."""
    b = bench()
    assert (await b.service.embed(context(), EmbedRequest(model(), ()))).vectors == ()
    assert b.runners[0].tasks == []


async def test_raw_embedding(bench):
    """EM-18: the older form is neither cut nor normalised."""
    b = bench()
    await b.service.embed(context(), EmbedRequest(model(**EMBEDS), ("a",), raw=True))
    assert (b.task.truncate, b.task.normalize) == (False, False)


@pytest.mark.parametrize(
    ("error", "kind", "text"),
    [
        pytest.param(
            RunnerFailed("input (103 tokens) is too large to process. increase the physical batch size"),
            PromptTooLong,
            "the input length exceeds the context length",
            id="EM-09",
        ),
        pytest.param(
            RunnerFailed("input length exceeds the context length"),
            PromptTooLong,
            "the input length exceeds the context length",
            id="EM-10",
        ),
        pytest.param(
            RunnerFailed("request (302 tokens) exceeds the available context size"),
            PromptTooLong,
            "the input length exceeds the context length",
            id="EM-11",
        ),
        pytest.param(RunnerFailed("backend failed"), RunnerFailed, "backend failed", id="EM-12"),
        pytest.param(
            RunnerFailed("embedding contains NaN or Inf values", "invalid"),
            InvalidRequest,
            "embedding contains NaN or Inf values",
            id="EM-07",
        ),
        pytest.param(
            RunnerFailed("input after truncation exceeds maximum context length", "invalid"),
            InvalidRequest,
            "input after truncation exceeds maximum context length",
            id="EM-15",
        ),
    ],
)
async def test_embedding_failures(bench, error, kind, text):
    """All ways of being too long have one text; a runner's own failure keeps its words."""
    b = bench(script=[error])
    with pytest.raises(kind) as caught:
        await b.service.embed(context(), EmbedRequest(model(**EMBEDS), ("a",)))
    assert (type(caught.value), str(caught.value)) == (kind, text)
    await b.until(lambda: b.leases == 0)


async def test_a_runner_without_an_answer(bench):
    """A runner that ends a task without any answer is told as its failure, not waited for."""
    b = bench(script=[])
    with pytest.raises(RunnerFailed, match="without an answer"):
        await b.service.embed(context(), EmbedRequest(model(**EMBEDS), ("a",)))
