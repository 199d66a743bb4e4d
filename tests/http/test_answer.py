"""Answers as bytes."""

import pytest

from ollamad.http.answer import chunk, head, phrase, redirect


def test_a_header_never_ends_early() -> None:
    """Line ends in a value become blanks: no text of ours or a client's makes a header."""
    assert head((1, 1), 200, [("X", "a\r\nB: c")]) == b"HTTP/1.1 200 OK\r\nX: a  B: c\r\n\r\n"


@pytest.mark.parametrize(("version", "line"), [((1, 0), b"HTTP/1.0"), ((1, 1), b"HTTP/1.1"), ((1, 9), b"HTTP/1.1")])
def test_versions(version: tuple[int, int], line: bytes) -> None:
    """We answer with what we speak."""
    assert head(version, 204, []).startswith(line + b" 204 No Content")


def test_statuses_without_a_phrase() -> None:
    """A status that has no name is named as Go names it."""
    assert phrase(499) == "status code 499"


def test_a_redirect_escapes_what_it_repeats() -> None:
    """A path from outside is no markup and no other host."""
    answer = redirect("GET", '/a"<b> ü', "x=<y>")
    assert answer.headers["Location"] == "/a%22%3Cb%3E%20%C3%BC?x=<y>"
    assert b"<y>" not in answer.body


def test_chunks() -> None:
    """A chunk is its length in hexadecimal and its bytes."""
    assert chunk(b"x" * 17) == b"11\r\n" + b"x" * 17 + b"\r\n"
