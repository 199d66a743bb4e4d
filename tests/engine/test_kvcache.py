"""The bookkeeping of cells by hand; `test_histories.py` plays random ones."""

from __future__ import annotations

from typing import Any

from ollamad.engine.kvcache import Copy, Holding, KVCache, Remove, Shift


def make_cache(n_cells: int = 32, n_sequences: int = 4, **can: Any) -> KVCache:
    return KVCache(n_cells, n_sequences, **{"can_share": True, "can_cut": True, "can_shift": True, **can})


def ran(cache: KVCache, tokens: list[int], key: str = "") -> Holding:
    """A sequence whose tokens are all computed."""
    holding = cache.begin(tokens, key)
    cache.extend(holding, len(tokens) - len(holding.cells))
    return holding


def test_a_running_sequence_shares_its_beginning() -> None:
    """A prompt that begins like a running one takes those cells and no new ones."""
    cache = make_cache()
    first = ran(cache, [1, 2, 3, 4])
    second = cache.begin([1, 2, 3, 9], "")
    assert cache.operations == [Copy(first.id, second.id, 3)]
    assert second.cells == first.cells[:3]
    assert cache.used == 4


def test_the_last_token_is_always_computed() -> None:
    """Of a prompt that is held completely, all but one token are reused: its logits are needed."""
    cache = make_cache()
    cache.finish(ran(cache, [1, 2, 3]))
    assert len(cache.begin([1, 2, 3], "").cells) == 2


def test_a_finished_sequence_is_continued_in_place() -> None:
    """A prompt that holds all of a finished sequence goes on under its id, without any operation."""
    cache = make_cache()
    first = ran(cache, [1, 2, 3])
    cache.finish(first)
    assert cache.begin([1, 2, 3, 4], "") is first
    assert not cache.operations


def test_without_sharing_a_finished_sequence_is_cut() -> None:
    """Where cells cannot be shared, the longest finished beginning is cut and continued."""
    cache = make_cache(can_share=False)
    first = ran(cache, [1, 2, 3, 4])
    cache.finish(first)
    assert cache.begin([1, 2, 3, 9, 9], "") is first
    assert cache.operations == [Remove(first.id, 3, -1)]


def test_without_sharing_a_short_beginning_spares_a_long_sequence() -> None:
    """A beginning of a few tokens is no reason to give up a long conversation while ids are free."""
    cache = make_cache(can_share=False)
    first = ran(cache, list(range(10)))
    cache.finish(first)
    assert cache.begin([0, 1, 99], "") is not first


def test_without_cuts_only_whole_sequences_are_reused() -> None:
    """Where nothing can be cut or shared, a sequence is reused if the prompt holds all of it."""
    cache = make_cache(can_share=False, can_cut=False)
    cache.finish(ran(cache, [1, 2, 3]))
    assert cache.begin([1, 2, 9], "").cells == []
    cache.finish(ran(cache, [5, 6, 7]))
    assert len(cache.begin([5, 6, 7, 8], "").cells) == 3


def test_prefixes_match_within_a_compute_key_only() -> None:
    """Cells that another adapter computed are never reused."""
    cache = make_cache()
    cache.finish(ran(cache, [1, 2, 3], key="adapter"))
    assert cache.begin([1, 2, 3, 4], "").cells == []


def test_the_least_recently_used_goes_first() -> None:
    """Room is made by giving up the finished sequence that was used longest ago."""
    cache = make_cache(n_cells=12)
    for start in (10, 20, 30):
        cache.finish(ran(cache, [start, start + 1, start + 2]))
    ran(cache, [10, 11, 12, 13])  # used again
    cache.operations.clear()
    assert cache.make_room(4)
    assert [operation.sequence_id for operation in cache.operations] == [1]


def test_running_sequences_are_never_evicted() -> None:
    """When only running sequences hold cells, there is no room to be made."""
    cache = make_cache(n_cells=4)
    ran(cache, [1, 2, 3])
    assert not cache.make_room(2)
    assert cache.used == 3


def test_what_the_new_one_says_too_is_dropped() -> None:
    """A finished sequence that is a beginning of a newer one is forgotten."""
    cache = make_cache()
    first, second = ran(cache, [1, 2, 3]), ran(cache, [1, 2, 3, 4])
    cache.finish(first)
    cache.finish(second)
    assert cache.used == cache.kept_cells == 4
    assert Remove(first.id, 0, -1) in cache.operations


def test_a_shift_discards_the_middle() -> None:
    """A shift removes behind what is kept and closes the gap."""
    cache = make_cache()
    holding = ran(cache, [0, 1, 2, 3, 4, 5, 6])
    assert cache.shift(holding, 1, 3)
    assert cache.operations == [Remove(0, 1, 4), Shift(0, 4, 7, -3)]
    assert holding.tokens == [0, 4, 5, 6]


def test_shifted_cells_are_reused_by_nobody() -> None:
    """Cells that were computed in sight of dropped tokens stay out of other answers."""
    cache = make_cache()
    holding = ran(cache, [0, 1, 2, 3, 4, 5, 6])
    cache.shift(holding, 1, 3)
    cache.finish(holding)
    assert cache.used == 1
    assert cache.begin([0, 4, 5, 6], "").cells == holding.cells[:1]


def test_a_shift_never_moves_a_running_neighbour() -> None:
    """llama.cpp moves a cell for all its owners, so shared cells are computed again instead."""
    cache = make_cache()
    first = ran(cache, [0, 1, 2, 3, 4, 5, 6])
    second = ran(cache, [0, 1, 2, 3, 4, 5, 9])
    cache.operations.clear()
    assert not cache.shift(first, 1, 2)
    assert cache.operations == [Remove(first.id, 1, -1)]
    assert first.tokens == [0, 3, 4, 5, 6]
    assert len(first.cells) == 1
    assert len(second.cells) == 7


def test_a_shift_cuts_finished_neighbours_back() -> None:
    """A finished sequence that shares cells to be moved keeps only what stays in place."""
    cache = make_cache()
    first = ran(cache, [0, 1, 2, 3, 4, 5, 6])
    second = ran(cache, [0, 1, 2, 3, 4, 5, 9])
    cache.finish(second)
    cache.operations.clear()
    assert cache.shift(first, 1, 2)
    assert cache.operations[0] == Remove(second.id, 3, -1)
    assert second.tokens == [0, 1, 2]


def test_a_source_outlives_the_search_for_an_id() -> None:
    """Where an id has to be freed for a new sequence, it is not that of the sequence it shares with."""
    cache = make_cache(n_sequences=3)
    first, second = ran(cache, [1, 2, 3, 4]), ran(cache, [5, 6])
    cache.finish(first)
    cache.finish(second)
    ran(cache, [7])
    cache.operations.clear()
    holding = cache.begin([1, 2, 3, 9], "")
    assert cache.operations == [Remove(second.id, 0, -1), Copy(first.id, holding.id, 3)]


def test_the_last_other_sequence_is_taken_over() -> None:
    """With no other way to an id, the shared sequence is cut and continued itself."""
    cache = make_cache(n_sequences=2)
    first = ran(cache, [1, 2, 3, 4])
    cache.finish(first)
    ran(cache, [7])
    assert cache.begin([1, 2, 3, 9], "") is first
    assert cache.operations == [Remove(first.id, 3, -1)]


def test_equal_tokens_of_another_key_say_something_else() -> None:
    """A finished sequence is only made needless by one of its own key."""
    cache = make_cache()
    for key in ("a", "b"):
        cache.finish(ran(cache, [1, 2, 3], key))
    assert cache.kept_cells == 6


def test_what_is_not_used_for_long_goes() -> None:
    """A finished sequence that cost the running ones more than it may earn is forgotten, oldest first."""
    cache = make_cache(n_cells=200, kept_for=10, kept_freely=4)
    for start in (10, 20, 30):
        cache.finish(ran(cache, [start, start + 1, start + 2]))
    running = ran(cache, [1, 2, 3, 4])
    cache.expire()
    assert cache.kept_cells == 9  # the oldest was used ten tokens ago
    cache.extend(running, 1)
    cache.expire()
    assert cache.kept_cells == 6
    cache.extend(running, 100)
    cache.expire()
    assert cache.kept_cells == 3  # few cells cost nothing


def test_sharing_is_use() -> None:
    """A finished beginning that others begin with stays."""
    cache = make_cache(n_cells=200, kept_for=10, kept_freely=0)
    cache.finish(ran(cache, [1, 2, 3, 4]))
    for tail in range(20, 40):
        cache.finish(ran(cache, [1, 2, 3, tail]))
        cache.expire()
    assert len(cache.begin([1, 2, 3, 4, 5], "").cells) >= 3


def test_wrong_guesses_are_taken_back() -> None:
    """Cells behind the tokens that came true are freed, as an operation."""
    cache = make_cache()
    holding = ran(cache, [1, 2, 3])
    cache.extend(holding, 4)
    cache.take_back(holding, 5)
    assert cache.operations == [Remove(holding.id, 5, -1)]
    assert cache.used == len(holding.cells) == 5
