"""When guesses pay, and that they change nothing."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Sequence as ReadOnly
from typing import Any

import pytest

from ollamad.engine.sequence import Sequence
from ollamad.engine.speculation import MOST_GUESSES, CostCurve, Guess, Speculation
from ollamad.engine.work import Work
from ollamad.testing.fake_context import FakeContext
from ollamad.types import SamplingParameters

Make = Callable[..., Any]
MS = 1_000_000
#: What was measured on two AVX2 cores: time of a batch of n rows, in those of one.
Q05 = {1: 1.0, 2: 1.77, 3: 2.6, 4: 2.45, 6: 3.13, 8: 4.08, 16: 7.0}
DEMO = {1: 1.0, 2: 1.46, 3: 2.3, 4: 3.2, 8: 8.6}


class Says:
    """A guesser that says the same to everybody."""

    def __init__(self, chance: float, tokens: ReadOnly[int] = tuple(range(MOST_GUESSES))) -> None:
        self.chance = chance
        self.tokens = tokens

    def guess(self, wanted: ReadOnly[tuple[Sequence, int]]) -> list[Guess]:
        return [Guess(self.tokens[:most], [self.chance] * min(most, len(self.tokens))) for _, most in wanted]

    def took(self, sequence: Sequence, token: int) -> None:
        pass

    def forget(self, sequence: Sequence) -> None:
        pass


def curve_of(times: dict[int, float], until: int = 99) -> CostCurve:
    curve = CostCurve()
    for rows, time in times.items():
        for _ in range(3 * (rows <= until)):
            curve.measured(rows, int(time * 50 * MS))
    return curve


def sequences(count: int, max_tokens: int = -1) -> list[Sequence]:
    work = Work("w", (1, 2), SamplingParameters(), max_tokens, 0)
    return [Sequence(work, 1000, None, None) for _ in range(count)]  # type: ignore[arg-type]


def chosen(chance: float, curve: CostCurve, count: int = 1, room: int = 100) -> list[int]:
    return [len(guesses) for guesses in Speculation(Says(chance), curve).choose(sequences(count), room)]


def test_sure_guesses_go_as_far_as_they_pay() -> None:
    """What will be right fills the batch length with the best price per token."""
    assert chosen(0.99, curve_of(Q05)) in ([14], [15])
    assert chosen(0.99, curve_of(DEMO)) == [1]


def test_a_dear_length_is_passed_over() -> None:
    """A batch of three that costs more than one of four is not used."""
    for chance in (0.7, 0.75, 0.8, 0.85):
        assert chosen(chance, curve_of(Q05)) not in ([2], [])


@pytest.mark.parametrize("chance", [0.0, 0.2, 0.5])
def test_doubtful_guesses_are_left_out(chance: float) -> None:
    """What is wrong as often as right costs more than it brings."""
    assert chosen(chance, curve_of(Q05)) == []


def test_nothing_is_guessed_before_steps_were_measured() -> None:
    """Without a few plain steps there is nothing to compare with."""
    assert chosen(1.0, CostCurve()) == []
    curve = CostCurve()
    curve.measured(1, MS)
    assert chosen(1.0, curve) == []


def test_an_unknown_length_is_tried_and_then_known() -> None:
    """With plain steps alone measured, likely guesses are tried; their true price decides from then on."""
    curve = curve_of(DEMO, until=1)
    for _ in range(40):
        counts = chosen(0.9, curve)
        rows = 1 + sum(counts)
        below = max(n for n in DEMO if n <= rows)
        curve.measured(rows, int(DEMO[below] * rows / below * 50 * MS))
    assert counts in ([], [1])


def test_a_slow_moment_does_not_condemn_a_length() -> None:
    """One step that a neighbour slowed down says nothing."""
    curve = curve_of(Q05)
    before = curve.costs(1, 7)[-1]
    curve.measured(8, 10_000 * MS)
    assert curve.costs(1, 7)[-1] == before


def test_a_dear_second_row_hides_no_cheap_sixteenth() -> None:
    """Where two rows cost more than twice one (a kernel for one row alone), long guesses are still tried."""
    times = {1: 22.0, 2: 54.0, 3: 71.0, 8: 130.0, 16: 200.0}
    curve = curve_of(times, until=1)
    for _ in range(30):
        rows = 1 + sum(chosen(0.97, curve))
        curve.measured(rows, int(MS * times[max(n for n in times if n <= rows)]))
    assert sum(chosen(0.97, curve)) >= 12


def test_old_measurements_are_tried_again() -> None:
    """A length that seemed too dear long ago gets another chance."""
    curve = curve_of({1: 1.0, 16: 100.0, 2: 100.0, 4: 100.0, 8: 100.0})
    assert chosen(0.99, curve) == []
    for _ in range(300):
        curve.measured(1, 50 * MS)
    assert chosen(0.99, curve) != []


def test_room_goes_to_the_likeliest() -> None:
    """With little room, each sequence's first guesses go before anybody's later ones."""
    curve = curve_of(dict.fromkeys(range(4, 9), 1.0))
    assert chosen(0.9, curve, count=4, room=4) == [1, 1, 1, 1]
    assert sum(chosen(0.9, curve, count=4, room=2)) == 2
    assert chosen(0.9, curve, count=4, room=0) == []


@pytest.mark.parametrize(("max_tokens", "expected"), [(0, 0), (1, 0), (2, 1), (5, 4), (-1, MOST_GUESSES)])
def test_no_guess_reaches_beyond_a_limit(max_tokens: int, expected: int) -> None:
    """The last token that may be generated is never a guess."""
    (sequence,) = sequences(1, max_tokens)
    assert min(sequence.most_guesses(), MOST_GUESSES) == expected


# --- with an engine


class Free(CostCurve):
    """Rows that cost nothing."""

    def trusted(self, rows: int) -> bool:
        return True

    def costs(self, base: int, most: int) -> list[float]:
        return [1.0] * (most + 1)


class Knows(Says):
    """A guesser that knows the answer; every *lie*-th guess is wrong."""

    def __init__(self, answer: list[int], lie: int = 0) -> None:
        super().__init__(1.0, answer)
        self.lie = lie

    def guess(self, wanted: ReadOnly[tuple[Sequence, int]]) -> list[Guess]:
        guesses = []
        for sequence, most in wanted:
            tokens = self.tokens[sequence.generated : sequence.generated + most]
            for index in range(len(tokens)):
                if self.lie and (sequence.generated + index) % self.lie == 0:
                    tokens[index] ^= 1
            guesses.append(Guess(tokens, [1.0] * len(tokens)))
        return guesses


@pytest.mark.parametrize("lie", [0, 1, 2, 5])
@pytest.mark.parametrize("fields", [{}, {"parameters": SamplingParameters(seed=7, temperature=0.0)}])
def test_the_answer_is_the_same(driver: Make, lie: int, fields: dict[str, Any]) -> None:
    """Right or wrong, guesses change the number of steps and nothing else, also for a sampler with a seed."""
    plain = driver().answer(b"hello", max_tokens=40, **fields)
    steps = driver()
    steps.answer(b"hello", max_tokens=40, **fields)
    fake = driver(speculation=Speculation(Knows(plain.tokens, lie), Free()))
    guessed = fake.answer(b"hello", max_tokens=40, **fields)
    assert guessed.tokens == plain.tokens
    assert (guessed.outcome.reason, guessed.outcome.generated) == ("length", 40)
    counters = fake.engine.counters()
    assert counters.decoded == 40
    assert counters.guessed > 0
    if lie != 1:
        assert counters.step < steps.engine.counters().step
    if not lie:
        assert counters.accepted == counters.guessed
    assert counters.cells_used == 5 + 39


def test_a_draw_with_a_seed_gets_no_guesses(driver: Make) -> None:
    """The steps of a request that draws with a seed do not depend on measured times: its text can be had again."""
    plain = driver().answer(b"hello", max_tokens=40)
    fake = driver(speculation=Speculation(Knows(plain.tokens), Free()))
    seeded = fake.answer(b"hello", max_tokens=40, parameters=SamplingParameters(seed=7, temperature=0.8))
    assert seeded.outcome.generated == 40
    assert fake.engine.counters().guessed == 0


@pytest.mark.parametrize("stop_after", [1, 2, 3, 9])
def test_a_stop_within_guesses_is_a_stop(driver: Make, recorder: Any, stop_after: int) -> None:
    """A listener that ends in the middle of right guesses gets no more, and nothing more is kept of it."""
    plain = driver().answer(b"hello", max_tokens=20)
    fake = driver(speculation=Speculation(Knows(plain.tokens), Free()))
    listener = fake.answer(b"hello", max_tokens=20, listener=recorder(stop_after=stop_after))
    assert listener.tokens == plain.tokens[:stop_after]
    assert listener.outcome.generated == stop_after
    assert fake.engine.counters().cells_kept == 5 + stop_after - 1


def test_only_real_tokens_are_accepted(driver: Make) -> None:
    """A penalty sees what the sequence said, never a wrong guess."""
    parameters = SamplingParameters(temperature=0.0, repeat_penalty=1.5, repeat_last_n=64)
    plain = driver().answer(b"hello", max_tokens=20, parameters=parameters)
    fake = driver(speculation=Speculation(Knows(plain.tokens, 3), Free()))
    assert fake.answer(b"hello", max_tokens=20, parameters=parameters).tokens == plain.tokens


def test_no_guess_stands_beside_a_prompt(driver: Make) -> None:
    """A step with prompt tokens has one row for each stream."""
    fake = driver(ctx_len=1024, n_batch=32, speculation=Speculation(Says(1.0), Free()))
    batches: list[Any] = []
    decode = fake.context.decode
    fake.context.decode = lambda batch: (batches.append(batch), decode(batch))
    fake.submit(b"stream", max_tokens=500)
    fake.turns(3)
    prompt = fake.submit(bytes(range(1, 201)))
    batches.clear()
    while not prompt.tokens:
        fake.turns(1)
    assert all(batch.sequence_ids.count(batch.sequence_ids[0]) == 1 for batch in batches)


@pytest.mark.parametrize("options", [{"can_cut": False}, {"can_cut": False, "can_share": False}])
def test_a_context_that_cannot_cut_gets_no_guesses(driver: Make, options: dict[str, bool]) -> None:
    """Where wrong guesses cannot be taken back, there are none."""
    fake = driver(speculation=Speculation(Says(1.0), Free()), **options)
    fake.answer(b"hello", max_tokens=20)
    assert fake.engine.counters().guessed == 0


def test_after_a_refused_cut_there_are_no_guesses(driver: Make) -> None:
    """A context that will not take guesses back after all gets no more of them, and the answer is right."""
    plain = driver().answer(b"hello", max_tokens=20)
    fake = driver(speculation=Speculation(Knows(plain.tokens, 2), Free()))
    fake.context.refuse_cuts = True
    assert fake.answer(b"hello", max_tokens=20).tokens == plain.tokens
    guessed = fake.engine.counters().guessed
    assert guessed > 0
    fake.answer(b"other", max_tokens=20)
    assert fake.engine.counters().guessed == guessed


def test_guesses_evict_nothing(driver: Make) -> None:
    """Guesses take free cells only; with none left the answer goes on token by token."""
    plain = driver(slots=1, ctx_len=30).answer(b"hello", max_tokens=20)
    fake = driver(slots=1, ctx_len=30, n_ctx=30, speculation=Speculation(Knows(plain.tokens, 1), Free()))
    fake.answer(b"earlier on")
    kept = fake.engine.counters().cells_kept
    listener = fake.submit(b"hello", max_tokens=20)
    fake.turns(3)
    assert fake.engine.counters().cells_kept == kept
    fake.run()
    assert listener.tokens == plain.tokens


def test_repeated_text_is_guessed_without_being_told(driver: Make) -> None:
    """A text that goes round in circles is noticed, guessed and made in fewer steps."""
    fake = driver(ctx_len=512)
    script = [5, 6, 7, 8] * 60

    def sample(picks: Any) -> list[int]:
        tokens = []
        for sampler, _ in picks:
            tokens.append(script[len(sampler.accepted)])
            sampler.accept((tokens[-1],))
        return tokens

    fake.context.sample = sample
    listener = fake.answer(b"hello", max_tokens=200, parameters=SamplingParameters(repeat_last_n=-1), id="circle")
    assert listener.tokens == script[5:205]
    counters = fake.engine.counters()
    assert counters.accepted > 50
    assert counters.step < 150


def test_rows_are_asked_one_after_the_other(driver: Make) -> None:
    """`Context.verify` samples a row only if the row before chose what was guessed."""
    context: FakeContext = driver().context
    asked: list[list[int]] = []

    def sample(picks: Any) -> list[int]:
        asked.append([row for _, row in picks])
        return [row for _, row in picks]

    context.sample = sample  # type: ignore[method-assign]
    sampler = context.sampler(SamplingParameters())
    checks = [(sampler, 0, (0, 1, 9, 3)), (sampler, 5, ()), (sampler, 6, (6, 7))]
    assert context.verify(checks) == [[0, 1, 2], [5], [6, 7, 8]]
    assert asked == [[0, 5, 6], [1, 7], [2, 8]]


def test_the_last_token_of_a_prompt_has_a_row_of_its_own_for_a_draw_with_a_seed(driver: Make) -> None:
    """Whether a prompt was kept or is new, a request that draws with a seed computes its last token alone."""
    fake = driver()
    seeded = SamplingParameters(seed=7, temperature=0.8)
    for cached in (0, 4):
        steps = fake.engine.counters().step
        answer = fake.answer(b"hello", max_tokens=1, parameters=seeded)
        assert answer.outcome.timings.cached_tokens == cached
        assert fake.engine.counters().step - steps == (1 if cached else 2)
