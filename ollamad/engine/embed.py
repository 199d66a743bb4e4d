"""The loop of an encoder's runner: whole inputs, packed per step, first come first served."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

from ollamad.engine.thread import EngineThread, OnFatal
from ollamad.engine.work import Counters
from ollamad.plugin.backend import Context

log = logging.getLogger(__name__)

#: Inputs share a step up to this many tokens. From 64 on llama.cpp's flash attention on the CPU goes tile by tile
#: and rounds otherwise (measured: 0.004 in a vector's element), so a text's vector would depend on its neighbours.
SHARED_STEP_TOKENS = 63


@dataclass(frozen=True, slots=True)
class EmbedOutcome:
    """How an embedding ended. ``vectors`` are raw, one per input in order; ``too_long``: an input does not fit."""

    reason: Literal["done", "cancelled", "failed"]
    vectors: tuple[Sequence[float], ...] = ()
    prompt_tokens: int = 0
    elapsed_ns: int = 0
    error: str = ""
    too_long: bool = False


#: Called once per request, in the engine thread.
EmbedDone = Callable[[EmbedOutcome], None]


class _Request:
    def __init__(self, work_id: str, inputs: Sequence[Sequence[int]], done: EmbedDone, now: int) -> None:
        self.id = work_id
        self.inputs = inputs
        self.done = done
        self.vectors: list[Sequence[float]] = []
        self.placed = 0
        self.started_ns = now


class EmbedEngine(EngineThread):
    """Embeds over one `Context` of kind ``embed``. Its methods may be called from any thread.

    A step takes as many waiting inputs as ``n_batch`` tokens and ``n_sequences`` hold, also of several requests.
    """

    def __init__(self, context: Context, *, on_fatal: OnFatal, clock: Callable[[], int] = time.perf_counter_ns) -> None:
        super().__init__("embed", context, on_fatal)
        self._clock = clock
        self._requests: deque[_Request] = deque()
        self._steps = 0
        self._tokens = 0

    def submit(self, work_id: str, inputs: Sequence[Sequence[int]], done: EmbedDone) -> None:
        """Queue the token ids of whole inputs.

        Raises:
            EngineStopped: The engine has ended.
        """
        self._post(partial(self._accept, work_id, inputs, done), lambda error: done(_abandoned(error)))

    def cancel(self, work_id: str) -> None:
        """End a request before the next step."""
        self._post_if_open(partial(self._cancel, work_id))

    def counters(self) -> Counters:
        """What was done so far."""
        return Counters(
            step=self._steps, prefilled=self._tokens, batch_tokens=self._tokens, waiting=len(self._requests)
        )

    def _accept(self, work_id: str, inputs: Sequence[Sequence[int]], done: EmbedDone) -> None:
        longest = max(map(len, inputs), default=0)
        if not all(map(len, inputs)):
            _tell(done, EmbedOutcome("failed", error="an input has no tokens"))
            return
        if longest > self._context.n_batch:
            # The words are llama-server's: a client may look for "too large".
            limit = f"increase the physical batch size (current batch size: {self._context.n_batch})"
            error = f"input ({longest} tokens) is too large to process. {limit}"
            _tell(done, EmbedOutcome("failed", error=error, too_long=True))
        elif not inputs:
            _tell(done, EmbedOutcome("done"))
        else:
            self._requests.append(_Request(work_id, inputs, done, self._clock()))

    def _cancel(self, work_id: str) -> None:
        for request in self._requests:
            if request.id == work_id:
                self._requests.remove(request)
                _tell(request.done, EmbedOutcome("cancelled"))
                return

    def _step(self) -> bool:
        packed = self._pack()
        if not packed:
            return False
        vectors = self._context.embed([tokens for _, tokens in packed])
        self._steps += 1
        self._tokens += sum(len(tokens) for _, tokens in packed)
        for (request, _), vector in zip(packed, vectors, strict=True):
            request.vectors.append(vector)
        while self._requests and len(self._requests[0].vectors) == len(self._requests[0].inputs):
            self._finish(self._requests.popleft())
        return True

    def _pack(self) -> list[tuple[_Request, Sequence[int]]]:
        """The next inputs in order, as many as may share a step; a longer one goes alone."""
        packed: list[tuple[_Request, Sequence[int]]] = []
        room = min(self._context.n_batch, SHARED_STEP_TOKENS)
        for request in self._requests:
            for tokens in request.inputs[request.placed :]:
                if packed and (len(tokens) > room or len(packed) == self._context.n_sequences):
                    return packed
                packed.append((request, tokens))
                request.placed += 1
                room -= len(tokens)
        return packed

    def _finish(self, request: _Request) -> None:
        tokens = sum(map(len, request.inputs))
        elapsed_ns = self._clock() - request.started_ns
        _tell(request.done, EmbedOutcome("done", tuple(request.vectors), tokens, elapsed_ns))

    def _abandon(self, error: BaseException | None) -> None:
        while self._requests:
            _tell(self._requests.popleft().done, _abandoned(error))


def _tell(done: EmbedDone, outcome: EmbedOutcome) -> None:
    try:
        done(outcome)
    except Exception:  # nobody is left to tell; the other requests go on
        log.exception("an embedding's listener failed")


def _abandoned(error: BaseException | None) -> EmbedOutcome:
    if error is None:
        return EmbedOutcome("cancelled")
    return EmbedOutcome("failed", error=str(error) or type(error).__name__)
