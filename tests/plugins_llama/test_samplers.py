"""A token picked among few candidates is the token that llama.cpp's chain picks among all."""

from __future__ import annotations

import ctypes
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ollamad_llama import samplers
from ollamad_llama.candidates import Candidates
from ollamad_llama.cpu import CpuBackend
from ollamad_llama.native import c
from ollamad_llama.samplers import FewCandidates, LlamaSampler

from ollamad.plugin import Batch, LoadSpec, SamplingParameters
from ollamad.types import WeightsRef

N_VOCAB = 20_011
CTX_LEN = 128


def new(parameters: SamplingParameters) -> LlamaSampler:
    return LlamaSampler(None, N_VOCAB, CTX_LEN, parameters, None)


def whole(sampler: LlamaSampler, row: np.ndarray[Any, np.dtype[np.float32]]) -> int:
    """What llama_sampler_sample does once it has the logits. Source: llama-sampler.cpp."""
    entries = (c.llama_token_data * len(row))()
    view = np.frombuffer(entries, np.dtype([("id", np.int32), ("logit", np.float32), ("p", np.float32)]))
    view["id"], view["logit"] = np.arange(len(row)), row
    array = c.llama_token_data_array()
    array.data, array.size, array.selected = ctypes.cast(entries, type(array.data)), len(row), -1
    c.llama_sampler_apply(sampler.chain, ctypes.byref(array))
    token = int(entries[array.selected].id)
    c.llama_sampler_accept(sampler.chain, token)
    return token


def logits(kind: str, seed: int, k: int) -> np.ndarray[Any, np.dtype[np.float32]]:
    random = np.random.default_rng(seed)
    row = random.standard_normal(N_VOCAB, np.float32)
    if kind == "rounded":  # equal logits everywhere
        return np.round(row, 1)
    if kind == "positive":
        return np.abs(row) * 4
    if kind == "negative":
        return -np.abs(row) - 3
    if kind == "border":  # the k-th and some next are equal
        order = np.argsort(row)[::-1]
        last = min(max(k - 1, 0), N_VOCAB - 1)
        row[order[last : k + 3]] = row[order[last]]
    if kind == "head":  # the two best are equal
        order = np.argsort(row)[::-1]
        row[order[1]] = row[order[0]]
    if kind == "struck":
        row[random.integers(0, N_VOCAB, N_VOCAB // 2)] = -np.inf
    return row * (8 if kind == "peaked" else 1)


KINDS = ["plain", "rounded", "positive", "negative", "border", "head", "struck", "peaked"]
PARAMETERS = st.builds(
    SamplingParameters,
    seed=st.integers(0, 2**31),
    top_k=st.sampled_from([0, 1, 2, 40, 150, N_VOCAB, N_VOCAB + 7]),
    top_p=st.sampled_from([0.0, 0.3, 0.9, 1.0]),
    min_p=st.sampled_from([0.0, 0.05, 1.0]),
    typical_p=st.sampled_from([0.0, 0.5, 1.0]),
    temperature=st.sampled_from([0.0, 0.8, 2.0]),
    repeat_last_n=st.sampled_from([-1, 0, 3, 64]),
    repeat_penalty=st.sampled_from([0.7, 1.0, 1.3]),
    presence_penalty=st.sampled_from([-1.5, 0.0, 1.5]),
    frequency_penalty=st.sampled_from([-0.5, 0.0, 0.5, 100.0]),
)


@settings(max_examples=200, deadline=None)
@given(PARAMETERS, st.sampled_from(KINDS), st.integers(0, 1000))
def test_few_candidates_choose_what_all_choose(parameters: SamplingParameters, kind: str, seed: int) -> None:
    """Whatever the parameters and however equal the logits, the tokens of a seed are those of the plain chain."""
    few = FewCandidates(Candidates(N_VOCAB))
    mixed, plain = new(parameters), new(parameters)
    prompt = logits(kind, seed, 40).argsort()[-50::3].tolist()
    for sampler in (mixed, plain):
        sampler.accept(prompt)
    for step in range(4):
        row = logits(kind, seed + step, parameters.top_k)
        token = few.pick(mixed, row)
        if token is None:
            token = whole(mixed, row)
        mixed.recent.append(token)
        assert token == whole(plain, row)
    mixed.close()
    plain.close()


@pytest.mark.parametrize(
    "parameters",
    [
        SamplingParameters(seed=1),
        SamplingParameters(seed=1, temperature=0, top_k=0),
        SamplingParameters(seed=1, typical_p=0.4, min_p=0.1),
        SamplingParameters(seed=1, repeat_penalty=1.2, presence_penalty=0.5),
    ],
)
def test_ordinary_requests_need_few_candidates(parameters: SamplingParameters) -> None:
    """The quick way is taken where logits differ."""
    few, sampler = FewCandidates(Candidates(N_VOCAB)), new(parameters)
    for seed in range(10):
        token = few.pick(sampler, logits("plain", seed, 40))
        assert token is not None
        sampler.recent.append(token)


@pytest.mark.parametrize(
    ("parameters", "kind"),
    [
        (SamplingParameters(top_k=0), "plain"),
        (SamplingParameters(top_k=5000), "plain"),
        (SamplingParameters(), "border"),
        (SamplingParameters(), "head"),
    ],
)
def test_what_few_cannot_tell_is_left_to_all(parameters: SamplingParameters, kind: str) -> None:
    """Without top-k, with a large one, and with equal logits among the best, the whole row is needed."""
    assert FewCandidates(Candidates(N_VOCAB)).pick(new(parameters), logits(kind, 1, parameters.top_k)) is None


def test_a_context_picks_the_same_either_way(monkeypatch: pytest.MonkeyPatch) -> None:
    """Over a real context the tokens of a seed do not depend on whether the vocabulary counts as large."""
    demo = Path(str(files("ollamad") / "_data" / "demo.gguf"))
    ref = WeightsRef("sha256:demo", demo.stat().st_size)
    spec = LoadSpec("llama-cpu", (ref,), ctx_len=256, slots=2, n_batch=64, threads=1, threads_batch=1)
    model = CpuBackend().load(spec, {ref.digest: demo}, lambda fraction: True)
    answers = []
    for large in (10**6, 1):
        monkeypatch.setattr(samplers, "_LARGE_VOCABULARY", large)
        context = model.context("generate", ctx_len=256, slots=2, spec=spec)
        assert large > 1 or context._picker.prepared.wait(30)  # type: ignore[attr-defined]
        chains = [context.sampler(SamplingParameters(seed=seed, top_k=10)) for seed in (1, 2)]
        tokens = [[47], [48]]
        for position in range(20):
            batch = Batch()
            rows = [batch.add(answer[-1], position, number, True) for number, answer in enumerate(tokens)]
            context.decode(batch)
            for answer, token in zip(tokens, context.sample(list(zip(chains, rows, strict=True))), strict=True):
                answer.append(token)
        answers.append(tokens)
        context.close()
    assert answers[0] == answers[1]
    model.close()
