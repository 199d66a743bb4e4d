"""Tables (runtime contract, TBL cases); a middle dot stands for a blank."""

import random

import pytest

from ollamad.cli.table import display_width, render, wrap


def dots(text: str) -> str:
    return text.replace(" ", "·")


def test_list_rows_end_with_four_blanks_and_the_header_with_one() -> None:
    """TBL-01."""
    rows = [["model1", "sha256:abc12", "1.0 KB", "24 hours ago"], ["model2", "sha256:def45", "2.0 KB", "2 days ago"]]
    assert dots(render(["name", "id", "size", "modified"], rows)) == (
        "NAME······ID··············SIZE······MODIFIED·····\n"
        "model1····sha256:abc12····1.0·KB····24·hours·ago····\n"
        "model2····sha256:def45····2.0·KB····2·days·ago······\n"
    )


@pytest.mark.parametrize(
    ("headers", "line"),
    [
        (["name", "id", "size", "modified"], "NAME····ID····SIZE····MODIFIED·\n"),
        (
            ["name", "id", "size", "processor", "context", "until"],
            "NAME····ID····SIZE····PROCESSOR····CONTEXT····UNTIL·\n",
        ),
    ],
)
def test_an_empty_table_is_its_header(headers: list[str], line: str) -> None:
    """TBL-04, TBL-05."""
    assert dots(render(headers, [])) == line


def test_ps_row() -> None:
    """TBL-06."""
    row = ["gemma4:latest", "c6eb396dbd59", "9.6 GB", "100% GPU", "131072", "2 minutes from now"]
    assert dots(render(["name", "id", "size", "processor", "context", "until"], [row])) == (
        "NAME·············ID··············SIZE······PROCESSOR····CONTEXT····UNTIL··············\n"
        "gemma4:latest····c6eb396dbd59····9.6·GB····100%·GPU·····131072·····2·minutes·from·now····\n"
    )


@pytest.mark.parametrize(
    ("text", "limit", "lines"),
    [
        (
            "the quick brown fox jumps over the lazy dog again and again",
            30,
            ["the quick brown fox jumps over", "the lazy dog again and again"],
        ),
        (
            "the quick brown fox jumps over the lazy dog",
            20,
            ["the quick brown fox", "jumps over the lazy", "dog"],
        ),
        ("one extraordinarilylongword here", 10, ["one", "extraordinarilylongword", "here"]),
        ("", 10, [""]),
    ],
)
def test_wrap(text: str, limit: int, lines: list[str]) -> None:
    """TBL-07, TBL-08, and a word that is longer than the limit."""
    assert wrap(text, limit) == lines


def test_wrap_is_the_best_of_all_wraps() -> None:
    """The lines found have the least sum of squared rests, compared with every way to break."""

    def cost(lines: list[str], limit: int) -> float:
        return sum((limit - len(line)) ** 2 for line in lines[:-1])

    def every(words: list[str], limit: int) -> list[list[str]]:
        out = [[]] if not words else []  # type: list[list[str]]
        for end in range(1, len(words) + 1):
            line = " ".join(words[:end])
            if len(line) <= limit:
                out += [[line, *rest] for rest in every(words[end:], limit)]
        return out

    rng = random.Random(5)
    for _ in range(60):
        words = ["x" * rng.randint(1, 7) for _ in range(rng.randint(1, 9))]
        best = min(cost(lines, 12) for lines in every(words, 12))
        assert cost(wrap(" ".join(words), 12), 12) == best


def test_wide_characters_and_colours() -> None:
    """A wide character counts two columns, an escape sequence and a combining mark none."""
    assert [display_width(text) for text in ("abc", "日本", "\x1b[1mx\x1b[0m", "e\u0301")] == [3, 4, 1, 1]
    assert render([], [["日", "x"], ["abc", "y"]]) == "日     x    \nabc    y    \n"
