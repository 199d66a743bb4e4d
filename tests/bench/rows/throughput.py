"""Tokens per second end to end, with prompts that are new and with prompts that were asked before."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Mapping

from tests.bench.bench import Bench, ask, new_prompts, rate
from tests.bench.client import Answer
from tests.bench.models import model
from tests.bench.servers import Contender, Setting
from tests.bench.table import Line

_PROMPT, _ANSWER = 60, 64
_EACH = {("q05", 1): 4, ("q05", 8): 2, ("tiny", 1): 16, ("tiny", 8): 16}


def rates(bench: Bench, name: str, streams: int, required: float) -> list[Line]:
    """New prompts and cached ones are lines of their own."""
    each = _EACH[name, streams]
    cached = new_prompts(bench, streams, 1, _PROMPT)

    def measure(contender: Contender) -> Mapping[str, float]:
        fresh = rate(ask(contender, new_prompts(bench, streams, each, _PROMPT), _ANSWER))
        ask(contender, cached, 1)
        return {"new": fresh, "cached": rate(ask(contender, [texts * each for texts in cached], _ANSWER))}

    found = bench.alternate(Setting(model=name, threads=bench.threads), measure)
    title = f"{name}, {streams} stream{'s' * (streams > 1)}, {_PROMPT} + {_ANSWER} tokens"
    return [Line(f"{title}, prompts {what}", "tok/s", samples, ratio=required) for what, samples in found.items()]


def decode(bench: Bench) -> list[Line]:
    """8 streams against llama-batched-bench: the same steps without a server."""
    cached = new_prompts(bench, 8, 1, _PROMPT)
    setting = Setting(threads=bench.threads)
    raw: dict[str, list[float]] = {}

    def measure(contender: Contender) -> Mapping[str, float]:
        ask(contender, cached, 1)
        ours = decode_rate([one for (one,) in ask(contender, cached, 2 * _ANSWER)])
        for each in bench.peer_builds():
            raw.setdefault(f"llama-batched-bench/{each.name}", []).append(
                _batched(bench, str(each.batched_bench), setting)
            )
        return {"decode": ours}

    found = bench.alternate(setting, measure, peers=False)["decode"]
    return [Line("q05, 8 streams, decode alone", "tok/s", found | raw, ratio=0.97)]


def decode_rate(answers: list[Answer]) -> float:
    """Tokens behind the first of each stream, over the time from the earliest first to the latest last."""
    seconds = max(a.ended for a in answers) - min(a.stamps[0] for a in answers)
    return sum(a.tokens - 1 for a in answers) / seconds


def _batched(bench: Bench, program: str, setting: Setting) -> float:
    command = [program, "--model", str(model(setting.model)), "--ctx-size", str(setting.ctx_len * setting.slots),
               "--threads", str(setting.threads), "--batch-size", str(setting.batch), "--ubatch-size",
               str(setting.batch), "-npp", str(_PROMPT), "-ntg", str(2 * _ANSWER), "-npl", "8"]  # fmt: skip
    bench.commands.setdefault(program.rpartition("/")[2], " ".join(command))
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    rows = re.findall(r"^\|\s*\d+ \|.*\|$", output, re.MULTILINE)
    return float(rows[-1].split("|")[8])
