"""What is done to the store when the daemon starts, and what it keeps of its own.

Source: runtime contract, server process, steps 4 and 5.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable

from ollamad.errors import StoreError
from ollamad.state import LearnedMemory
from ollamad.state.learned import Key
from ollamad.store import Store
from ollamad.types import Memory, Spawn

log = logging.getLogger(__name__)


async def tidy(store: Store, *, prune: bool) -> None:
    """Give blobs of old stores their new names, then, if asked, remove what nothing uses.

    A store that cannot be tidied is told in the log and served as it is.
    """
    try:
        renamed = await asyncio.to_thread(store.repair_names)
        if renamed:
            log.info("renamed blobs", extra={"count": renamed})
        if not prune:
            return
        pruned = await asyncio.to_thread(store.prune, time.time())
    except StoreError as error:
        log.error("store cannot be tidied", extra={"error": str(error)})
        return
    if pruned.skipped:
        log.warning(pruned.skipped)
    elif pruned.blobs or pruned.temporary:
        log.info(f"total unused blobs removed: {pruned.blobs + pruned.temporary}")


def remembering(learned: LearnedMemory, spawn: Spawn) -> Callable[[Key, tuple[Memory, ...]], None]:
    """What the scheduler calls with the bytes that a load took; the durable write is kept off the event loop."""

    def remember(key: Key, memory: tuple[Memory, ...]) -> None:
        spawn(asyncio.to_thread(learned.remember, key, memory), "remember-memory")

    return remember
