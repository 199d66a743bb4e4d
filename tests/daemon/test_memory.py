"""Memory after a burst."""

import asyncio
from collections.abc import Iterator

import pytest

from ollamad.daemon.memory import LONGEST_PERIOD_S, PERIOD_S, WORTH_BYTES, give_back, resident_bytes


class Watched:
    """Resident memory as told, and what was done about it."""

    def __init__(self, *sizes: int) -> None:
        self._sizes: Iterator[int] = iter(sizes)
        self.trims = 0
        self.pauses: list[float] = []

    def resident(self) -> int:
        try:
            return next(self._sizes) * WORTH_BYTES
        except StopIteration:
            raise asyncio.CancelledError from None

    def trim(self) -> None:
        self.trims += 1

    async def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)

    async def run(self) -> None:
        with pytest.raises(asyncio.CancelledError):
            await give_back(self.resident, self.trim, self.sleep)


async def test_growth_is_given_back() -> None:
    """Memory that has grown is trimmed, and looked at again soon when that helped."""
    watched = Watched(10, 10, 30, 11, 10)
    await watched.run()
    assert watched.trims == 1
    assert watched.pauses == [PERIOD_S] * 4


async def test_memory_in_use_is_left_alone_longer_and_longer() -> None:
    """While nothing can be given back, it is tried less often, but never given up."""
    watched = Watched(10, 30, 30, 30, 30, 30, 30, 30, 11, 10)
    await watched.run()
    assert watched.trims == 4
    assert watched.pauses == [PERIOD_S, 4.0, LONGEST_PERIOD_S, LONGEST_PERIOD_S, PERIOD_S, PERIOD_S]


def test_resident_memory() -> None:
    """A process knows its own size."""
    assert resident_bytes() > 1 << 20
