"""Normalising remote hosts. Ids: models contract, F33."""

from __future__ import annotations

import pytest

from ollamad.errors import InvalidRequest
from ollamad.service.create_checks import normalise_remote


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("/foo/bar", "http://localhost:11434/foo/bar"),
        ("/foo/../bar", "http://localhost:11434/bar"),
        ("/", "http://localhost:11434/"),
        ("example.com", "http://example.com:11434"),
        ("example.com:8080", "http://example.com:8080"),
        ("https://example.com", "https://example.com:11434"),
        ("https://example.com:8080/path", "https://example.com:8080/path"),
        ("https://example.com:8080/path/../other", "https://example.com:8080/other"),
        ("ollama.com", "https://ollama.com:443"),
        ("http://ollama.com", "https://ollama.com:443"),
        ("http://example.com", "http://example.com:11434"),
        ("http://example.com/", "http://example.com:11434"),
        ("http://localhost", "http://localhost:11434"),
        ("", "http://localhost:11434"),
        ("/a/b/../../c/./d", "http://localhost:11434/c/d"),
        ("127.0.0.1:9", "http://127.0.0.1:9"),
        ("[::1]:80", "http://[::1]:80"),
    ],
)
def test_remote_hosts(text: str, expected: str) -> None:
    """A remote host gets scheme, port and a clean path; doing it twice changes nothing."""
    assert normalise_remote(text) == expected
    assert normalise_remote(expected) == expected


def test_bad_remote() -> None:
    """A host that cannot be parsed is refused."""
    with pytest.raises(InvalidRequest, match="bad remote"):
        normalise_remote("http://[::1]:namedport")
