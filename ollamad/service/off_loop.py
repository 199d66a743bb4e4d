"""Blocking work on a thread, so that the event loop stays free."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


async def off_loop(function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
    """Call *function* on a thread and return its result.

    Unlike `asyncio.to_thread`, a cancelled caller waits until the thread is done: whoever is cancelled may
    then clean up (close a file, unpin a blob) without the thread still using it.
    """
    future = asyncio.get_running_loop().run_in_executor(None, partial(function, *args, **kwargs))
    try:
        return await asyncio.shield(future)
    except asyncio.CancelledError:
        await asyncio.wait([future])
        if not future.cancelled():
            future.exception()  # retrieved: the caller is gone, and its own cancellation is what it hears of
        raise
