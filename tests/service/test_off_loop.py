"""Blocking work beside the event loop."""

from __future__ import annotations

import asyncio
import threading

import pytest

from ollamad.service.off_loop import off_loop


async def test_results_and_errors() -> None:
    """The result comes back, and so does what the function raises."""
    assert await off_loop(divmod, 7, 2) == (3, 1)
    with pytest.raises(ZeroDivisionError):
        await off_loop(divmod, 1, 0)


@pytest.mark.parametrize("fails", [False, True])
async def test_a_cancelled_caller_waits_for_its_thread(fails: bool) -> None:
    """After the cancellation nothing runs on behind the caller's back."""
    started, go_on, ended = threading.Event(), threading.Event(), threading.Event()

    def work() -> None:
        started.set()
        go_on.wait(10)
        ended.set()
        if fails:
            raise ValueError("nobody is left to hear it")

    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(off_loop(work))
        await asyncio.to_thread(started.wait, 10)
        task.cancel()
        asyncio.get_running_loop().call_soon(go_on.set)
    assert task.cancelled()
    assert ended.is_set()
