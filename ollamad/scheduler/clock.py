"""Time for the scheduler's loop: injected, so that tests need not wait for it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Protocol


class Timer(Protocol):
    """A call that may still be taken back."""

    def cancel(self) -> None: ...


class Clock(Protocol):
    """Monotonic nanoseconds, Unix seconds, and calls at a time."""

    def now_ns(self) -> int: ...
    def unix_s(self) -> float: ...
    def call_at(self, at_ns: int, callback: Callable[[], None]) -> Timer: ...


#: asyncio and the kernel refuse far deadlines; a timer that fires early is harmless to the core.
LONGEST_TIMER_S = 24 * 3600.0


class SystemClock:
    """The real one; `call_at` needs a running event loop."""

    def now_ns(self) -> int:
        return time.monotonic_ns()

    def unix_s(self) -> float:
        return time.time()

    def call_at(self, at_ns: int, callback: Callable[[], None]) -> Timer:
        delay_s = max(0.0, (at_ns - time.monotonic_ns()) / 1e9)
        return asyncio.get_running_loop().call_later(min(delay_s, LONGEST_TIMER_S), callback)
