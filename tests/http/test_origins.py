"""Allowed origins; ids from http-api contract A.2."""

import pytest

from ollamad.errors import ConfigError
from ollamad.http.origins import DEFAULT_ORIGINS, Origins


@pytest.mark.parametrize(
    ("configured", "origin", "allowed"),
    [
        pytest.param((), "http://localhost:3000", True, id="CO-01"),
        pytest.param((), "https://example.com", False, id="CO-02"),
        pytest.param((), "http://127.0.0.1", True, id="CO-03"),
        pytest.param((), "https://evil.test", False, id="CO-04"),
        pytest.param((), "app://obsidian.md", True, id="CO-05"),
        pytest.param((), "vscode-webview://abc", True, id="CO-06"),
        pytest.param((), "chrome-extension://abc", False, id="CO-07"),
        pytest.param(("chrome-extension://*",), "chrome-extension://abc", True, id="CO-08"),
        pytest.param(("*",), "https://anything.test", True, id="CO-09"),
        pytest.param((), "HTTP://LOCALHOST:3000", False, id="upper case"),
        pytest.param((), "http://evil.test:localhost", False, id="middle"),
        pytest.param((), "null", False, id="null"),
        pytest.param((), "localhost", False, id="bare"),
        pytest.param(("https://Example.COM",), "https://example.com", True, id="entry lowered"),
        pytest.param(("https://*.example.com",), "https://a.example.com", True, id="middle star"),
        pytest.param(("https://*.example.com",), "http://a.example.com", False, id="middle star, other scheme"),
    ],
)
def test_origins(configured: tuple[str, ...], origin: str, allowed: bool) -> None:
    """An entry without a star is compared whole, one with a star by its two ends."""
    assert Origins(configured).allows(origin) is allowed


@pytest.mark.parametrize(
    "configured",
    [
        pytest.param(("http://10.0.0.1",), id="CO-10"),
        pytest.param(("http://172.16.0.1", "https://192.168.0.1"), id="CO-11"),
    ],
)
def test_configured_origins_come_first(configured: tuple[str, ...]) -> None:
    """The list starts with the configured entries; the built-in ones follow in their order."""
    assert Origins(configured).entries == (*configured, *DEFAULT_ORIGINS)
    assert DEFAULT_ORIGINS[:4] == ("http://localhost", "https://localhost", "http://localhost:*", "https://localhost:*")


@pytest.mark.parametrize("entry", [pytest.param("foo", id="CO-12"), "ftp://x", "http://*.*"])
def test_an_entry_that_cannot_match_is_refused(entry: str) -> None:
    """The start fails on an origin that no browser sends."""
    with pytest.raises(ConfigError):
        Origins((entry,))


def test_any_origin_needs_no_vary() -> None:
    """With * the answer does not depend on who asks."""
    assert Origins(("*",)).answer_headers("https://x") == (("Access-Control-Allow-Origin", "*"),)
