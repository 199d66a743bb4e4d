"""The loop of a runner: take work, make steps, hand out tokens. It knows only token ids.

`batcher.py` decides what a step does; here the decision meets the `Context`, the clock and the listeners.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from functools import partial

from ollamad.engine.batcher import Batcher, StepPlan
from ollamad.engine.kvcache import Copy, KVCache, Operation, Remove, Shift
from ollamad.engine.lookup import LookupGuesser
from ollamad.engine.pace import Pace
from ollamad.engine.sequence import Sequence
from ollamad.engine.speculation import Speculation
from ollamad.engine.thread import EngineThread, OnFatal
from ollamad.engine.threads import ThreadRule
from ollamad.engine.work import Counters, EngineStopped, Listener, Outcome, Reason, Work
from ollamad.errors import QueueFull
from ollamad.plugin.backend import BackendError, Context, KVCacheFull
from ollamad.types import Timings

__all__ = ["Counters", "Engine", "EngineStopped", "Listener", "Outcome", "Reason", "Work"]

log = logging.getLogger(__name__)


class Engine(EngineThread):
    """Continuous batching over one `Context`. Its methods may be called from any thread.

    Args:
        slots: Most sequences that run at once; the rest wait, first come first served.
        ctx_len: Most tokens of one sequence; `Work.ctx_len` may ask for less.
        is_end: Whether a token ends a generation.
        step_ms: Time that a step with prompt tokens may take while others decode.
        on_fatal: Told of the error that ended the engine, after all work got its outcome.
        max_waiting: Most work without a slot; the scheduler's leases normally keep it at 0.
        weights: About how many weights a token is multiplied with, for the size of the first chunk; 0 if unknown.
        speculate: Guess what repeats the text, wherever that makes steps yield more. Needs a context that cuts.
        speculation: Guess by other means.
        threads: Chooses the number of threads of every step; without it the context keeps its own.
    """

    def __init__(
        self,
        context: Context,
        *,
        slots: int,
        ctx_len: int,
        is_end: Callable[[int], bool],
        step_ms: int = 200,
        clock: Callable[[], int] = time.perf_counter_ns,
        on_fatal: OnFatal,
        max_waiting: int = 4096,
        weights: int = 0,
        speculate: bool = True,
        speculation: Speculation | None = None,
        threads: ThreadRule | None = None,
    ) -> None:
        super().__init__("engine", context, on_fatal)
        self._cache = KVCache(
            context.n_ctx,
            context.n_sequences,
            can_share=context.can_share_prefix,
            can_cut=context.can_cut,
            can_shift=context.can_shift,
        )
        self._pace = Pace(step_ms * 1_000_000, context.n_batch, weights)
        if speculation is None and speculate:
            speculation = Speculation(LookupGuesser(is_end))
        self._speculation = speculation if context.can_cut else None
        self._batcher = Batcher(
            self._cache,
            self._pace,
            slots=slots,
            n_batch=context.n_batch,
            is_end=is_end,
            n_outputs=context.n_outputs,
            speculation=self._speculation,
        )
        self._ctx_len = ctx_len
        self._is_end = is_end
        self._clock = clock
        self._max_waiting = max_waiting
        self._threads = threads
        self._thread_count = 0
        self._threads_held = False
        self._steps = 0
        self._batch_tokens = 0
        self._sampling_ns = 0

    # --- from any thread

    def submit(self, work: Work, listener: Listener) -> None:
        """Queue *work*; *listener* hears of it from the engine thread.

        Raises:
            EngineStopped: The engine has ended.
            QueueFull: ``max_waiting`` are waiting already.
        """
        waiting = len(self._batcher.waiting) + len(self._commands)
        if waiting >= self._max_waiting:
            raise QueueFull(waiting=waiting, limit=self._max_waiting)
        self._post(partial(self._accept, work, listener), lambda error: _tell(work.id, listener, _abandoned(error)))

    def cancel(self, work_id: str) -> None:
        """End work with reason ``cancelled`` before the next step; unknown ids are those that just ended."""
        self._post_if_open(partial(self._cancel, work_id))

    def pause(self, work_id: str, paused: bool) -> None:
        """Leave work out of the steps while its reader is slow; it keeps its slot and cells."""
        self._post_if_open(partial(self._batcher.pause, work_id, paused))

    def counters(self) -> Counters:
        """What was done so far."""
        batcher, cache, speculation = self._batcher, self._cache, self._speculation
        return Counters(
            step=self._steps,
            prefilled=batcher.prefilled,
            reused=batcher.reused,
            decoded=batcher.decoded,
            batch_tokens=self._batch_tokens,
            cells_used=cache.used,
            cells_kept=cache.kept_cells,
            cells_total=cache.n_cells,
            sampling_ns=self._sampling_ns,
            running=len(batcher.running),
            waiting=len(batcher.waiting),
            guessed=speculation.guessed if speculation else 0,
            accepted=speculation.accepted if speculation else 0,
            threads=self._thread_count,
            thread_changes=self._threads.changes if self._threads else 0,
        )

    # --- in the engine thread

    def _accept(self, work: Work, listener: Listener) -> None:
        ctx_len = min(work.ctx_len, self._ctx_len) if work.ctx_len > 0 else self._ctx_len
        if not work.tokens:  # llama-server releases the slot of an empty prompt at once
            _tell(work.id, listener, Outcome("stop"))
        elif len(work.tokens) >= ctx_len:
            _tell(work.id, listener, _too_long(len(work.tokens), ctx_len))
        else:
            try:
                sampler = self._context.sampler(work.parameters, work.grammar)
            except BackendError:
                raise
            except Exception as error:  # a grammar that the library refuses is its request's fault alone
                _tell(work.id, listener, Outcome("failed", error=str(error)))
                return
            last = work.parameters.repeat_last_n
            sampler.accept(work.tokens[-last:] if last > 0 else work.tokens if last else ())
            self._batcher.submit(Sequence(work, ctx_len, listener, sampler))

    def _cancel(self, work_id: str) -> None:
        sequence = self._batcher.find(work_id)
        if sequence is not None:
            self._end(sequence, "cancelled")

    def _step(self) -> bool:
        plan = self._batcher.plan(self._clock())
        for sequence, outcome in plan.ended:
            self._report(sequence, outcome)
        if not self._perform(plan.operations):
            return True  # the plan stands on a cut that was refused
        if not plan.rows:
            return bool(plan.ended)
        self._use_threads(plan)
        started = self._clock()
        try:
            self._context.decode(plan.batch)
        except KVCacheFull:
            for sequence, outcome in self._batcher.full(plan):
                self._report(sequence, outcome)
            return True
        self._finish_step(plan, started)
        return True

    def _perform(self, operations: list[Operation]) -> bool:
        """Do *operations* in order; False if a cut was refused."""
        context = self._context
        refused: set[int] = set()
        for operation in operations:
            if isinstance(operation, Remove):
                whole = operation.start == 0 and operation.end == -1
                if context.remove(operation.sequence_id, operation.start, operation.end):
                    continue
                if whole:
                    raise BackendError(f"cells of sequence {operation.sequence_id} cannot be freed")
                refused.add(operation.sequence_id)
                self._batcher.refused(operation.sequence_id)
            elif isinstance(operation, Copy):
                context.copy(operation.source, operation.target, 0, operation.end)
            elif isinstance(operation, Shift) and operation.sequence_id not in refused:
                context.shift(operation.sequence_id, operation.start, operation.end, operation.delta)
        return not refused

    def _finish_step(self, plan: StepPlan, started: int) -> None:
        """Sample, count, and tell the listeners."""
        sampling = self._clock()
        chosen = self._sample(plan)
        now = self._clock()
        self._sampling_ns += now - sampling
        self._steps += 1
        self._batch_tokens += len(plan.batch)
        self._measured(plan, now - started)
        self._threads_took(plan, sampling - started)
        self._batcher.computed(plan)
        for number, (sequence, _) in enumerate(plan.picks):
            self._deliver(sequence, chosen[number], now, len(plan.guesses[number]) if plan.guesses else 0)

    def _sample(self, plan: StepPlan) -> list[list[int]]:
        """The tokens of each pick: one, or as many as were guessed right and one more."""
        if plan.guesses:
            checks = zip(plan.picks, plan.guesses, strict=True)
            return self._context.verify([(sequence.sampler, row, guesses) for (sequence, row), guesses in checks])
        if plan.picks:
            return [[token] for token in self._context.sample([(pick.sampler, row) for pick, row in plan.picks])]
        return []

    def _measured(self, plan: StepPlan, elapsed_ns: int) -> None:
        if plan.prefill_tokens:
            self._pace.prefilled(plan.prefill_tokens, len(plan.batch) > plan.prefill_tokens, elapsed_ns)
            return
        if not plan.guesses:
            self._pace.decoded(elapsed_ns)
        if self._speculation is not None:
            self._speculation.curve.measured(len(plan.batch), elapsed_ns)

    def _use_threads(self, plan: StepPlan) -> None:
        if self._threads is None:
            return
        prefill = plan.prefill_tokens > 0
        self._threads_held = any(sequence.repeatable for sequence, _ in plan.rows)
        count = self._threads.most(prefill) if self._threads_held else self._threads.choose(len(plan.batch), prefill)
        if count != self._thread_count:
            self._context.set_threads(count, count)
            self._thread_count = count

    def _threads_took(self, plan: StepPlan, elapsed_ns: int) -> None:
        if self._threads is None or self._threads_held:
            return
        prefill = plan.prefill_tokens > 0
        change = self._threads.measured(len(plan.batch), prefill, self._thread_count, elapsed_ns)
        if change is not None:
            log.debug(
                "step %d: steps of up to %d tokens go from %d to %d threads (%s)",
                self._steps,
                change.tokens,
                change.before,
                change.after,
                change.why,
            )

    def _deliver(self, sequence: Sequence, tokens: list[int], now: int, guesses: int) -> None:
        """Hand tokens to their listener, which may end the sequence; a stop goes before a limit."""
        reason: Reason | None = None
        error = ""
        accepted = -1
        for token in tokens:
            accepted += 1
            reason = self._batcher.took(sequence, token, now)
            if not self._is_end(token):
                try:
                    if not sequence.listener.token(token):
                        reason = "stop"
                except Exception as fault:  # a listener's fault ends its own request
                    log.exception("listener of %s failed", sequence.work.id)
                    reason, error = "failed", f"{type(fault).__name__}: {fault}"
            if reason is not None:
                break
        if guesses:
            self._batcher.settle(sequence, guesses, accepted)
        if reason is not None:
            self._end(sequence, reason, error)

    def _end(self, sequence: Sequence, reason: Reason, error: str = "") -> None:
        self._report(sequence, self._batcher.end(sequence, reason, error))

    def _report(self, sequence: Sequence, outcome: Outcome, *, close: bool = True) -> None:
        if close:
            sequence.sampler.close()
        _tell(sequence.work.id, sequence.listener, outcome)

    def _abandon(self, error: BaseException | None) -> None:
        outcome = _abandoned(error)
        for sequence in self._batcher.unfinished():
            ended = self._batcher.end(sequence, outcome.reason, outcome.error)
            self._report(sequence, ended, close=error is None)


def _tell(work_id: str, listener: Listener, outcome: Outcome) -> None:
    try:
        listener.finished(outcome)
    except Exception:  # nobody is left to tell; the other streams go on
        log.exception("listener of %s failed at its end", work_id)


def _abandoned(error: BaseException | None) -> Outcome:
    if error is None:
        return Outcome("cancelled")
    return Outcome("failed", error=str(error) or type(error).__name__)


def _too_long(tokens: int, ctx_len: int) -> Outcome:
    # The words are llama-server's: a client may look for "exceeds the available context".
    error = f"request ({tokens} tokens) exceeds the available context size ({ctx_len} tokens), try increasing it"
    return Outcome("failed", Timings(prompt_tokens=tokens), error=error, too_long=True)
