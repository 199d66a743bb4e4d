"""The thread between commands and steps."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import CancelledError

import pytest

from ollamad.engine.thread import EngineThread
from ollamad.engine.work import EngineStopped
from ollamad.testing.fake_context import FakeContext
from ollamad.testing.fake_gates import Gates
from ollamad.testing.fake_options import FakeOptions


class Counting(EngineThread):
    """Steps as long as there is something to count down."""

    def __init__(self, on_fatal: Callable[[BaseException], None]) -> None:
        context = FakeContext(FakeOptions(), Gates(), n_ctx=1, n_batch=1, n_sequences=1)
        super().__init__("counting", context, on_fatal)
        self.left = 0
        self.abandoned: list[BaseException | None] = []

    def _step(self) -> bool:
        if self.left < 0:
            raise RuntimeError("below zero")
        self.left -= self.left > 0
        return self.left > 0

    def _abandon(self, error: BaseException | None) -> None:
        self.abandoned.append(error)


@pytest.fixture
def fatal() -> list[BaseException]:
    return []


@pytest.fixture
def thread(fatal: list[BaseException]) -> Counting:
    return Counting(fatal.append)


def test_calls_run_in_order_in_one_thread(thread: Counting) -> None:
    """Calls run one after the other, in the engine's thread."""
    thread.start()
    futures = [thread.call(lambda context, i=i: (i, threading.current_thread().name)) for i in range(50)]
    assert [future.result(5) for future in futures] == [(i, "counting") for i in range(50)]
    thread.stop()


def test_a_call_that_comes_too_late_is_refused(thread: Counting) -> None:
    """After the end nothing is queued that nobody would run."""
    thread.start()
    thread.stop()
    with pytest.raises(EngineStopped):
        thread.call(lambda context: 0)
    assert thread.abandoned == [None]


def test_a_call_that_was_not_run_is_cancelled(thread: Counting) -> None:
    """A call that waits when the thread stops does not leave its caller waiting."""
    future = thread.call(lambda context: 0)
    thread.stop()
    with pytest.raises(CancelledError):
        future.result(5)


def test_a_failing_step_ends_the_thread(thread: Counting, fatal: list[BaseException]) -> None:
    """An error of a step is told once, after the work was abandoned with it."""
    thread.left = -1
    thread.start()
    thread._thread.join(5)
    assert [str(error) for error in fatal] == ["below zero"]
    assert thread.abandoned == fatal
    thread.stop()
    assert len(thread.abandoned) == 1
