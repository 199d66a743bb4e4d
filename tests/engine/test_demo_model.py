"""The demo model's checked prompts: whatever the engine does to be fast, the answers are the expected ones.

The suite takes a sample of them. All 292 in every way:

    ENGINE_PROMPTS=292 python -m pytest tests/engine/test_demo_model.py
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from importlib.resources import files
from pathlib import Path
from typing import Any

import jinja2.sandbox
import pytest
from ollamad_llama.cpu import CpuBackend

from ollamad.engine.engine import Engine, Work
from ollamad.engine.lookup import LookupGuesser
from ollamad.engine.speculation import CostCurve, Speculation
from ollamad.plugin.backend import Model
from ollamad.types import SamplingParameters, WeightsRef
from ollamad.wire.messages import LoadSpec

ROOT = Path(__file__).parents[2]
CASES = json.loads((ROOT / "demo-model" / "eval.json").read_text("utf-8"))
TEMPLATE = (ROOT / "demo-model" / "chat_template.jinja").read_text("utf-8")
DEMO = Path(str(files("ollamad") / "_data" / "demo.gguf"))
COUNT = int(os.environ.get("ENGINE_PROMPTS", "6"))
SPEC = LoadSpec("llama-cpu", (WeightsRef("d", 1),), ctx_len=2048, n_batch=256, threads=1, threads_batch=1)
GREEDY = SamplingParameters(temperature=0.0, repeat_penalty=1.0)


@dataclass(frozen=True)
class Way:
    """How the engine may work."""

    slots: int
    sharing: bool = True
    guesses: bool = True
    n_batch: int = 256
    step_ms: int = 200

    def __str__(self) -> str:
        words = [f"{self.slots}-slots", "shared" if self.sharing else "unshared"]
        words += ["guessed"] * self.guesses + ["chunked"] * (self.n_batch < 256)
        return "-".join(words)


WAYS = [
    Way(slots, sharing, guesses, *chunks)
    for slots in (1, 8)
    for sharing in (False, True)
    for guesses in (False, True)
    for chunks in ((256, 200), (19, 20))
]


class Always(CostCurve):
    """Guesses wherever there is something to guess, though it would not pay."""

    def trusted(self, rows: int) -> bool:
        return True

    def costs(self, base: int, most: int) -> list[float]:
        return [1.0] * (most + 1)


@pytest.fixture(scope="module")
def model() -> Iterator[Model]:
    model = CpuBackend().load(SPEC, {"d": DEMO}, lambda fraction: True)
    yield model
    model.close()


def rendered(case: dict[str, Any]) -> str:
    if "prompt" in case:
        return f"<|fim_prefix|>{case['prompt']}<|fim_suffix|>{case['suffix']}<|fim_middle|>"
    environment = jinja2.sandbox.ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
    environment.filters["tojson"] = lambda value: json.dumps(value, ensure_ascii=False)
    return environment.from_string(TEMPLATE).render(
        messages=case["messages"],
        tools=case.get("tools"),
        enable_thinking=case["think"],
        add_generation_prompt=True,
    )


def parsed(text: str) -> dict[str, Any]:
    """An answer's text as the parts that are expected."""
    answer: dict[str, Any] = {}
    thinking = re.match(r"<think>\n(.*?)\n</think>\n\n", text, re.DOTALL)
    if thinking:
        answer["thinking"], text = thinking[1], text[thinking.end() :]
    calls = re.findall(r"<tool_call>\n(.*?)\n</tool_call>", text, re.DOTALL)
    if calls:
        answer["tool_calls"] = [json.loads(call) for call in calls]
        text = text[: text.index("<tool_call>")]
    return {"content": text.rstrip("\n"), **answer}


def sample(way: Way) -> list[dict[str, Any]]:
    """`COUNT` cases, other ones for each way, so that all of them together see many."""
    offset = WAYS.index(way)
    return (
        CASES if len(CASES) <= COUNT else [CASES[(offset + i * len(CASES) // COUNT) % len(CASES)] for i in range(COUNT)]
    )


@pytest.mark.parametrize("way", WAYS, ids=str)
def test_checked_prompts_give_their_answers(model: Model, recorder: Any, way: Way) -> None:
    """One slot or eight, shared or not, guessed or not, in chunks or whole: the answers are the expected ones."""
    spec = replace(SPEC, slots=way.slots, n_batch=way.n_batch)
    context = model.context("generate", ctx_len=SPEC.ctx_len, slots=way.slots, spec=spec)
    context.can_share_prefix &= way.sharing
    fatal: list[BaseException] = []
    engine = Engine(
        context,
        slots=way.slots,
        ctx_len=SPEC.ctx_len,
        is_end=model.is_end,
        step_ms=way.step_ms,
        on_fatal=fatal.append,
        speculate=False,
        speculation=Speculation(LookupGuesser(model.is_end), Always()) if way.guesses else None,
    )
    answers = []
    for number, case in enumerate(sample(way)):
        listener = recorder()
        tokens = tuple(model.tokenize(rendered(case), add_special=True, parse_special=True))
        engine.submit(Work(str(number), tokens, GREEDY, 900, 0), listener)
        answers.append((case, listener))
    while engine.turn():
        pass
    for case, listener in answers:
        assert (listener.outcome.reason, listener.outcome.shifts) == ("stop", 0)
        text = b"".join(model.piece(token) for token in listener.tokens).decode()
        expected = {**case["expected"], "content": case["expected"]["content"].rstrip("\n")}
        assert parsed(text) == expected
    counters = engine.counters()
    assert not counters.guessed if not way.guesses else counters.guessed or way.n_batch < 256
    engine.stop()
    context.close()
    assert not fatal
