"""Ways to pick the tokens of a step of eight streams over a vocabulary of 151,936, over a model that costs little."""

from __future__ import annotations

import ctypes
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from ollamad_llama.cpu import CpuBackend
from ollamad_llama.native import c

from ollamad.plugin import Batch, Context, LoadSpec, SamplingParameters
from ollamad.types import WeightsRef
from tests.bench.bench import OURS, Bench
from tests.bench.models import model
from tests.bench.table import Line

_STREAMS = 8
_STEPS = 40
#: Rows of a step in, tokens out.
Pick = Callable[[list[int]], list[int]]


def sampling(bench: Bench) -> list[Line]:
    """Milliseconds of sampling in a step, and of the whole step; every way gives the same tokens for a seed."""
    path = model("tiny")
    ref = WeightsRef("sha256:tiny", path.stat().st_size)
    spec = LoadSpec("llama-cpu", (ref,), ctx_len=1024, slots=_STREAMS, threads=bench.threads)
    loaded = CpuBackend().load(spec, {ref.digest: path}, lambda fraction: True)
    context = loaded.context("generate", ctx_len=1024, slots=_STREAMS, spec=spec)
    context._picker.prepared.wait()  # type: ignore[attr-defined]
    ways: dict[str, Callable[[Any], Pick]] = {OURS: _ours, "one after the other": _plain, "two threads": _two_threads}
    picking: dict[str, list[float]] = {}
    steps: dict[str, list[float]] = {}
    for _ in range(bench.pairs):
        tokens = {}
        for name, way in ways.items():
            pick, step, tokens[name] = _run(context, way(context))
            picking.setdefault(name, []).append(pick)
            steps.setdefault(name, []).append(step)
        assert len({str(one) for one in tokens.values()}) == 1, "the ways differ"
    with _InTheGraph(context) as samplers:
        for _ in range(bench.pairs):
            steps.setdefault("in the graph", []).append(_run(context, samplers)[1])
    context.close()
    loaded.close()
    title = f"tiny, {_STREAMS} streams, default sampling"
    ratio = 0.5
    return [
        Line(f"{title}: of a step", "ms", picking, ratio=ratio, more=False, against=("one after the other",)),
        Line(f"{title}: whole step", "ms", steps, more=False),
    ]


def _run(context: Context, pick: Pick) -> tuple[float, float, list[list[int]]]:
    """Medians of sampling and of steps in ms, and the tokens."""
    for number in range(_STREAMS):
        context.remove(number, 0, -1)
    rows = [[100 + number] for number in range(_STREAMS)]
    picking, steps = [], []
    for position in range(_STEPS):
        batch = Batch()
        places = [batch.add(row[-1], position, number, True) for number, row in enumerate(rows)]
        began = time.perf_counter()
        context.decode(batch)
        decoded = time.perf_counter()
        for row, token in zip(rows, pick(places), strict=True):
            row.append(token)
        ended = time.perf_counter()
        picking.append(1000 * (ended - decoded))
        steps.append(1000 * (ended - began))
    return statistics.median(picking), statistics.median(steps), rows


def _chains(context: Any) -> list[Any]:
    return [context.sampler(SamplingParameters(seed=seed)) for seed in range(1, _STREAMS + 1)]


def _ours(context: Any) -> Pick:
    chains = _chains(context)
    return lambda rows: list(context.sample(list(zip(chains, rows, strict=True))))


def _plain(context: Any) -> Pick:
    chains = _chains(context)
    return lambda rows: [
        c.llama_sampler_sample(one.chain, context._handle, row) for one, row in zip(chains, rows, strict=True)
    ]


def _two_threads(context: Any) -> Pick:
    chains, pool = _chains(context), ThreadPoolExecutor(1)

    def some(numbers: range, rows: list[int]) -> list[int]:
        return [c.llama_sampler_sample(chains[n].chain, context._handle, rows[n]) for n in numbers]

    def pick(rows: list[int]) -> list[int]:
        half = len(rows) // 2
        rest = pool.submit(some, range(half, len(rows)), rows)
        return some(range(half), rows) + rest.result()

    return pick


class _InTheGraph:
    """llama.cpp's backend samplers: the tokens are picked by the graph that computes the logits."""

    def __init__(self, context: Any) -> None:
        self._context = context
        self._set = c._lib.llama_set_sampler
        self._set.restype, self._set.argtypes = ctypes.c_bool, [ctypes.c_void_p, ctypes.c_int32, ctypes.c_void_p]
        self._chains = [_flat(seed) for seed in range(1, _STREAMS + 1)]

    def __enter__(self) -> Pick:
        for number, chain in enumerate(self._chains):
            assert self._set(self._context._handle, number, chain), "the backend takes no samplers"
        return lambda rows: [
            c.llama_sampler_sample(chain, self._context._handle, row)
            for chain, row in zip(self._chains, rows, strict=True)
        ]

    def __exit__(self, *error: object) -> None:
        for number in range(_STREAMS):
            self._set(self._context._handle, number, None)


def _flat(seed: int) -> Any:
    parameters = SamplingParameters()
    chain = c.llama_sampler_chain_init(c.llama_sampler_chain_default_params())
    links = (
        c.llama_sampler_init_top_k(parameters.top_k),
        c.llama_sampler_init_top_p(parameters.top_p, 0),
        c.llama_sampler_init_temp(parameters.temperature),
        c.llama_sampler_init_dist(seed),
    )
    for link in links:
        c.llama_sampler_chain_add(chain, link)
    return chain
