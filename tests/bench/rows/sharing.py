"""Many clients with one beginning, and one long prompt beside a stream."""

from __future__ import annotations

from collections.abc import Mapping

from tests.bench import client
from tests.bench.bench import Bench, ask
from tests.bench.client import Stream
from tests.bench.prompts import prompt
from tests.bench.servers import Contender, Setting
from tests.bench.table import Line

_CLIENTS, _BEGINNING, _TAIL, _ANSWER = 16, 1000, 20, 16
_LONG = 4000


def shared(bench: Bench) -> list[Line]:
    """16 clients at once over 8 slots, with the same first 1,000 tokens."""

    def measure(contender: Contender) -> Mapping[str, float]:
        beginning = prompt(_BEGINNING, bench.fresh())
        before = contender.prefilled()
        answers = ask(contender, [[beginning + prompt(_TAIL, bench.fresh())] for _ in range(_CLIENTS)], _ANSWER)
        first = sorted(answer.first for (answer,) in answers)
        return {
            "prefilled": contender.prefilled() - before,
            "first": first[int(0.95 * (len(first) - 1) + 0.5)],
        }

    found = bench.alternate(Setting(threads=bench.threads), measure)
    title = f"q05, {_CLIENTS} clients with the same {_BEGINNING} tokens, 8 slots"
    least = _BEGINNING + _CLIENTS * _TAIL
    return [
        Line(f"{title}: tokens prefilled", "tokens", found["prefilled"], limit=1.1 * least, more=False),
        Line(f"{title}: time to first token p95", "s", found["first"], ratio=0.3, more=False),
    ]


def long_prompt(bench: Bench) -> list[Line]:
    """Gaps of a stream while another prompt of 4,000 tokens prefills."""

    def measure(contender: Contender) -> Mapping[str, float]:
        victim = Stream([contender.body(prompt(60, bench.fresh()), 3500)], until_stream=1)
        other = Stream([contender.body(prompt(_LONG, bench.fresh()), 1)], delay_s=1.5)
        (stream,), (long,) = client.run(contender.plan([victim, other]))
        until = long.stamps[0]
        inside = [stamp for stamp in stream.stamps if stamp <= until]
        gaps = sorted(b - a for a, b in zip(inside, [*inside[1:], until], strict=True) if b >= long.began)
        return {"p99": 1000 * gaps[int(0.99 * (len(gaps) - 1))], "longest": 1000 * gaps[-1], "prefill": long.first}

    found = bench.alternate(Setting(slots=2, ctx_len=8192, threads=bench.threads), measure)
    title = f"q05, a stream beside a prompt of {_LONG} tokens"
    return [
        Line(f"{title}: gap p99", "ms", found["p99"], limit=300, more=False),
        Line(f"{title}: longest gap", "ms", found["longest"], more=False),
        Line(f"{title}: until the prompt's first token", "s", found["prefill"], more=False),
    ]
