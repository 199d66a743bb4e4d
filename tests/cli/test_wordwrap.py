"""Word wrap of a stream (runtime contract, WRP cases)."""

import pytest

from ollamad.cli.wordwrap import WordWrap

CASES = [
    (20, "hello brave new world of words", "hello brave new\x1b[3D\x1b[K\nnew world of wo\x1b[2D\x1b[K\nwords"),
    (20, "aaaa bbbb cccc dddd", "aaaa bbbb cccc \x1b[K\ndddd"),
    (9, "abc def ghi jkl mno", "abc def ghi jkl mno"),
]


@pytest.mark.parametrize(("width", "text", "shown"), CASES)
@pytest.mark.parametrize("step", [1, 3, 100])
def test_wordwrap(width: int, text: str, shown: str, step: int) -> None:
    """WRP-01 to WRP-03; how the text is cut into pieces does not matter."""
    out: list[str] = []
    wrap = WordWrap(out.append, width)
    for start in range(0, len(text), step):
        wrap.feed(text[start : start + step])
    assert "".join(out) == shown


def test_a_long_word_is_not_printed_twice() -> None:
    """Where the original repeats the first part of an over-long word, ours breaks it (Q8)."""
    out: list[str] = []
    WordWrap(out.append, 20).feed("x" * 40)
    assert "".join(out).replace("\n", "") == "x" * 40
