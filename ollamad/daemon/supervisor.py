"""The owner of all long-lived tasks: what one raises is logged and remembered, and the others go on."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any

log = logging.getLogger(__name__)

#: How many failures are remembered for ``status``.
_REMEMBERED = 20


@dataclass(frozen=True, slots=True)
class Failure:
    """A task that ended with an exception."""

    name: str
    error: str


class Supervisor:
    """Starts tasks (`spawn` is a `types.Spawn`) and keeps hold of them until they end."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[Any]] = set()
        self._failures: deque[Failure] = deque(maxlen=_REMEMBERED)

    def spawn(self, coroutine: Coroutine[Any, Any, Any], name: str) -> asyncio.Task[Any]:
        """Run *coroutine* as a task called *name*."""
        task = asyncio.get_running_loop().create_task(coroutine, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if task.cancelled() or (error := task.exception()) is None:
            return
        self._failures.append(Failure(task.get_name(), f"{type(error).__name__}: {error}"))
        log.error("task failed", exc_info=error, extra={"task": task.get_name()})

    @property
    def failures(self) -> tuple[Failure, ...]:
        """The last tasks that failed, oldest first."""
        return tuple(self._failures)

    @property
    def running(self) -> tuple[str, ...]:
        """Names of the tasks that have not ended."""
        return tuple(sorted(task.get_name() for task in self._tasks))

    async def close(self, timeout_s: float = 2.0) -> None:
        """Cancel every task and wait for their ends; those that do not end in time are named in the log."""
        for task in self._tasks:
            task.cancel()
        if not self._tasks:
            return
        _, pending = await asyncio.wait(self._tasks, timeout=timeout_s)
        for task in pending:
            log.error("task does not end", extra={"task": task.get_name()})
