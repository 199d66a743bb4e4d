"""The use cases behind every frontend that runs models: generate, chat, render, embed, load, unload, list running.

Checks stand in the contract's order: capability, options, prompt, queue. What needs the tokenizer
(rendering, fitting the prompt) happens in the runner; here a request becomes one task.
"""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, TypeVar

from ollamad.errors import CapabilityMissing, CloudDisabled, LoadFailed, RunnerFailed, Unsupported
from ollamad.names import full
from ollamad.plugin.frontend import (
    Answer,
    EmbedAnswer,
    EmbedRequest,
    InferenceRequest,
    Rendered,
    RequestContext,
    RunningModel,
)
from ollamad.scheduler.lease import Lease, LeaseRequest
from ollamad.scheduler.loop import Scheduler
from ollamad.scheduler.wish import default_shift
from ollamad.service.answer import RunnerAnswer, RunnerEvents, translate
from ollamad.service.assembly import chat_messages, generate_messages
from ollamad.service.embedding import explain_embedding_failure
from ollamad.service.options import ResolvedOptions, bounded_num_predict, resolve_options
from ollamad.service.unrendered import refuse_unrendered
from ollamad.types import ResolvedModel
from ollamad.wire.messages import Chat, Done, Embed, Generate, Render, Task

OLD_VISION_MODEL = (
    "'llama3.2-vision' is no longer compatible with your version of Ollama and has been replaced by a newer version. "
    "To re-download, run 'ollama pull llama3.2-vision'"
)


class ModelResolver(Protocol):
    """Turns a name into all that it stands for; `service.resolve.Resolver`."""

    async def resolve(self, name: str, *, align_case: bool = True) -> ResolvedModel: ...


@dataclass(frozen=True, slots=True)
class ModelSettings:
    """What the configuration says about one model. ``keep_alive_ns`` None: the scheduler's default."""

    keep_alive_ns: int | None = None
    parameters: Mapping[str, Any] = field(default_factory=dict)


def no_model_settings(_model: ResolvedModel) -> ModelSettings:
    """No model has a section of its own."""
    return ModelSettings()


class InferenceService:
    """Fulfils `plugin.frontend.Inference`.

    Args:
        settings_of: The configuration's section for a model.
        context_length: ``runner.context_length`` as it is now; 0 is automatic.
    """

    def __init__(
        self,
        resolver: ModelResolver,
        scheduler: Scheduler,
        *,
        settings_of: Callable[[ResolvedModel], ModelSettings] = no_model_settings,
        context_length: Callable[[], int] = lambda: 0,
        now_ns: Callable[[], int] = time.monotonic_ns,
        log: logging.Logger | None = None,
    ) -> None:
        self._resolver = resolver
        self._scheduler = scheduler
        self._settings_of = settings_of
        self._context_length = context_length
        self._now_ns = now_ns
        self._log = log or logging.getLogger("ollamad.inference")

    async def resolve(self, name: str, *, align_case: bool = True) -> ResolvedModel:
        """Look a name up. Raises: InvalidName, ModelNotFound."""
        return await self._resolver.resolve(name, align_case=align_case)

    async def generate(self, context: RequestContext, request: InferenceRequest) -> Answer:
        """Queue, load if needed, and start a completion of the prompt."""
        return await self._answer(context, request, _generate_task)

    async def chat(self, context: RequestContext, request: InferenceRequest) -> Answer:
        """Queue, load if needed, and start an answer to the messages."""
        return await self._answer(context, request, _chat_task)

    async def render(self, context: RequestContext, request: InferenceRequest, *, chat: bool) -> Rendered:
        """The prompt that `generate` or `chat` would use; the model is loaded, for it knows the template."""
        images = sum(len(message.images) for message in request.messages)
        options = self._admit(context, request.model, request.options)
        task = (_chat_task if chat else _generate_task)(request, options)
        async with self._lease(context, request, options) as lease:
            if not isinstance(task, Chat) and not task.messages and not task.prefix_tokens:
                return Rendered(task.prompt, images)
            done = await _only(lease, context, Render(_fitted(task, options, lease)))
        return Rendered(done.text, images)

    async def embed(self, context: RequestContext, request: EmbedRequest) -> EmbedAnswer:
        """Embed all inputs with one slot; without inputs the model is only loaded."""
        self._refuse_unloadable(request.model)
        options = self._options(context, request.model, request.options)
        async with self._lease(context, request, options) as lease:
            load_ns = self._now_ns() - context.received_ns
            done = Done(context.id)
            if request.inputs:
                task = Embed(
                    inputs=request.inputs,
                    truncate=request.truncate and not request.raw,
                    normalize=not request.raw,
                    dimensions=request.dimensions,
                    num_ctx=_usable_ctx(options, lease),
                    n_batch=lease.ready.n_batch,
                )
                try:
                    done = await _only(lease, context, task)
                except RunnerFailed as error:
                    raise explain_embedding_failure(error) from error
        return EmbedAnswer(done.vectors, done.count, load_ns, self._now_ns() - context.received_ns)

    async def load(self, context: RequestContext, request: InferenceRequest) -> int:
        """Load a model that writes text and return ``load_ns``."""
        options = self._admit(context, request.model, request.options)
        async with self._lease(context, request, options):
            return self._now_ns() - context.received_ns

    async def unload(self, model: ResolvedModel) -> None:
        """Let a model go as soon as it is idle; nothing happens if it is not loaded."""
        self._scheduler.unload(model)

    def running(self) -> Sequence[RunningModel]:
        """Loaded models, latest expiry first, each under the name that it was loaded by."""
        return tuple(
            RunningModel(
                name=loaded.model.short_name,
                digest=loaded.model.digest,
                config=loaded.model.config,
                size_bytes=loaded.size_bytes,
                size_vram_bytes=loaded.size_vram_bytes,
                ctx_len=loaded.num_ctx,
                expires_at=loaded.expires_at,
                memory=loaded.memory,
                slots=loaded.slots,
                busy=loaded.busy,
            )
            for loaded in self._scheduler.running()
        )

    async def _answer(self, context: RequestContext, request: InferenceRequest, build: TaskBuilder) -> Answer:
        options = self._admit(context, request.model, request.options)
        task = build(request, options)
        async with AsyncExitStack() as stack:
            lease = await stack.enter_async_context(self._lease(context, request, options))
            load_ns = self._now_ns() - context.received_ns
            events: RunnerEvents = lease.connection.submit(context.id, _fitted(task, options, lease))
            return RunnerAnswer(events, lease, stack.pop_all(), load_ns)

    def _admit(self, context: RequestContext, model: ResolvedModel, asked: Mapping[str, Any]) -> ResolvedOptions:
        """What is checked before a request may queue."""
        self._refuse_unloadable(model)
        if "completion" not in model.capabilities:
            raise CapabilityMissing(full(model.name), model.requested, ("completion",))
        return self._options(context, model, asked)

    def _refuse_unloadable(self, model: ResolvedModel) -> None:
        """Models that no runner here could load."""
        if model.config.remote_host:
            raise CloudDisabled
        if not model.weights:
            raise Unsupported("models without a GGUF are not available in this version of ollamad")
        if model.projectors and "mllama" in (model.config.model_families or ()):
            raise LoadFailed(OLD_VISION_MODEL, permanent=True)

    def _options(self, context: RequestContext, model: ResolvedModel, asked: Mapping[str, Any]) -> ResolvedOptions:
        options = resolve_options(
            model,
            asked,
            configured=self._settings_of(model).parameters,
            context_length=self._context_length(),
            tier=self._scheduler.default_num_ctx,
        )
        for name in options.unknown:
            self._log.warning("invalid option provided", extra={"option": name, "request": context.id})
        trained = model.facts.context_length
        if 0 < trained < options.load.num_ctx and not options.load.num_ctx_automatic:
            self._log.warning(
                "requested context size too large for model",
                extra={"num_ctx": options.load.num_ctx, "n_ctx_train": trained, "request": context.id},
            )
        return options

    @asynccontextmanager
    async def _lease(
        self, context: RequestContext, request: InferenceRequest | EmbedRequest, options: ResolvedOptions
    ) -> AsyncIterator[Lease]:
        wanted = LeaseRequest(
            context_id=context.id,
            model=request.model,
            load=options.load,
            keep_alive_ns=request.keep_alive_ns,
            shift=request.shift if isinstance(request, InferenceRequest) else None,
            default_keep_alive_ns=self._settings_of(request.model).keep_alive_ns,
        )
        async with self._scheduler.lease(wanted) as lease:
            yield lease


TaskBuilder = Callable[[InferenceRequest, ResolvedOptions], Generate | Chat]
_Fittable = TypeVar("_Fittable", Generate, Chat, Generate | Chat)


def _generate_task(request: InferenceRequest, options: ResolvedOptions) -> Generate:
    """A completion; the prompt as it is when raw, or when the model has no template at all."""
    sampling = options.sampling
    task = Generate(
        prompt=request.prompt or "",
        # On this route 0 has always meant no limit.
        parameters=replace(sampling, num_predict=sampling.num_predict or -1),
        truncate=request.truncate,
        shift=default_shift(request.model, request.shift),
        think=request.think,
    )
    if request.raw:
        return task
    refuse_unrendered(request.model)
    task = replace(task, prefix_tokens=request.prefix_tokens, wants_context=True)
    if request.model.prompt_path == "none":
        return task
    return replace(task, prompt="", messages=generate_messages(request))


def _chat_task(request: InferenceRequest, options: ResolvedOptions) -> Chat:
    """An answer to messages; a model without a template gets the runner's common one."""
    refuse_unrendered(request.model)
    return Chat(
        messages=chat_messages(request),
        parameters=options.sampling,
        truncate=request.truncate,
        shift=default_shift(request.model, request.shift),
        think=request.think,
    )


def _fitted(task: _Fittable, options: ResolvedOptions, lease: Lease) -> _Fittable:
    """Bind a task to the context that it has: what was asked for, or less if the runner has less."""
    num_ctx = _usable_ctx(options, lease)
    num_predict = bounded_num_predict(task.parameters.num_predict, num_ctx)
    return replace(task, num_ctx=num_ctx, parameters=replace(task.parameters, num_predict=num_predict))


def _usable_ctx(options: ResolvedOptions, lease: Lease) -> int:
    if options.load.num_ctx_automatic or options.load.num_ctx <= 0:
        return lease.num_ctx
    return min(options.load.num_ctx, lease.num_ctx)


async def _only(lease: Lease, context: RequestContext, task: Task) -> Done:
    """Run a task that answers with one `Done`."""
    events: RunnerEvents = lease.connection.submit(context.id, task)
    try:
        async for event in events:
            if isinstance(event, Done):
                return event
    except RunnerFailed as error:
        if error.kind == "memory":
            lease.report_memory_failure()
        if isinstance(task, Embed):
            raise
        raise translate(error) from error
    finally:
        await events.aclose()
    raise RunnerFailed("the runner ended a request without an answer")
