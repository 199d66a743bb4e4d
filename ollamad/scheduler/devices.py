"""Finds the devices of this machine beside everything else, and keeps what is free on them fresh.

The first load waits for the probe at most `SchedulerSettings.device_wait_ns`, then goes to the CPU.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence

from ollamad.scheduler.clock import Clock, Timer
from ollamad.scheduler.placement import HostMemory
from ollamad.types import Device

#: A refresh that takes longer is given up; the old values stay.
REFRESH_LIMIT_S = 3.0


class DeviceWatch:
    """Calls *found* with each list of devices; it is never empty."""

    def __init__(
        self,
        probe: Callable[[], Awaitable[Sequence[Device]]],
        found: Callable[[tuple[Device, ...]], None],
        clock: Clock,
        host_memory: Callable[[], HostMemory],
        log: logging.Logger,
    ) -> None:
        self._probe = probe
        self._found = found
        self._clock = clock
        self._host_memory = host_memory
        self._log = log
        self._timer: Timer | None = None
        self._answered = False

    async def find(self) -> None:
        """Run the probe once, without a limit of its own."""
        try:
            devices = tuple(await self._probe())
        except Exception as error:
            self._log.error("device probe failed, using the CPU", extra={"error": str(error)})
            devices = ()
        self._answered = True
        self._found(devices or (self._processor(),))

    def limit_wait(self, wait_ns: int) -> None:
        """Somebody waits for the devices: give them the CPU after *wait_ns*. Only the first call counts."""
        if not self._answered and self._timer is None:
            self._timer = self._clock.call_at(self._clock.now_ns() + wait_ns, self._give_up)

    def _give_up(self) -> None:
        if not self._answered:
            self._log.warning("devices are not known in time, using the CPU until they are")
            self._found((self._processor(),))

    def _processor(self) -> Device:
        memory = self._host_memory()
        return Device("cpu", "cpu", "CPU", memory.total_bytes, memory.free_bytes)

    async def refresh(self) -> None:
        """Ask again for what is free."""
        try:
            async with asyncio.timeout(REFRESH_LIMIT_S):
                devices = tuple(await self._probe())
        except Exception as error:
            self._log.warning("unable to refresh free memory, using old values", extra={"error": str(error)})
            return
        if devices:
            self._found(devices)

    def close(self) -> None:
        """Forget the time limit."""
        if self._timer is not None:
            self._timer.cancel()
