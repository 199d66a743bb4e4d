"""Gives memory back after a burst.

Ten thousand requests at once leave cycles (exceptions and their frames) that the collector reaches late, and free
memory that the C library keeps. Python's own allocator could not give it back: a few survivors pin its
1 MiB arenas (measured: 28 of 60 MiB stay), so `ollamad serve` runs with ``PYTHONMALLOC=malloc``. One arena
(``MALLOC_ARENA_MAX=1``) is enough for a process with one lock around it; with one for each thread what threads
built is not given back (measured: 60 of 92 MiB stay after four answers of 3,000 vectors, with one arena none).
"""

from __future__ import annotations

import asyncio
import gc
import os
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

#: How often resident memory is looked at; longer, up to the second, while nothing can be given back.
PERIOD_S = 2.0
LONGEST_PERIOD_S = 8.0
#: Growth since the start that is worth the work.
WORTH_BYTES = 4 << 20


def resident_bytes() -> int:
    """Resident memory of this process, 0 where ``/proc`` is missing."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except OSError:
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")


def settle() -> None:
    """Call when everything is built: what lives now lives for ever, and no collection looks at it again."""
    gc.collect()
    gc.freeze()


async def give_back(
    resident: Callable[[], int] = resident_bytes,
    trim: Callable[[], None] | None = None,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> None:
    """Run for ever: collect and trim while memory is larger than at the start."""
    least = resident()
    period_s = PERIOD_S
    while True:
        await sleep(period_s)
        before = resident()
        least = min(least, before)
        if before < least + WORTH_BYTES:
            period_s = PERIOD_S
            continue
        gc.collect()
        await asyncio.to_thread(trim or _trim)
        helped = before - resident() >= WORTH_BYTES
        period_s = PERIOD_S if helped else min(2 * period_s, LONGEST_PERIOD_S)


def _trim() -> None:
    """Let the C library return its free pages. Source: malloc_trim(3); glibc only."""
    if sys.platform != "linux":
        return
    import ctypes  # a megabyte that only a daemon after a burst needs

    function = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if function is not None:
        function(0)
