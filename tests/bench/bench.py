"""What a row gets to work with: running contenders, asked in turn."""

from __future__ import annotations

import itertools
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from tests.bench import client, quiet
from tests.bench.build import Build, build
from tests.bench.client import Answer, Stream
from tests.bench.prompts import prompt
from tests.bench.servers import Contender, LlamaServer, Ollamad, Setting

OURS = "ollamad"


@dataclass
class Bench:
    """One run of the benchmark. Contenders stay up as long as rows ask for the same setting."""

    pairs: int
    builds: Sequence[str]
    threads: int
    patience_s: float = 0.0  #: how long a round may wait for a quiet machine
    disturbed: list[float] = field(default_factory=list)  #: per round, what others took of the processors
    commands: dict[str, str] = field(default_factory=dict)  #: a peer's command lines, by contender and setting
    _up: dict[str, Contender] = field(default_factory=dict)
    _numbers: Iterator[int] = field(default_factory=itertools.count)

    def fresh(self) -> str:
        """A seed that no prompt of this run has had."""
        return f"{os.getpid()}-{next(self._numbers)}"

    def peer_builds(self) -> list[Build]:
        return [build(name) for name in self.builds]

    def contenders(self) -> list[Contender]:
        """Ours first; none is running yet."""
        return [Ollamad(), *(LlamaServer(one) for one in self.peer_builds())]

    def running(self, setting: Setting, *, peers: bool = True) -> dict[str, Contender]:
        """Ours, and with *peers* each build of the peer, loaded with *setting*."""
        kept = {}
        for contender in self.contenders() if peers else self.contenders()[:1]:
            up = self._up.pop(contender.name, None)
            if up is not None and up.setting == setting:
                kept[contender.name] = up
                continue
            if up is not None:
                up.stop()
            contender.start(setting)
            self.commands.setdefault(f"{contender.name} ({setting.model})", " ".join(contender.command))
            kept[contender.name] = contender
        self.stop()
        self._up = dict(kept)
        return kept

    def alternate(
        self, setting: Setting, measure: Callable[[Contender], Mapping[str, float]], *, peers: bool = True
    ) -> dict[str, dict[str, list[float]]]:
        """Measure each contender in turn, ``pairs`` rounds; what was measured -> contender -> values."""
        found: dict[str, dict[str, list[float]]] = {}
        contenders = self.running(setting, peers=peers)
        for number in range(self.pairs):
            for name, contender in contenders.items():
                values, others = self._undisturbed(contender, measure)
                told = ", ".join(f"{what} {value:.4g}" for what, value in values.items())
                print(f"  {number + 1}/{self.pairs} {name}: {told} (others {others:.0%})", file=sys.stderr, flush=True)
                for what, value in values.items():
                    found.setdefault(what, {}).setdefault(name, []).append(value)
        return found

    def _undisturbed(
        self, contender: Contender, measure: Callable[[Contender], Mapping[str, float]]
    ) -> tuple[Mapping[str, float], float]:
        """Measure, and again if others disturbed it, as long as there is patience; the last values and the share."""
        pids = [one.process.pid for one in self._up.values() if one.process is not None]
        deadline = time.monotonic() + self.patience_s
        while True:
            quiet.wait(pids, deadline - time.monotonic())
            foreign = quiet.Foreign(pids)
            values = measure(contender)
            share = foreign.share()
            if share <= quiet.QUIET or time.monotonic() >= deadline:
                self.disturbed.append(share)
                return values, share

    @contextmanager
    def alone(self, contender: Contender, setting: Setting) -> Iterator[Contender]:
        """Nothing else runs while *contender* is launched and stopped; its model is not loaded yet."""
        self.stop()
        quiet.wait((), self.patience_s)
        foreign = quiet.Foreign(())
        try:
            contender.launch(setting)
            self.commands.setdefault(f"{contender.name} ({setting.model})", " ".join(contender.command))
            yield contender
        finally:
            contender.stop()
            self.disturbed.append(foreign.share())  # what it used counts once it has been waited for

    def stop(self) -> None:
        for contender in self._up.values():
            contender.stop()
        self._up = {}


def ask(contender: Contender, prompts: Sequence[Sequence[str]], tokens: int) -> list[list[Answer]]:
    """Each inner sequence is a stream of requests, one after the other; every answer has exactly *tokens* tokens."""
    streams = [Stream([contender.body(text, tokens, seed) for seed, text in enumerate(texts, 1)]) for texts in prompts]
    answers = client.run(contender.plan(streams))
    for stream in answers:
        for answer in stream:
            assert answer.tokens == tokens, f"{contender.name} made {answer.tokens} tokens, not {tokens}"
    return answers


def rate(answers: Sequence[Sequence[Answer]]) -> float:
    """Tokens per second, end to end, over all streams."""
    flat = [answer for stream in answers for answer in stream]
    return sum(a.tokens for a in flat) / (max(a.ended for a in flat) - min(a.began for a in flat))


def new_prompts(bench: Bench, streams: int, each: int, tokens: int) -> list[list[str]]:
    """Prompts that share nothing with any before."""
    return [[prompt(tokens, bench.fresh()) for _ in range(each)] for _ in range(streams)]
