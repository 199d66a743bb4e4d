"""A flood of requests begins a few at a time."""

import asyncio
from collections import Counter

from ollamad.http.turnstile import PER_PASS, Turnstile


async def test_a_few_in_each_pass_in_their_order() -> None:
    """However many come at once, each pass of the loop begins at most PER_PASS, first come first served."""
    turnstile, order, passes = Turnstile(), [], Counter[int]()
    for number in range(50):
        turnstile.enter(lambda number=number: order.append(number))
    passes[0] = len(order)
    for step in range(1, 20):
        before = len(order)
        await asyncio.sleep(0)
        passes[step] = len(order) - before
    assert order == list(range(50))
    assert max(passes.values()) == PER_PASS
    assert sum(1 for count in passes.values() if count) == -(-50 // PER_PASS)


async def test_one_alone_does_not_wait() -> None:
    """Without a crowd a request begins at once, in every pass."""
    turnstile, begun = Turnstile(), []
    for number in range(3):
        turnstile.enter(lambda number=number: begun.append(number))
        assert begun[-1] == number
        await asyncio.sleep(0)


async def test_who_comes_later_does_not_overtake() -> None:
    """One that comes while others wait goes behind them."""
    turnstile, order = Turnstile(per_pass=1), []
    for name in "abc":
        turnstile.enter(lambda name=name: order.append(name))
    await asyncio.sleep(0)
    turnstile.enter(lambda: order.append("d"))
    for _ in range(6):
        await asyncio.sleep(0)
    assert order == list("abcd")
