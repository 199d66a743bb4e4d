"""The fake context is as strict as llama.cpp, and its tokens show what was visible."""

from __future__ import annotations

import pytest

from ollamad.plugin.backend import BackendError, Batch, KVCacheFull
from ollamad.testing.backend_contract import GREEDY, answer, feed, feed_into, go_on
from ollamad.testing.fake_context import FakeContext
from ollamad.testing.fake_gates import Gates
from ollamad.testing.fake_options import EOS, FakeOptions
from ollamad.types import SamplingParameters


def make(n_ctx: int = 32, n_batch: int = 32, **options: object) -> FakeContext:
    return FakeContext(FakeOptions(**options), Gates(), n_ctx=n_ctx, n_batch=n_batch, n_sequences=3)  # type: ignore[arg-type]


def test_the_text_depends_on_everything_visible() -> None:
    """One other token, or the same tokens in another order, give another answer."""
    answers = {tuple(answer(make(), prompt)) for prompt in ([1, 2, 3], [1, 2, 4], [2, 1, 3], [1, 2], [2, 3])}
    assert len(answers) == 5


def test_models_differ_by_seed() -> None:
    """Two fakes with other seeds answer otherwise, and a request's seed counts when it is warm."""
    assert answer(make(), [1]) != answer(make(seed=1), [1])
    warm = [answer(make(), [1], parameters=SamplingParameters(seed=seed)) for seed in (1, 2)]
    assert warm[0] != warm[1]


@pytest.mark.parametrize("position", [0, 1, 3])
def test_positions_have_no_gaps(position: int) -> None:
    """A token must continue its sequence exactly."""
    context = make()
    feed(context, [1, 2], 0)
    with pytest.raises(BackendError, match="continues at 2"):
        feed(context, [3], 0, position)


def test_a_step_has_its_limits() -> None:
    """Too many tokens, none at all, and a foreign sequence id are errors."""
    context = make(n_batch=2)
    for tokens, sequence_id in (([1, 2, 3], 0), ([], 0), ([1], 3)):
        batch = Batch()
        feed_into(batch, tokens, sequence_id)
        with pytest.raises(BackendError):
            context.decode(batch)


def test_the_cells_are_counted_once() -> None:
    """A shared cell counts once, and is free when its last owner has gone."""
    context = make(n_ctx=8)
    feed(context, [1, 2, 3, 4], 0)
    context.copy(0, 1, 0, 3)
    assert context.used == 4
    context.remove(0, 0, -1)
    assert (context.used, context.visible(1)) == (3, [1, 2, 3])
    with pytest.raises(KVCacheFull):
        feed(context, [1] * 6, 2)


def test_a_shift_moves_shared_cells_for_everybody() -> None:
    """As in llama.cpp: who shifts shared cells breaks the other sequence."""
    context = make()
    feed(context, [1, 2, 3, 4], 0)
    context.copy(0, 1, 0, 4)
    context.remove(0, 0, 2)
    context.shift(0, 2, 4, -2)
    assert [cell.position for cell in context.cells[1]] == [0, 1, 0, 1]


def test_only_asked_rows_can_be_sampled() -> None:
    """A row without logits, and a closed sampler, are errors."""
    context = make()
    row = feed(context, [1, 2, 3], 0)
    sampler = context.sampler(GREEDY)
    with pytest.raises(BackendError):
        context.sample([(sampler, row - 1)])
    sampler.close()
    with pytest.raises(BackendError):
        context.sample([(sampler, row)])


def test_answers_end_as_often_as_wanted() -> None:
    """``end_every`` 1 ends at once, 0 never."""
    assert answer(make(end_every=1), [1], 1) == [EOS]
    assert EOS not in answer(make(n_ctx=400, end_every=0), [1], 300)


def test_wide_letters_are_whole() -> None:
    """With ``wide``, letters of two bytes occur, and their bytes come one token after the other."""
    context = make(n_ctx=400, wide=True, end_every=0)
    tokens = go_on(context, feed(context, [65], 0), 0, 1, 300)
    text = bytes(tokens if tokens[-1] != 0xC3 else tokens[:-1]).decode()
    assert not text.isascii()


def test_what_is_not_declared_is_an_error() -> None:
    """A context that cannot share or shift says so; a cut is refused and changes nothing."""
    context = make(can_share=False, can_shift=False, can_cut=False)
    feed(context, [1, 2, 3], 0)
    for call in (lambda: context.copy(0, 1, 0, 1), lambda: context.shift(0, 0, 1, 1)):
        with pytest.raises(BackendError):
            call()
    assert not context.remove(0, 1, -1)
    assert context.visible(0) == [1, 2, 3]
