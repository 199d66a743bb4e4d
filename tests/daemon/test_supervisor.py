"""Tasks and their owner."""

import asyncio
import logging

import pytest

from ollamad.daemon.supervisor import Supervisor


async def forever() -> None:
    await asyncio.Event().wait()


async def fail() -> None:
    raise ValueError("broken")


async def test_a_failure_is_told_and_the_others_go_on(caplog: pytest.LogCaptureFixture) -> None:
    """An exception is logged with its task's name and remembered; other tasks are not touched."""
    supervisor = Supervisor()
    other = supervisor.spawn(forever(), "other")
    failing = supervisor.spawn(fail(), "failing")
    with caplog.at_level(logging.ERROR):
        await asyncio.wait([failing])
        await asyncio.sleep(0)
    assert [(one.name, one.error) for one in supervisor.failures] == [("failing", "ValueError: broken")]
    assert caplog.records[0].task == "failing"  # type: ignore[attr-defined]
    assert not other.done()
    assert supervisor.running == ("other",)
    await supervisor.close()
    assert other.cancelled()
    assert supervisor.running == ()


async def test_a_task_that_does_not_end_is_named(caplog: pytest.LogCaptureFixture) -> None:
    """Closing waits its time and no longer."""
    supervisor = Supervisor()
    gate = asyncio.Event()

    async def stubborn() -> None:
        while not gate.is_set():
            try:
                await gate.wait()
            except asyncio.CancelledError:
                continue

    task = supervisor.spawn(stubborn(), "stubborn")
    await asyncio.sleep(0)
    await supervisor.close(timeout_s=0.01)
    assert "task does not end" in caplog.text
    gate.set()
    await task


async def test_closing_without_tasks() -> None:
    """There is nothing to wait for."""
    await Supervisor().close()
