"""What one client may take."""

import resource

import pytest

from ollamad.http.limits import raise_descriptor_limit


def test_the_soft_limit_becomes_the_hard_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """All descriptors that the system grants are used."""
    given: list[tuple[int, tuple[int, int]]] = []
    monkeypatch.setattr(resource, "getrlimit", lambda which: (1024, 4096))
    monkeypatch.setattr(resource, "setrlimit", lambda which, limits: given.append((which, limits)))
    assert raise_descriptor_limit() == 4096
    assert given == [(resource.RLIMIT_NOFILE, (4096, 4096))]


def test_a_refused_raise_keeps_what_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """A system that refuses goes on with the soft limit."""

    def refuse(which: int, limits: tuple[int, int]) -> None:
        raise ValueError

    monkeypatch.setattr(resource, "getrlimit", lambda which: (1024, -1))
    monkeypatch.setattr(resource, "setrlimit", refuse)
    assert raise_descriptor_limit() == 1024
