"""What embedding needs around the model: cutting inputs, shaping vectors. Pure, given a tokenizer.

Source: HTTP contract §8.4, runtime contract §2.11.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Sequence

from ollamad.plugin.backend import Model, ModelDescription
from ollamad.wire.messages import Embed

INPUT_TOO_LONG = "the input length exceeds the context length"
NOTHING_LEFT = "input after truncation exceeds maximum context length"
CANNOT_CUT = "input exceeds maximum context length and cannot be truncated further"
NOT_FINITE = "embedding contains NaN or Inf values"
_LEAST_NORM = 1e-12


class InputTooLong(Exception):
    """An input does not fit; ``str()`` is the contract's text."""


def fit_input(model: Model, text: str, task: Embed, *, ctx_len: int, n_batch: int) -> list[int]:
    """Return the tokens of one input, cut if *task* allows it.

    The limit is the smaller of *ctx_len* and the trained context, special tokens included; where the model's
    physical batch is smaller still, an input is cut to that, for it can only be computed whole.

    Raises:
        InputTooLong: It does not fit and must not be cut, or nothing would be left.
    """
    trained = model.description.n_ctx_train
    limit = min(ctx_len, trained) if trained else ctx_len
    tokens = model.tokenize(text, add_special=True, parse_special=True)
    if len(tokens) <= min(limit, n_batch):
        return tokens
    if not task.truncate:
        raise InputTooLong(INPUT_TOO_LONG)
    shorter = _cut(model, text, limit)
    if len(shorter) > n_batch:
        shorter = _cut(model, text, n_batch)
        if len(shorter) > n_batch:
            raise InputTooLong(CANNOT_CUT)
    return shorter


def _cut(model: Model, text: str, limit: int) -> list[int]:
    """Cut *text* to *limit* tokens, rebuild it and tokenize that, as Ollama does."""
    plain = model.tokenize(text, add_special=False, parse_special=True)
    # BOS and EOS come back when the text is tokenized again, also beside those that it may begin or end with.
    limit -= len(model.tokenize("", add_special=True, parse_special=True))
    if limit <= 0:
        raise InputTooLong(NOTHING_LEFT)
    rebuilt = model.detokenize(plain[:limit])
    return model.tokenize(rebuilt, add_special=True, parse_special=True)


def is_raw(facts: ModelDescription) -> bool:
    """Whether the runner's own vectors of this model are not normalised: kept as they were historically."""
    told = facts.metadata.get(f"{facts.architecture}.normalize_embeddings", "")
    if facts.architecture == "bert":
        return facts.metadata.get("tokenizer.ggml.model", "") != "bert" or told == "false"
    return facts.architecture in ("nomic-bert", "nomic-bert-moe") and told != "true"


def shape_vector(vector: Sequence[float], task: Embed, *, raw: bool) -> bytes:
    """Return *vector* as *task* wants it, in little-endian float32.

    Raises:
        ValueError: It holds NaN or an infinity.
    """
    if not all(map(math.isfinite, vector)):
        raise ValueError(NOT_FINITE)
    if task.normalize or not raw:
        vector = normalized(vector)
    if task.normalize and 0 < task.dimensions < len(vector):
        vector = normalized(vector[: task.dimensions])
    numbers = array("f", vector)
    if not _LITTLE:
        numbers.byteswap()
    return numbers.tobytes()


_LITTLE = array("H", [1]).tobytes()[0] == 1


def normalized(vector: Sequence[float]) -> list[float]:
    """*vector* with length 1; one without length stays as it is."""
    norm = max(math.sqrt(sum(number * number for number in vector)), _LEAST_NORM)
    return [number / norm for number in vector]
