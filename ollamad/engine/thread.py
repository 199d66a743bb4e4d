"""The thread that owns a `Context`: commands come in through a queue, steps are made between them.

Everything that touches the context or the bookkeeping runs in this one thread, so there is no lock
around either; the lock here guards the queue's end alone.
"""

from __future__ import annotations

import logging
import threading
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

from ollamad.engine.work import EngineStopped
from ollamad.plugin.backend import Context

log = logging.getLogger(__name__)

T = TypeVar("T")

#: Told once of the error that ended the thread; the runner then exits.
OnFatal = Callable[[BaseException], None]

Run = Callable[[], None]
Abandon = Callable[[BaseException | None], None]


class EngineThread(ABC):
    """Runs commands and steps in one thread until `stop`, or until the backend fails.

    Methods without an underscore may be called from any thread.
    """

    def __init__(self, name: str, context: Context, on_fatal: OnFatal) -> None:
        self._context = context
        self._on_fatal = on_fatal
        self._commands: deque[tuple[Run, Abandon]] = deque()
        self._wake = threading.Event()
        self._gate = threading.Lock()
        self._closed = False
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Begin to work."""
        self._thread.start()

    def stop(self) -> None:
        """End after the step in progress; what is unfinished gets a ``cancelled`` outcome. Safe to call twice."""
        self._stopping = True
        self._wake.set()
        if self._thread.is_alive() and threading.current_thread() is not self._thread:
            self._thread.join()
        elif not self._closed and not self._thread.is_alive():
            self._close(None)

    def call(self, function: Callable[[Context], T]) -> Future[T]:
        """Run *function* with the context between two steps.

        Raises:
            EngineStopped: The thread has ended.
        """
        future: Future[T] = Future()

        def run() -> None:
            if future.set_running_or_notify_cancel():
                try:
                    future.set_result(function(self._context))
                except Exception as error:
                    future.set_exception(error)

        def abandon(error: BaseException | None) -> None:
            if error is None:
                future.cancel()
            elif future.set_running_or_notify_cancel():
                future.set_exception(error)

        self._post(run, abandon)
        return future

    def turn(self) -> bool:
        """Run all waiting commands and one step; whether there was anything to do.

        Runs in: the engine thread, or a test that never called `start`.
        """
        worked = bool(self._commands)
        while self._commands:
            run, abandon = self._commands.popleft()
            try:
                run()
            except BaseException as error:
                abandon(error)
                raise
        return self._step() or worked

    @abstractmethod
    def _step(self) -> bool:
        """Make one step; False if there is nothing to do until the next command."""

    @abstractmethod
    def _abandon(self, error: BaseException | None) -> None:
        """Give every unfinished piece of work its outcome: cancelled, or failed with *error*.

        With an error the context must not be used any more.
        """

    def _post(self, run: Run, abandon: Abandon) -> None:
        """Have *run* called before the next step, or *abandon* if the thread ends before."""
        with self._gate:
            if self._closed:
                raise EngineStopped("the engine has stopped")
            self._commands.append((run, abandon))
        self._wake.set()

    def _post_if_open(self, run: Run) -> None:
        """Post a command that means nothing any more once all work has got its outcome."""
        with self._gate:
            if not self._closed:
                self._commands.append((run, lambda _: None))
        self._wake.set()

    def _run(self) -> None:
        try:
            while not self._stopping:
                if not self.turn():
                    self._wake.wait()
                    self._wake.clear()
        except BaseException as error:
            self._fail(error)
        else:
            self._close(None)

    def _fail(self, error: BaseException) -> None:
        """End for good: whatever the state of the native library is now, it is not used again."""
        log.error("engine ends: %s: %s", type(error).__name__, error, exc_info=error)
        self._stopping = True
        self._close(error)
        self._on_fatal(error)

    def _close(self, error: BaseException | None) -> None:
        with self._gate:
            self._closed = True
        self._abandon(error)
        while self._commands:
            _, abandon = self._commands.popleft()
            abandon(error)
