"""Takes tasks, prepares them beside the main loop, hands them to an engine, and sees that each gets one end.

A request is *preparing* (rendering and tokenizing in a worker thread) or *running* (with an engine). Cancel and
pause are heard in both.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from ollamad.engine.embed import EmbedOutcome
from ollamad.engine.engine import Counters, EngineStopped, Work
from ollamad.errors import QueueFull
from ollamad.plugin.backend import BackendError
from ollamad.prompt.render import InvalidMessages, TemplateFailed
from ollamad.runner_child.answer import Answer
from ollamad.runner_child.fitting import PromptTooLong, predict_limit
from ollamad.runner_child.loading import Loaded
from ollamad.runner_child.vectors import INPUT_TOO_LONG, InputTooLong, fit_input, is_raw, shape_vector
from ollamad.types import SamplingParameters, Timings
from ollamad.wire.messages import (
    Cancel,
    Chat,
    Count,
    Detokenize,
    Done,
    Embed,
    Failed,
    FailedKind,
    Generate,
    Pause,
    Render,
    Submit,
    Task,
    Tokenize,
    Up,
)

log = logging.getLogger(__name__)

#: Threads that render and tokenize; more than one so that a slow template delays its own request only.
_WORKERS = 4
#: What the preparation of a task may raise by the fault of its request, and how that is called.
_FAULTS: tuple[tuple[type[Exception], FailedKind], ...] = (
    (PromptTooLong, "too_long"),
    (InputTooLong, "too_long"),
    (TemplateFailed, "template"),
    (InvalidMessages, "invalid"),
    (QueueFull, "internal"),
    (EngineStopped, "internal"),
    (BackendError, "internal"),
)


class _Refused(Exception):
    """The task cannot be done by this runner or with these values."""

    def __init__(self, kind: FailedKind, message: str) -> None:
        super().__init__(message)
        self.kind: FailedKind = kind


@dataclass(slots=True)
class _Request:
    cancelled: bool = False
    paused: bool = False
    running: bool = False


class Desk:
    """All requests of one runner. `submit`, `cancel` and `pause` return at once."""

    def __init__(self, loaded: Loaded, send: Callable[[Up], None]) -> None:
        self._loaded = loaded
        self._send_up = send
        self._requests: dict[str, _Request] = {}
        self._lock = threading.Lock()
        self._workers = ThreadPoolExecutor(_WORKERS, thread_name_prefix="prepare")

    def submit(self, message: Submit) -> None:
        """Begin a task; its end is a `Done` or `Failed`."""
        with self._lock:
            known = message.request_id in self._requests
            if not known:
                self._requests[message.request_id] = _Request()
        assert not known, "the daemon gave two running requests one id"
        self._workers.submit(self._prepare, message.request_id, message.task)

    def cancel(self, message: Cancel) -> None:
        """End a request before its next step. An unknown id is one that just ended."""
        with self._lock:
            request = self._requests.get(message.request_id)
            if request is None:
                return
            request.cancelled = True
            if not request.running:
                return
        if self._loaded.engine is not None:
            self._loaded.engine.cancel(message.request_id)
        self._loaded.cancel_embedding(message.request_id)

    def pause(self, message: Pause) -> None:
        """Leave a request out of the steps, or go on with it."""
        with self._lock:
            request = self._requests.get(message.request_id)
            if request is not None:
                request.paused = message.paused
                if request.running and self._loaded.engine is not None:
                    self._loaded.engine.pause(message.request_id, message.paused)

    def counters(self) -> Counters:
        """The engine's numbers."""
        return self._loaded.counters()

    def close(self) -> None:
        """Take no more tasks; what is being prepared is left to the end of the process."""
        self._workers.shutdown(wait=False, cancel_futures=True)

    # --- in a worker thread

    def _prepare(self, request_id: str, task: Task) -> None:
        try:
            self._begin(request_id, task)
        except _Refused as error:
            self._send(Failed(request_id, error.kind, str(error)))
        except Exception as error:
            kind = next((kind for cause, kind in _FAULTS if isinstance(error, cause)), None)
            if kind is None:
                log.exception("request %s could not be prepared", request_id)
            text = str(error) if kind is not None else f"{type(error).__name__}: {error}"
            self._send(Failed(request_id, kind or "internal", text))

    def _begin(self, request_id: str, task: Task) -> None:
        model, prompts = self._loaded.model, self._loaded.prompts
        if isinstance(task, Generate | Chat):
            self._generate(request_id, task)
        elif isinstance(task, Embed):
            self._embed(request_id, task)
        elif isinstance(task, Tokenize):
            tokens = model.tokenize(task.text, add_special=task.add_special, parse_special=task.parse_special)
            self._send(Done(request_id, tokens=tuple(tokens), count=len(tokens)))
        elif isinstance(task, Detokenize):
            self._send(Done(request_id, text=_text_of(self._loaded, task.tokens)))
        elif isinstance(task, Count):
            text = prompts.render(task.messages) if task.messages else task.text
            self._send(Done(request_id, count=len(prompts.tokenize(text))))
        elif isinstance(task, Render):
            self._render(request_id, task.task)
        else:
            raise _Refused("unknown_task", f"this runner knows no task {type(task).__name__}")

    def _render(self, request_id: str, task: Generate | Chat) -> None:
        prompt = self._loaded.prompts.make(task, shift=self._shifts(task))
        self._send(
            Done(
                request_id,
                text=prompt.text,
                count=len(prompt.tokens),
                prompt_cut_tokens=prompt.cut,
                messages_dropped=prompt.dropped,
            )
        )

    def _generate(self, request_id: str, task: Generate | Chat) -> None:
        loaded = self._loaded
        if loaded.engine is None:
            raise _Refused("invalid", "this model does not generate text")
        parameters = _checked(task.parameters)
        if isinstance(task, Generate) and task.prefix_tokens:
            _text_of(loaded, task.prefix_tokens)
        prompt = loaded.prompts.make(task, shift=self._shifts(task))
        keep = parameters.num_keep
        work = Work(
            id=request_id,
            tokens=tuple(prompt.tokens),
            parameters=parameters,
            max_tokens=_max_tokens(task, loaded.prompts.num_ctx(task.num_ctx)),
            ctx_len=loaded.slot_tokens,
            shift=self._shifts(task),
            num_keep=keep if keep < 0 else keep + loaded.ready.adds_bos,
            grammar=task.grammar,
        )
        answer = Answer(request_id, task, prompt, model=loaded.model, prompts=loaded.prompts, send=self._send)
        engine = loaded.engine
        with self._lock:
            request = self._requests[request_id]
            if not request.cancelled:
                engine.submit(work, answer)
                request.running = True
                if request.paused:
                    engine.pause(request_id, True)
        if request.cancelled and not request.running:
            raise _Refused("cancelled", "the request was cancelled")

    def _embed(self, request_id: str, task: Embed) -> None:
        loaded = self._loaded
        if loaded.spec.vocab_only:
            raise _Refused("invalid", "this model was loaded without its weights")
        ctx_len = loaded.prompts.num_ctx(task.num_ctx)
        batch = min(task.n_batch, loaded.embed_batch) if task.n_batch > 0 else loaded.embed_batch
        inputs = [fit_input(loaded.model, text, task, ctx_len=ctx_len, n_batch=batch) for text in task.inputs]
        # A model without special tokens makes nothing of "": its vector is one of length 0.
        taken = [number for number, tokens in enumerate(inputs) if tokens]
        embedder = loaded.embedder

        def done(outcome: EmbedOutcome) -> None:
            self._send(_embedded(request_id, task, outcome, taken, loaded))

        with self._lock:
            request = self._requests[request_id]
            if not request.cancelled:
                embedder.submit(request_id, [inputs[number] for number in taken], done)
                request.running = True
        if request.cancelled and not request.running:
            raise _Refused("cancelled", "the request was cancelled")

    def _shifts(self, task: Generate | Chat) -> bool:
        return task.shift and self._loaded.spec.context_shift

    def _send(self, message: Up) -> None:
        """Send; an end is also forgotten, before the daemon can know of it and use the id again."""
        if isinstance(message, Done | Failed):
            with self._lock:
                self._requests.pop(message.request_id, None)
        self._send_up(message)


def _max_tokens(task: Generate | Chat, num_ctx: int) -> int:
    """Most tokens to generate. 0 means no limit to `Generate` but one token to `Chat` (both recorded)."""
    asked = task.parameters.num_predict
    if asked == 0:
        return 1 if isinstance(task, Chat) else predict_limit(-1, num_ctx)
    return predict_limit(asked, num_ctx)


def _checked(parameters: SamplingParameters) -> SamplingParameters:
    """*parameters*, if the native samplers take them; they end the process for some values."""
    if not 0 < parameters.repeat_penalty < float("inf"):
        raise _Refused("invalid", "repeat_penalty must be greater than 0")
    if parameters.repeat_last_n < -1:
        raise _Refused("invalid", "repeat_last_n must be at least -1")
    for name in ("temperature", "top_p", "min_p", "typical_p", "presence_penalty", "frequency_penalty"):
        if not abs(getattr(parameters, name)) < float("inf"):
            raise _Refused("invalid", f"{name} must be a finite number")
    return parameters


def _text_of(loaded: Loaded, tokens: tuple[int, ...]) -> str:
    try:
        return loaded.prompts.text_of(tokens)
    except ValueError as error:
        # The contract has 500 for this; a client's numbers never reach the native code.
        raise _Refused("internal", f"detokenize error: {error}") from error


def _embedded(request_id: str, task: Embed, outcome: EmbedOutcome, taken: list[int], loaded: Loaded) -> Up:
    if outcome.reason == "cancelled":
        return Failed(request_id, "cancelled", "the request was cancelled")
    if outcome.reason == "failed":
        return (
            Failed(request_id, "too_long", INPUT_TOO_LONG)
            if outcome.too_long
            else Failed(request_id, "internal", outcome.error)
        )
    raw = is_raw(loaded.model.description)
    shaped = [shape_vector([0.0] * loaded.ready.n_embd, task, raw=raw)] * len(task.inputs)
    try:
        for number, vector in zip(taken, outcome.vectors, strict=True):
            shaped[number] = shape_vector(vector, task, raw=raw)
    except ValueError as error:
        return Failed(request_id, "invalid", str(error))
    return Done(
        request_id,
        count=outcome.prompt_tokens,
        vectors=tuple(shaped),
        timings=Timings(prompt_tokens=outcome.prompt_tokens, prompt_ns=outcome.elapsed_ns),
    )
