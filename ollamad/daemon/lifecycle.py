"""Start and stop, in a written order, and the signals that ask for it.

Start: build everything, bind the listeners of the configuration (a failure is fatal), log the configuration, bind
the plugins' listeners (a failure is the plugin's), tell systemd READY. Devices are probed and the store is
tidied beside it.

Stop: tell systemd STOPPING, accept nothing more, refuse the queue, let running answers end within
``server.drain_timeout_s``, end the requests that are left, stop the runners, end all tasks.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from collections.abc import Awaitable, Callable
from typing import Protocol

log = logging.getLogger(__name__)

#: What is left of the drain time for answers that still have bytes to send, at least.
_FLUSH_S = 0.5


class Stoppable(Protocol):
    """The parts that have to be stopped in order, as `stop` sees them."""

    def stopping(self) -> None: ...
    def stop_accepting(self) -> None: ...
    async def drain(self, timeout_s: float) -> bool: ...
    async def end_requests(self, timeout_s: float) -> None: ...
    async def stop_runners(self) -> None: ...
    async def end_tasks(self) -> None: ...


async def stop(parts: Stoppable, drain_s: float) -> None:
    """Stop everything; takes little more than *drain_s*."""
    loop = asyncio.get_running_loop()
    until = loop.time() + drain_s
    parts.stopping()
    parts.stop_accepting()
    if not await parts.drain(drain_s):
        log.warning("running answers did not end in time", extra={"drain_timeout_s": drain_s})
    await parts.end_requests(max(_FLUSH_S, until - loop.time()) if drain_s else 0.0)
    await parts.stop_runners()
    await parts.end_tasks()


class Signals:
    """SIGTERM and SIGINT ask for the end; a second one ends at once. SIGHUP is noticed only."""

    def __init__(self, exit_now: Callable[[int], object] = os._exit) -> None:
        self._asked = asyncio.Event()
        self._exit_now = exit_now

    def install(self) -> None:
        """Take the signals of this process. Runs in: main thread."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.ask, number)
        loop.add_signal_handler(signal.SIGHUP, self.hang_up)

    def ask(self, number: signal.Signals) -> None:
        """Ask for the end. Runners die with this process, so ending at once leaves none behind."""
        if self._asked.is_set():
            log.warning("second signal, ending at once", extra={"signal": number.name})
            self._exit_now(1)
            return
        log.info("stopping", extra={"signal": number.name})
        self._asked.set()

    def hang_up(self) -> None:
        """Say that the configuration is read at start only."""
        log.warning("SIGHUP ignored: this version reads its configuration when it starts")

    async def wait(self) -> None:
        """Until somebody asks for the end."""
        await self._asked.wait()


async def run_until_asked(start: Callable[[], Awaitable[Stoppable]], signals: Signals, drain_s: float) -> None:
    """Start, serve until a signal asks for the end, stop. Raises whatever *start* raises."""
    signals.install()
    parts = await start()
    await signals.wait()
    await stop(parts, drain_s)
