"""A `LoadSpec` to a loaded model with its engines."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from ollamad.engine.embed import EmbedEngine
from ollamad.engine.engine import Counters, Engine
from ollamad.engine.threads import ThreadRule
from ollamad.plugin.backend import Backend, Model
from ollamad.prompt.render import ChatTemplate
from ollamad.runner_child.files import resolve
from ollamad.runner_child.prompts import PromptMaker
from ollamad.runner_child.threads import usable_threads
from ollamad.types import Memory
from ollamad.wire.messages import LoadSpec, Progress, Ready

#: llama-server gives every slot a multiple of this, so ``num_ctx`` 96 generates up to token 256 (recorded).
SLOT_MULTIPLE = 256
#: A step of progress that is worth a message.
_PROGRESS_STEP = 0.01


@dataclass(slots=True)
class Loaded:
    """A model and what runs it. ``engine`` is None for an embedding model."""

    spec: LoadSpec
    model: Model
    prompts: PromptMaker
    ready: Ready
    slot_tokens: int
    engine: Engine | None
    on_fatal: Callable[[BaseException], None]
    _embedder: EmbedEngine | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def embedder(self) -> EmbedEngine:
        """The engine for embeddings; a chat model gets its second context at the first use."""
        with self._lock:
            if self._embedder is None:
                self._embedder = _embed_engine(self.model, self.spec, self.on_fatal)
            return self._embedder

    def cancel_embedding(self, request_id: str) -> None:
        """Take a request from the embedding engine, if there is one. Waits for no lock: a context may be being made."""
        embedder = self._embedder
        if embedder is not None:
            embedder.cancel(request_id)

    def counters(self) -> Counters:
        """Numbers of the engine that does this model's main work."""
        if self.engine is not None:
            return self.engine.counters()
        return self._embedder.counters() if self._embedder is not None else Counters()

    @property
    def embed_batch(self) -> int:
        """Most tokens of one input to embed."""
        return self.spec.n_batch


def slot_tokens(ctx_len: int) -> int:
    """Tokens that prompt and answer of one slot may hold: *ctx_len*, rounded up as llama-server does."""
    return -(-ctx_len // SLOT_MULTIPLE) * SLOT_MULTIPLE


def load(
    backend: Backend,
    spec: LoadSpec,
    store_root: Path,
    *,
    report: Callable[[Progress], None],
    on_fatal: Callable[[BaseException], None],
) -> Loaded:
    """Load the weights, make the context and start its engine.

    Raises:
        FileNotFoundError, ModelRejected, BackendOutOfMemory: Nothing is left behind.

    Runs in: runner, main thread.
    """
    started = time.monotonic_ns()
    threads = usable_threads(spec.threads)
    threads_batch = usable_threads(spec.threads_batch) if spec.threads_batch > 0 else threads
    n_batch = min(spec.n_batch, spec.ctx_len * spec.slots) if spec.embedding else spec.n_batch
    spec = replace(spec, threads=threads, threads_batch=threads_batch, n_batch=max(n_batch, 1))
    model = backend.load(spec, resolve(spec, store_root), _reporter(report))
    try:
        engine, embedder, memory = _engines(model, spec, on_fatal)
    except BaseException:
        model.close()
        raise
    facts = model.description
    template = ChatTemplate(facts.chat_template, bos_text=facts.bos_text, eos_text=facts.eos_text)
    ready = Ready(
        memory=_sum(memory),
        ctx_len=spec.ctx_len,
        slots=spec.slots,
        n_batch=spec.n_batch,
        n_ctx_train=facts.n_ctx_train,
        n_vocab=facts.n_vocab,
        n_embd=facts.n_embd,
        has_chat_template=bool(facts.chat_template),
        adds_bos=facts.adds_bos,
        adds_eos=facts.adds_eos,
        threads=threads,
        load_ns=time.monotonic_ns() - started,
    )
    prompts = PromptMaker(model, template, spec.ctx_len)
    return Loaded(spec, model, prompts, ready, slot_tokens(spec.ctx_len), engine, on_fatal, embedder)


def _engines(
    model: Model, spec: LoadSpec, on_fatal: Callable[[BaseException], None]
) -> tuple[Engine | None, EmbedEngine | None, Sequence[Memory]]:
    if spec.vocab_only:
        return None, None, ()
    if spec.embedding:
        context = model.context("embed", ctx_len=spec.ctx_len, slots=spec.slots, spec=spec)
        embedder = EmbedEngine(context, on_fatal=on_fatal)
        embedder.start()
        return None, embedder, [*model.memory(), *context.memory()]
    room = slot_tokens(spec.ctx_len)
    context = model.context("generate", ctx_len=room, slots=spec.slots, spec=spec)
    engine = Engine(
        context,
        slots=spec.slots,
        ctx_len=room,
        is_end=model.is_end,
        step_ms=spec.step_ms,
        on_fatal=on_fatal,
        weights=sum(one.size_bytes for one in spec.weights),  # a byte each, give or take a factor of two
        speculate=spec.speculate,
        threads=_thread_rule(spec),
    )
    engine.start()
    return engine, None, [*model.memory(), *context.memory()]


def _thread_rule(spec: LoadSpec) -> ThreadRule:
    """Steps on a GPU do not depend on threads, so there nothing is to be learnt from their times."""
    on_cpu = all(one.kind == "cpu" or one.layers == 0 for one in spec.placement)
    return ThreadRule(spec.threads, spec.threads_batch, adapts=spec.adapt_threads and on_cpu)


def _embed_engine(model: Model, spec: LoadSpec, on_fatal: Callable[[BaseException], None]) -> EmbedEngine:
    context = model.context("embed", ctx_len=spec.ctx_len, slots=1, spec=spec)
    embedder = EmbedEngine(context, on_fatal=on_fatal)
    embedder.start()
    return embedder


def _reporter(report: Callable[[Progress], None]) -> Callable[[float], bool]:
    """A progress callback that passes on whole steps; a load is given up by killing this process."""
    last = -1.0

    def on_progress(fraction: float) -> bool:
        nonlocal last
        if fraction - last >= _PROGRESS_STEP or fraction >= 1.0 > last:
            last = fraction
            report(Progress(min(max(fraction, 0.0), 1.0)))
        return True

    return on_progress


def _sum(parts: Sequence[Memory]) -> tuple[Memory, ...]:
    """One line per device."""
    sums: dict[str, Memory] = {}
    for part in parts:
        known = sums.get(part.device_id, Memory(part.device_id, part.kind, 0, 0, 0))
        sums[part.device_id] = Memory(
            part.device_id,
            part.kind,
            known.weights_bytes + part.weights_bytes,
            known.kv_bytes + part.kv_bytes,
            known.compute_bytes + part.compute_bytes,
        )
    return tuple(sums.values())
