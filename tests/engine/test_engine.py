"""The engine over a fake context, step by step and in its thread."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from typing import Any

import pytest

from ollamad.engine.engine import Engine, EngineStopped, Outcome, Work
from ollamad.errors import QueueFull
from ollamad.plugin.backend import BackendError, KVCacheFull
from ollamad.types import SamplingParameters, Timings

Make = Callable[..., Any]


def test_a_prompt_is_answered(driver: Make) -> None:
    """An answer has as many tokens as were asked for, and its counts are true."""
    listener = driver().answer(b"hello")
    assert len(listener.tokens) == 8
    assert listener.outcome.reason == "length"
    assert listener.outcome.timings.prompt_tokens == 5
    assert listener.outcome.timings.cached_tokens == 0
    assert listener.outcome.timings.generated_tokens == listener.outcome.generated == 8


def test_the_end_token_counts_and_is_not_passed_on(driver: Make) -> None:
    """As in llama-server, the end-of-generation token is a generated token that nobody sees."""
    listener = driver(end_every=5).answer(b"hello", max_tokens=50)
    assert listener.outcome.reason == "stop"
    assert listener.outcome.generated == len(listener.tokens) + 1


def test_a_listener_ends_its_answer(driver: Make, recorder: Any) -> None:
    """A listener that found a stop string ends with ``stop``, also at the last token that was allowed."""
    listener = driver().answer(b"hello", listener=recorder(stop_after=3), max_tokens=3)
    assert (len(listener.tokens), listener.outcome.reason) == (3, "stop")


def test_a_raising_listener_harms_nobody_else(driver: Make, recorder: Any) -> None:
    """A listener's exception fails its own request alone."""

    class Broken(recorder):  # type: ignore[misc]
        def token(self, token: int) -> bool:
            raise RuntimeError("broken")

    fake = driver()
    broken, whole = fake.submit(b"one", listener=Broken()), fake.submit(b"two")
    fake.run()
    assert broken.outcome.reason == "failed"
    assert whole.outcome.reason == "length"
    assert not fake.fatal


@pytest.mark.parametrize("ctx_len", [4, 5, 257])
@pytest.mark.parametrize("shift", [False, True])
def test_a_context_is_exactly_as_long_as_it_says(driver: Make, ctx_len: int, shift: bool) -> None:
    """A sequence never holds more than its context, whatever the library pads it to."""
    fake = driver(slots=2, ctx_len=512)
    listener = fake.answer(b"abc", ctx_len=ctx_len, max_tokens=600 if shift else -1, shift=shift)
    if shift:
        assert len(listener.tokens) == 600
        assert listener.outcome.shifts > 0
    else:
        assert len(listener.tokens) == ctx_len - 3
        assert listener.outcome.reason == "length"


@pytest.mark.parametrize("length", [16, 17, 40])
def test_a_prompt_that_does_not_fit_is_refused(driver: Make, length: int) -> None:
    """A prompt needs room for one more token; the words are llama-server's."""
    listener = driver(ctx_len=64).answer(bytes(length), ctx_len=16)
    assert listener.outcome.too_long
    words = f"request ({length} tokens) exceeds the available context size (16 tokens), try increasing it"
    assert listener.outcome.error == words


def test_an_empty_prompt_gives_an_empty_answer(driver: Make) -> None:
    """With nothing to continue, nothing is generated."""
    assert driver().answer(b"").outcome == Outcome("stop")


def test_the_sampler_knows_the_end_of_the_prompt(driver: Make) -> None:
    """The last ``repeat_last_n`` prompt tokens are accepted before the first token is chosen."""
    fake = driver()
    made: list[Any] = []
    make = fake.context.sampler
    fake.context.sampler = lambda *arguments: made.append(make(*arguments)) or made[-1]
    for last, expected in ((3, [3, 4, 5]), (0, []), (-1, [1, 2, 3, 4, 5])):
        fake.submit((1, 2, 3, 4, 5), parameters=SamplingParameters(repeat_last_n=last))
        fake.engine._commands.popleft()[0]()
        assert list(made[-1].accepted) == expected


def test_a_refused_grammar_fails_its_request(driver: Make) -> None:
    """A grammar that the library refuses is this request's error and no other's."""
    fake = driver()
    assert fake.answer(b"hello", grammar="").outcome.error == "failed to parse grammar"
    assert fake.answer(b"hello").outcome.reason == "length"


def test_the_first_come_are_served_first(driver: Make) -> None:
    """Those without a slot start in the order in which they came."""
    fake = driver(slots=1)
    order: list[str] = []
    listeners = [fake.submit(bytes((i, i)), max_tokens=2) for i in range(1, 5)]
    for i, listener in enumerate(listeners):
        finished = listener.finished
        listener.finished = lambda outcome, i=i, finished=finished: (order.append(i), finished(outcome))
    fake.run()
    assert order == [0, 1, 2, 3]


def test_prompts_do_not_hold_up_streams(driver: Make) -> None:
    """While a long prompt is computed in chunks, a running stream gets a token in every step."""
    fake = driver(ctx_len=2048, n_batch=32)
    stream = fake.submit(b"stream", max_tokens=1000)
    fake.turns(2)
    prompt = fake.submit(bytes(range(1, 251)) * 4)
    before = len(stream.tokens)
    steps = 0
    while not prompt.tokens:
        fake.turns(1)
        steps += 1
    assert steps > 10
    assert len(stream.tokens) - before >= steps - 1


@pytest.mark.parametrize("phase", ["waiting", "prefill", "decode", "paused"])
def test_a_cancelled_request_frees_its_slot(driver: Make, phase: str) -> None:
    """Cancelled in whatever phase, a request ends at once and the next one takes its slot."""
    fake = driver(slots=1, ctx_len=1024, n_batch=8)
    if phase == "waiting":
        other = fake.submit(b"other", max_tokens=500)
        fake.turns(3)
    tokens = bytes(range(1, 251)) if phase == "prefill" else b"hello"
    listener = fake.submit(tokens, id="victim", max_tokens=500)
    fake.turns(3)
    if phase == "paused":
        fake.engine.pause("victim", True)
        fake.turns(2)
    successor = fake.submit(b"next")
    fake.engine.cancel("victim")
    fake.turns(1)
    assert listener.outcome.reason == "cancelled"
    if phase == "waiting":
        assert not other.done
    else:
        assert successor.tokens
        assert not successor.done


def test_cancelling_what_has_ended_is_nothing(driver: Make) -> None:
    """A cancel that comes too late changes nothing."""
    fake = driver()
    listener = fake.answer(b"hello", id="early")
    fake.engine.cancel("early")
    fake.engine.pause("early", True)
    fake.run()
    assert listener.outcome.reason == "length"


def test_a_paused_sequence_keeps_its_seat(driver: Make) -> None:
    """While paused, a sequence gets no token and gives up no slot; then it goes on as if nothing was."""
    fake = driver(slots=1)
    expected = driver(slots=1).answer(b"hello").tokens
    listener, waiting = fake.submit(b"hello", id="slow"), fake.submit(b"other")
    fake.turns(3)
    fake.engine.pause("slow", True)
    before = len(listener.tokens)
    fake.turns(1)
    assert not fake.engine.turn()  # nothing to do: the thread would sleep
    assert len(listener.tokens) == before
    assert not waiting.tokens
    fake.engine.pause("slow", False)
    fake.run()
    assert listener.tokens == expected


def test_a_repeated_prompt_is_reused(driver: Make) -> None:
    """The second time, all of a prompt but its last token comes from the cache, and counts as prompt."""
    fake = driver()
    first, second = fake.answer(b"hello there"), fake.answer(b"hello there")
    assert first.tokens == second.tokens
    assert (second.outcome.timings.prompt_tokens, second.outcome.timings.cached_tokens) == (11, 10)
    assert fake.engine.counters().reused == 10


def test_a_conversation_is_prefilled_from_its_last_turn(driver: Make) -> None:
    """A prompt that continues an earlier answer computes only what is new."""
    fake = driver()
    first = fake.answer(b"hello")
    longer = (*b"hello", *first.tokens[:-1], *b"and then")
    assert fake.answer(longer).outcome.timings.cached_tokens == 5 + 7


def test_a_refused_cut_costs_time_and_nothing_else(driver: Make) -> None:
    """A context that will not cut after all gets the whole prompt again, and the counts say so."""
    fake = driver(can_share=False)
    fake.answer(b"hello world")
    fake.context.refuse_cuts = True
    listener = fake.answer(b"hello there")
    assert listener.tokens == driver().answer(b"hello there").tokens
    assert listener.outcome.timings.cached_tokens == 0
    assert fake.engine.counters().reused == 0


def test_a_full_cache_gives_up_what_nobody_runs(driver: Make) -> None:
    """When the context finds no cell, finished sequences go and the step is tried again."""
    fake = driver()
    fake.answer(b"earlier")
    fake.gates.raise_next("decode", KVCacheFull())
    assert fake.answer(b"hello").tokens == driver().answer(b"hello").tokens


def test_a_sequence_without_cells_fails_alone(driver: Make) -> None:
    """When cells run out for good, one sequence ends with an error and the other goes on."""
    fake = driver(slots=2, ctx_len=64, n_ctx=40)
    listeners = [fake.submit(bytes((i,)) * 10, max_tokens=25) for i in (1, 2)]
    fake.run()
    assert [listener.outcome.reason for listener in listeners] == ["length", "failed"]
    assert listeners[1].outcome.error
    assert not fake.fatal


def test_steps_hold_one_compute_key(driver: Make) -> None:
    """Requests of different keys take turns, and none starves."""
    fake = driver()
    steps: list[set[int]] = []
    decode = fake.context.decode
    fake.context.decode = lambda batch: (steps.append(set(batch.sequence_ids)), decode(batch))
    listeners = [fake.submit(b"hello", key=key) for key in ("a", "b")]
    fake.run()
    assert all(len(ids) == 1 for ids in steps)
    assert listeners[0].tokens == listeners[1].tokens
    assert listeners[1].outcome.timings.cached_tokens == 0


def test_a_step_of_one_token_serves_everybody(driver: Make) -> None:
    """With ``num_batch`` 1, streams and prompts take turns token by token."""
    fake = driver(slots=3, n_batch=1)
    listeners = [fake.submit(bytes((i,)) * 5) for i in (1, 2, 3)]
    fake.run()
    assert all(listener.outcome.reason == "length" for listener in listeners)


def test_counters_count(driver: Make) -> None:
    """The counters are what was done."""
    fake = driver()
    fake.answer(b"hello")
    counters = fake.engine.counters()
    assert (counters.prefilled, counters.decoded, counters.batch_tokens) == (5, 8, 12)
    assert counters.step == 8
    assert (counters.cells_used, counters.cells_kept, counters.cells_total) == (12, 12, 128)
    assert (counters.running, counters.waiting) == (0, 0)
    assert counters.sampling_ns > 0


def test_prompt_time_ends_with_the_first_token(driver: Make) -> None:
    """Prompt and generation have times of their own, and a cached token costs none."""
    timings: Timings = driver().answer(b"hello").outcome.timings
    assert timings.prompt_ns > 0
    assert timings.generate_ns > 0


# --- in its thread


class Waiting:
    """A listener of another thread."""

    def __init__(self) -> None:
        self.tokens: list[int] = []
        self.outcomes: queue.Queue[Outcome] = queue.Queue()

    def token(self, token: int) -> bool:
        self.tokens.append(token)
        return True

    def finished(self, outcome: Outcome) -> None:
        self.outcomes.put(outcome)

    def outcome(self) -> Outcome:
        return self.outcomes.get(timeout=5)


def work(name: str, tokens: bytes = b"hello", max_tokens: int = 8) -> Work:
    return Work(name, tuple(tokens), SamplingParameters(temperature=0.0), max_tokens, 0)


def test_an_idle_engine_wakes_up(driver: Make, started: Callable[[Any], Engine]) -> None:
    """Work that comes while the engine sleeps is done, again and again."""
    engine = started(driver())
    for name in "abc":
        listener = Waiting()
        engine.submit(work(name), listener)
        assert listener.outcome().reason == "length"


def test_a_call_runs_between_steps(driver: Make, started: Callable[[Any], Engine]) -> None:
    """A call gets the context in the engine's thread, and its exception comes back."""
    engine = started(driver())
    thread, cells = engine.call(lambda context: (threading.current_thread().name, context.n_ctx)).result(5)
    assert (thread, cells) == ("engine", 128)
    with pytest.raises(ZeroDivisionError):
        engine.call(lambda context: 1 // 0).result(5)


def test_stop_cancels_what_runs(driver: Make, started: Callable[[Any], Engine]) -> None:
    """A stopped engine ends its work as cancelled and takes no more."""
    fake = driver()
    engine = started(fake)
    running, late = Waiting(), Waiting()
    fake.gates.close("decode")
    engine.submit(work("running"), running)
    assert fake.gates.wait_reached("decode")
    engine.submit(work("late"), late)
    stopper = threading.Thread(target=engine.stop)
    stopper.start()
    while not engine._stopping:
        threading.Event().wait(0.001)
    fake.gates.open("decode")
    stopper.join(5)
    assert (running.outcome().reason, late.outcome().reason) == ("cancelled", "cancelled")
    with pytest.raises(EngineStopped):
        engine.submit(work("later"), Waiting())
    engine.cancel("running")


@pytest.mark.parametrize("point", ["decode", "sample"])
def test_a_fatal_error_fails_everything(driver: Make, started: Callable[[Any], Engine], point: str) -> None:
    """When the library fails, all work gets an error and the runner is told."""
    fake = driver(slots=1)
    fake.gates.close(point)
    engine = started(fake)
    listeners = [Waiting(), Waiting()]
    for name, listener in zip("ab", listeners, strict=True):
        engine.submit(work(name), listener)
    assert fake.gates.wait_reached(point)
    call = engine.call(lambda context: 0)
    fake.gates.raise_next(point, BackendError("the device is lost"))
    fake.gates.open(point)
    for listener in listeners:
        assert listener.outcome().error == "the device is lost"
    with pytest.raises(BackendError):
        call.result(5)
    engine.stop()
    assert [str(error) for error in fake.fatal] == ["the device is lost"]


def test_a_sampler_that_breaks_the_library_is_fatal(driver: Make, started: Callable[[Any], Engine]) -> None:
    """A `BackendError` while work is taken in ends the engine, and that work gets its outcome too."""
    fake = driver()

    def broken(parameters: SamplingParameters, grammar: str | None) -> Any:
        raise BackendError("lost")

    fake.context.sampler = broken
    listener = Waiting()
    fake.engine.submit(work("a"), listener)
    started(fake)._thread.join(5)
    assert listener.outcome().error == "lost"
    assert len(fake.fatal) == 1


def test_the_queue_is_bounded(driver: Make) -> None:
    """More than ``max_waiting`` requests without a slot are refused."""
    fake = driver(slots=1)
    fake.engine._max_waiting = 2
    for _ in range(3):
        fake.submit(b"hello")
        fake.turns(1)
    with pytest.raises(QueueFull):
        fake.submit(b"hello")
