"""Options of a request resolved: what wins, what type it must have, and what follows from what.

Pure. Precedence: request > ``[models."NAME"]`` of the configuration > Modelfile > environment > computed.
Source: runtime contract, option resolution; http contract, options.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

from ollamad.errors import OptionTypeError
from ollamad.types import LoadParameters, ResolvedModel, SamplingParameters

#: Fewer tokens than this make no context; a model with eyes needs room for a picture.
LEAST_NUM_CTX = 4
LEAST_VISION_NUM_CTX = 2048

#: What the native library can hold; only a seed is wider.
INT32_MAX = 2**31 - 1
INT64_MAX = 2**63 - 1
FLOAT32_MAX = 3.4028234663852886e38

DEFAULT_NUM_BATCH = 512
MOST_EMBEDDING_BATCH = 2048

#: Speculation with a separate draft model, when nobody says how far.
DRAFT_NUM_PREDICT = 4

#: An answer is never longer than this many contexts.
MOST_CONTEXTS = 10


@dataclass(frozen=True, slots=True)
class ResolvedOptions:
    """``load.num_ctx`` 0: by the machine's GPUs, which are not known yet. ``unknown`` names ignored options."""

    load: LoadParameters
    sampling: SamplingParameters
    unknown: tuple[str, ...] = ()


def resolve_options(
    model: ResolvedModel,
    asked: Mapping[str, Any],
    *,
    configured: Mapping[str, Any] | None = None,
    context_length: int = 0,
    tier: int = 0,
) -> ResolvedOptions:
    """Merge all sources of options for a request to *model*.

    Args:
        asked: ``options`` of the request, as the client sent them.
        configured: ``parameters`` of the model's own section in the configuration.
        context_length: ``runner.context_length``; 0 if nobody set it.
        tier: Default context of this machine; 0 if its devices are not known yet.

    Raises:
        OptionTypeError: A value has the wrong type.
    """
    values: dict[str, Any] = {}
    unknown: dict[str, None] = {}
    for source in (model.parameters, configured or {}, asked):
        for key, value in source.items():
            convert = CONVERSIONS.get(key)
            if convert is None:
                unknown[key] = None
            elif value is not None:
                values[key] = convert(key, value)
    sampling = {key: value for key, value in values.items() if key not in LOAD_OPTIONS}
    return ResolvedOptions(
        load=_load_parameters(model, values, context_length or tier, automatic=not context_length),
        sampling=SamplingParameters(**sampling),
        unknown=tuple(unknown),
    )


def bounded_num_predict(num_predict: int, num_ctx: int) -> int:
    """The longest answer: what was asked for, but at most ten contexts, which is also what "no limit" means."""
    longest = MOST_CONTEXTS * num_ctx
    return longest if num_ctx > 0 and (num_predict < 0 or num_predict > longest) else num_predict


def _load_parameters(
    model: ResolvedModel, values: Mapping[str, Any], default_num_ctx: int, *, automatic: bool
) -> LoadParameters:
    given = {key: values[key] for key in LOAD_OPTIONS if key in values}
    num_ctx = given.pop("num_ctx", None)
    num_ctx_automatic = num_ctx is None and automatic
    least = LEAST_VISION_NUM_CTX if "vision" in model.capabilities else LEAST_NUM_CTX
    if num_ctx is None:
        num_ctx = default_num_ctx
    if num_ctx or not num_ctx_automatic:
        num_ctx = max(num_ctx, least)
    num_batch = given.pop("num_batch", None)
    if num_batch is None and "embedding" in model.capabilities:
        num_batch = min(MOST_EMBEDDING_BATCH, num_ctx)
    draft = given.pop("draft_num_predict", DRAFT_NUM_PREDICT if model.draft else 0)
    return LoadParameters(
        num_ctx=num_ctx,
        num_batch=DEFAULT_NUM_BATCH if num_batch is None else num_batch,
        draft_num_predict=draft,
        num_ctx_automatic=num_ctx_automatic,
        num_batch_automatic=num_batch is None,
        **given,
    )


def _refuse(key: str, kind: str) -> NoReturn:
    raise OptionTypeError(f'option "{key}" must be of {kind}')


def _integer(key: str, value: Any) -> int:
    if (
        isinstance(value, bool)
        or not isinstance(value, int | float)
        or (isinstance(value, float) and math.isnan(value))
    ):
        _refuse(key, "type integer")
    limit = INT64_MAX if key == "seed" else INT32_MAX
    if isinstance(value, float) and math.isinf(value):
        return limit if value > 0 else -limit
    return max(-limit, min(limit, int(value)))


def _float(key: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or value != value:
        _refuse(key, "type float32")
    return float(max(-FLOAT32_MAX, min(FLOAT32_MAX, value)))


def _boolean(key: str, value: Any) -> bool:
    if not isinstance(value, bool):
        _refuse(key, "type boolean")
    return value


def _strings(key: str, value: Any) -> tuple[str, ...]:
    if not isinstance(value, list | tuple):
        _refuse(key, "type array")
    if not all(isinstance(text, str) for text in value):
        _refuse(key, "an array of strings")
    return tuple(value)


#: Options that belong to a loaded model.
LOAD_OPTIONS = ("num_ctx", "num_batch", "num_gpu", "main_gpu", "use_mmap", "num_thread", "draft_num_predict")

#: Every option and how its value is read.
CONVERSIONS: Mapping[str, Callable[[str, Any], Any]] = {
    **dict.fromkeys(LOAD_OPTIONS, _integer),
    "use_mmap": _boolean,
    **dict.fromkeys(("num_keep", "seed", "num_predict", "top_k", "repeat_last_n"), _integer),
    **dict.fromkeys(("top_p", "min_p", "typical_p", "temperature", "repeat_penalty"), _float),
    **dict.fromkeys(("presence_penalty", "frequency_penalty"), _float),
    "stop": _strings,
}
