"""`ollamad hello`."""

import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from ollamad.cli import hello


@pytest.fixture
def collect() -> Callable[[], tuple[int, str, str]]:
    """Runs `say_hello` and gives its status and what it printed."""

    def run() -> tuple[int, str, str]:
        out: list[str] = []
        errors: list[str] = []
        status = hello.say_hello("Who are you?", out.append, errors.append)
        return status, "".join(out), "".join(errors)

    return run


def test_the_demo_answers(
    collect: Callable[[], tuple[int, str, str]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """One question is answered by a daemon that leaves nothing behind, whatever the environment says."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("OLLAMAD_DEMO", "0")
    monkeypatch.setenv("OLLAMA_HOST", "192.0.2.1:1")
    status, text, errors = collect()
    assert (status, errors) == (0, "")
    assert text == "I am demo, the tiny model that ships with ollamad.\n"
    assert list(tmp_path.iterdir()) == []


def test_a_daemon_that_does_not_come_up(
    collect: Callable[[], tuple[int, str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The daemon's last words are shown, and the wait ends when it does."""
    monkeypatch.setattr(hello, "_command", lambda root: [sys.executable, "-c", "raise SystemExit('no luck')"])
    before = time.monotonic()
    status, text, errors = collect()
    assert (status, text) == (1, "")
    assert errors == "Error: the daemon did not start: no luck"
    assert time.monotonic() - before < 10
