"""A plugin of the benchmark alone: llama.cpp computes and samples, but what it chose is thrown away.

Each answer repeats the last tokens of its prompt for ever, so every guess from the text is right. That shows what
guessing ahead can give on this machine, apart from how well a model's text repeats. ``FAKE_GUESSES=0`` leaves it out.
Load it with the built-in ``llama-cpu`` disabled; it takes its name.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ollamad_llama.cpu import CpuBackend

from ollamad.plugin import Backend, Batch, Context, LoadProgress, LoadSpec, Memory, Model, Sampler, hookimpl
from ollamad.plugin.backend import SamplingParameters

_PERIOD = 32


class _Repeating(Sampler):
    """A real chain, and the tokens that are said in its place."""

    def __init__(self, chain: Sampler) -> None:
        self.chain = chain
        self._prompt: list[int] = []
        self._said = 0

    def accept(self, tokens: Sequence[int]) -> None:
        self.chain.accept(tokens)
        self._prompt = list(tokens)[-_PERIOD:]

    def next(self) -> int:
        self._said += 1
        return self._prompt[(self._said - 1) % len(self._prompt)]

    def close(self) -> None:
        self.chain.close()


class _RepeatingContext(Context):
    """A real context whose choices are made, paid for and replaced."""

    def __init__(self, real: Context, *, guesses: bool) -> None:
        self._real = real
        self.n_ctx, self.n_batch, self.n_sequences = real.n_ctx, real.n_batch, real.n_sequences
        self.can_share_prefix, self.can_shift = real.can_share_prefix, real.can_shift
        self.can_cut = real.can_cut and guesses  # nothing is guessed where wrong guesses cannot be cut off

    @property
    def n_outputs(self) -> int:
        return self._real.n_outputs

    def decode(self, batch: Batch) -> None:
        self._real.decode(batch)

    def sampler(self, parameters: SamplingParameters, grammar: str | None = None) -> Sampler:
        return _Repeating(self._real.sampler(parameters, grammar))

    def sample(self, picks: Sequence[tuple[Sampler, int]]) -> list[int]:
        chains = [(sampler.chain, row) for sampler, row in picks if isinstance(sampler, _Repeating)]
        self._real.sample(chains)
        return [sampler.next() for sampler, _ in picks if isinstance(sampler, _Repeating)]

    def remove(self, sequence_id: int, start: int, end: int) -> bool:
        return self._real.remove(sequence_id, start, end)

    def copy(self, source: int, target: int, start: int, end: int) -> None:
        self._real.copy(source, target, start, end)

    def shift(self, sequence_id: int, start: int, end: int, delta: int) -> None:
        self._real.shift(sequence_id, start, end, delta)

    def embed(self, sequences: Sequence[Sequence[int]]) -> list[list[float]]:
        return self._real.embed(sequences)

    def set_threads(self, decode: int, prefill: int) -> None:
        self._real.set_threads(decode, prefill)

    def memory(self) -> tuple[Memory, ...]:
        return self._real.memory()

    def close(self) -> None:
        self._real.close()


class RepeatingBackend(CpuBackend):
    """The CPU backend with such contexts."""

    def load(self, spec: LoadSpec, files: Mapping[str, Path], progress: LoadProgress) -> Model:
        model = super().load(spec, files, progress)
        make = model.context
        guesses = os.environ.get("FAKE_GUESSES") != "0"

        def context(*arguments: Any, **named: Any) -> Context:
            return _RepeatingContext(make(*arguments, **named), guesses=guesses)

        model.context = context  # type: ignore[method-assign]
        return model


class _Plugin:
    @hookimpl
    def ollamad_register_backends(self, register: Callable[[Backend], None]) -> None:
        register(RepeatingBackend())


plugin = _Plugin()
