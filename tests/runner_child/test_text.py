"""Text out of tokens: whole characters, nothing of a stop string."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollamad.runner_child.text import REPEATS_MAX, OutputText, RepeatGuard


def feed(pieces: list[bytes], *stops: str) -> tuple[list[str], bool]:
    """The texts that come out, the held rest last, and whether a stop string ended it."""
    output = OutputText(stops)
    texts = []
    for piece in pieces:
        texts.append(output.feed(piece))
        if output.stopped:
            break
    return [*texts, output.finish()], output.stopped


@pytest.mark.parametrize(
    ("pieces", "stops", "texts", "stopped"),
    [
        ([b"1", b",", b" ", b"5"], ("5",), ["1", ",", " ", "", ""], True),
        ([b"4", b", ", b"5", b",", b" ", b"6", b","], ("5, 6",), ["4", ", ", "", "", "", "", ""], True),
        ([b"p", b"ong"], ("pong!!",), ["", "", "pong"], False),
        ([b"pong", b"o"], ("pong!!",), ["", "pongo", ""], False),
        ([b"aab"], ("ab", "b"), ["a", ""], True),
        ([b"xab"], ("b", "ab"), ["x", ""], True),
        ([b"aa", b"ab"], ("aab",), ["", "a", ""], True),
        ([b"hello"], ("", "zz"), ["hello", ""], False),
        ([b"one", b"two"], (), ["one", "two", ""], False),
    ],
    ids=[
        "one",
        "over tokens",
        "half at the end",
        "half refuted",
        "earliest",
        "longest first",
        "overlap",
        "empty",
        "none",
    ],
)
def test_stop_strings(pieces: list[bytes], stops: tuple[str, ...], texts: list[str], stopped: bool) -> None:
    """The earliest match ends the text before itself; a possible beginning waits, and is delivered at the end."""
    assert feed(pieces, *stops) == (texts, stopped)


def test_a_character_is_never_split() -> None:
    """The bytes of one character come out together."""
    grin = "😀".encode()
    assert feed([b"a", grin[:1], grin[1:3], grin[3:], b"b"]) == (["a", "", "", "😀", "b", ""], False)


def test_bytes_that_are_no_text_are_replaced() -> None:
    """A wrong byte becomes U+FFFD at once; half a character at the end is dropped."""
    assert feed([b"a\xffb", b"\xe2\x82"]) == (["a\ufffdb", "", ""], False)


@given(st.text(), st.lists(st.text(max_size=4), max_size=3), st.data())
def test_however_the_text_is_cut(text: str, stops: list[str], data: st.DataObject) -> None:
    """The result depends on the text alone, not on where its tokens end, and equals a search in the whole."""
    encoded = text.encode()
    pieces = []
    while encoded:
        size = data.draw(st.integers(1, 5))
        pieces.append(encoded[:size])
        encoded = encoded[size:]
    texts, stopped = feed(pieces, *stops)
    joined = "".join(texts)
    whole = [at for at in (text.find(stop) for stop in stops if stop) if at >= 0]
    assert stopped == bool(whole)
    if not whole:
        assert joined == text
    else:
        assert text.startswith(joined)
        assert any(text[len(joined) :].startswith(stop) for stop in stops if stop)


def test_a_loop_of_one_piece_is_noticed() -> None:
    """The first piece and thirty like it pass, blanks aside; the next is one too many."""
    guard = RepeatGuard()
    assert [guard.loops(piece) for piece in ["x", " x"] * 16][: REPEATS_MAX + 2] == [False] * (REPEATS_MAX + 1) + [True]


def test_another_piece_starts_the_count_anew() -> None:
    """Only neighbours count."""
    guard = RepeatGuard()
    assert not any(guard.loops(piece) for piece in (["x"] * REPEATS_MAX + ["y"]) * 3)
