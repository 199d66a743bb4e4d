"""Real runner processes, gone after the test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from real_runner import Child, demo_spec

from ollamad.wire.messages import Ready


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Child]]:
    """Starts runners whose store is ``tmp_path``."""
    children: list[Child] = []

    def start(*extra: str, environment: dict[str, str] | None = None) -> Child:
        children.append(Child(tmp_path, *extra, environment=environment))
        return children[-1]

    yield start
    for child in children:
        child.close()


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Child]:
    """A runner with the demo model, two slots of 2048 tokens."""
    child = Child(tmp_path_factory.mktemp("store"))
    assert isinstance(child.load(demo_spec()), Ready)
    yield child
    child.close()
