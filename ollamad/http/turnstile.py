"""Lets requests in a few at a time, so that a flood of them cannot hold up the streams that run."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

#: Requests begun in one pass of the event loop. Each costs about half a millisecond until it is queued or
#: refused, and everything else that is ready (a runner's tokens) has its turn after each pass.
PER_PASS = 4


class Turnstile:
    """First come, first served."""

    def __init__(self, per_pass: int = PER_PASS) -> None:
        self._per_pass = per_pass
        self._left = per_pass
        self._waiting: deque[Callable[[], None]] = deque()
        self._armed = False

    def enter(self, start: Callable[[], None]) -> None:
        """Call *start*, now or in a later pass of the loop."""
        self._arm()
        if self._left and not self._waiting:
            self._left -= 1
            start()
        else:
            self._waiting.append(start)

    def _arm(self) -> None:
        if not self._armed:
            self._armed = True
            asyncio.get_running_loop().call_soon(self._pass)

    def _pass(self) -> None:
        self._armed = False
        self._left = self._per_pass
        while self._left and self._waiting:
            self._left -= 1
            self._arm()
            self._waiting.popleft()()
