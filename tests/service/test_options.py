"""Options: who wins, which type, and what follows; the tables of both contracts."""

from __future__ import annotations

import math

import pytest

from ollamad.errors import OptionTypeError
from ollamad.service.options import CONVERSIONS, FLOAT32_MAX, bounded_num_predict, resolve_options
from ollamad.types import ModelName, ResolvedModel, SamplingParameters, WeightsRef


def model(**changes) -> ResolvedModel:
    changes.setdefault("capabilities", ("completion",))
    name = ModelName("registry.ollama.ai", "library", "m", "latest")
    return ResolvedModel("m", name, "m:latest", "digest", (WeightsRef("sha256:m", 1),), **changes)


EMBEDS = {"capabilities": ("embedding",)}
DRAFT = {"draft": (WeightsRef("sha256:draft", 1),)}


@pytest.mark.parametrize(
    ("environment", "tier", "of_model", "asked", "num_ctx", "automatic"),
    [
        pytest.param(0, 32768, None, None, 32768, True, id="NCTX-01, OP-01"),
        pytest.param(8192, 32768, None, None, 8192, False, id="NCTX-02, OP-02"),
        pytest.param(0, 32768, 16384, None, 16384, False, id="NCTX-03, OP-03"),
        pytest.param(8192, 32768, 16384, None, 16384, False, id="NCTX-04, OP-04"),
        pytest.param(8192, 32768, 16384, 4096, 4096, False, id="NCTX-05, OP-05"),
        pytest.param(0, 32768, None, 4096, 4096, False, id="NCTX-06"),
        pytest.param(0, 32768, 16384, 4096, 4096, False, id="NCTX-07"),
        pytest.param(0, 4096, None, None, 4096, True, id="NCTX-08, OP-06"),
        pytest.param(0, 262144, None, None, 262144, True, id="NCTX-09"),
        pytest.param(0, 0, None, None, 0, True, id="devices unknown"),
        pytest.param(0, 4096, None, 0, 4, False, id="zero"),
        pytest.param(0, 4096, None, -1, 4, False, id="negative"),
        pytest.param(2, 4096, None, None, 4, False, id="small environment"),
    ],
)
def test_num_ctx(environment, tier, of_model, asked, num_ctx, automatic):
    """Request, model, environment, tier: the first that says counts, and it is never below 4."""
    parameters = {} if of_model is None else {"num_ctx": of_model}
    options = {} if asked is None else {"num_ctx": asked}
    load = resolve_options(model(parameters=parameters), options, context_length=environment, tier=tier).load
    assert (load.num_ctx, load.num_ctx_automatic) == (num_ctx, automatic)


@pytest.mark.parametrize("options", [{"num_ctx": 128}, {}], ids=["SCH-06", "SCH-05"])
def test_vision_needs_room(options):
    """SCH-05, SCH-06: a model with eyes gets at least 2048 tokens, and the mark stays as it was."""
    load = resolve_options(model(capabilities=("completion", "vision")), options, tier=128).load
    assert (load.num_ctx, load.num_ctx_automatic) == (2048, not options)


@pytest.mark.parametrize(
    ("changes", "options", "num_ctx", "num_batch", "automatic"),
    [
        pytest.param(EMBEDS, {}, 40960, 2048, False, id="NB-01, OP-07"),
        pytest.param(EMBEDS, {}, 1024, 1024, False, id="NB-02, OP-08"),
        pytest.param({**EMBEDS, "parameters": {"num_batch": 1024}}, {}, 40960, 1024, False, id="NB-03, OP-09"),
        pytest.param(EMBEDS, {"num_batch": 4096}, 40960, 4096, False, id="NB-04, OP-10"),
        pytest.param({}, {}, 4096, 512, True, id="NB-05, NB-06, OP-11"),
        pytest.param({"parameters": {"num_batch": 99}}, {}, 4096, 99, False, id="NB-07"),
        pytest.param({}, {"num_batch": 98}, 4096, 98, False, id="NB-08"),
    ],
)
def test_num_batch(changes, options, num_ctx, num_batch, automatic):
    """Embedding models take a batch as large as the context, others 512 until placement knows better."""
    load = resolve_options(model(**changes), options, context_length=num_ctx).load
    assert (load.num_batch, load.num_batch_automatic) == (num_batch, automatic)


@pytest.mark.parametrize(
    ("changes", "options", "expected"),
    [
        pytest.param(DRAFT, {}, 4, id="DNP-01, OP-12"),
        pytest.param({}, {}, 0, id="DNP-02, OP-13"),
        pytest.param({"parameters": {"draft_num_predict": 4}}, {}, 4, id="DNP-03, OP-14"),
        pytest.param({}, {"draft_num_predict": 8}, 8, id="DNP-04"),
        pytest.param(DRAFT, {"draft_num_predict": 0}, 0, id="DNP-05, OP-15"),
    ],
)
def test_draft(changes, options, expected):
    """Speculation is on by itself only with a separate draft model."""
    assert resolve_options(model(**changes), options).load.draft_num_predict == expected


@pytest.mark.parametrize(
    ("options", "use_mmap", "main_gpu"),
    [
        pytest.param({}, None, None, id="OPT-01, OPT-04, OP-16"),
        pytest.param({"use_mmap": True}, True, None, id="OPT-02"),
        pytest.param({"use_mmap": False}, False, None, id="OPT-03"),
        pytest.param({"main_gpu": 0}, None, 0, id="OPT-05, OP-17"),
        pytest.param({"main_gpu": 1}, None, 1, id="OPT-06"),
        pytest.param({"use_mmap": None, "main_gpu": None}, None, None, id="null"),
    ],
)
def test_three_states(options, use_mmap, main_gpu):
    """Unset is a value of its own, and null is unset."""
    load = resolve_options(model(), options).load
    assert (load.use_mmap, load.main_gpu) == (use_mmap, main_gpu)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        pytest.param({"num_ctx": "big"}, 'option "num_ctx" must be of type integer', id="OP-20"),
        pytest.param({"stop": "x"}, 'option "stop" must be of type array', id="OP-21"),
        pytest.param({"stop": [1]}, 'option "stop" must be of an array of strings', id="OP-22"),
        pytest.param({"temperature": "hot"}, 'option "temperature" must be of type float32', id="OP-23"),
        pytest.param({"temperature": True}, 'option "temperature" must be of type float32', id="bool for float"),
        pytest.param({"seed": True}, 'option "seed" must be of type integer', id="bool for int"),
        pytest.param({"num_thread": {}}, 'option "num_thread" must be of type integer', id="object for int"),
        pytest.param({"use_mmap": 1}, 'option "use_mmap" must be of type boolean', id="int for bool"),
        pytest.param({"use_mmap": "yes"}, 'option "use_mmap" must be of type boolean', id="text for bool"),
        pytest.param({"top_k": math.nan}, 'option "top_k" must be of type integer', id="nan"),
    ],
)
@pytest.mark.parametrize("source", ["asked", "model", "configured"])
def test_wrong_types(options, text, source):
    """A wrong type is refused in the contract's words, wherever it comes from."""
    with pytest.raises(OptionTypeError) as caught:
        resolve_options(
            model(parameters=options if source == "model" else {}),
            options if source == "asked" else {},
            configured=options if source == "configured" else {},
        )
    assert str(caught.value) == text


def test_unknown_keys_are_reported():
    """OP-24: old and unknown names, and names in another letter case, are ignored and named."""
    resolved = resolve_options(model(parameters={"numa": 1}), {"mirostat": 1, "foo": 2, "Top_K": 3, "foo ": None})
    assert resolved.unknown == ("numa", "mirostat", "foo", "Top_K", "foo ")
    assert resolved.sampling == SamplingParameters()


@pytest.mark.parametrize(
    ("value", "read"),
    [(10.9, 10), (-1.9, -1), (2**40, 2**31 - 1), (-(2**40), -(2**31 - 1)), (1e300, 2**31 - 1), (math.inf, 2**31 - 1)],
)
def test_integers_are_truncated_and_bounded(value, read):
    """OP-25: floats lose their fraction toward zero; what no library can hold becomes the largest it can."""
    assert resolve_options(model(), {"top_k": value}).sampling.top_k == read


def test_seed_is_wide():
    """A seed keeps 64 bits."""
    assert resolve_options(model(), {"seed": 2**40}).sampling.seed == 2**40
    assert resolve_options(model(), {"seed": 2**80}).sampling.seed == 2**63 - 1


def test_floats():
    """An integer is a fine float, also one with hundreds of digits."""
    assert resolve_options(model(), {"temperature": 1}).sampling.temperature == 1.0
    assert resolve_options(model(), {"temperature": -(10**400)}).sampling.temperature == -FLOAT32_MAX


def test_precedence_of_sampling():
    """Request wins over the configuration, that over the Modelfile; a stop list replaces, it does not add."""
    of_model = model(parameters={"temperature": 0.1, "top_k": 1, "seed": 1, "stop": ["a"]})
    resolved = resolve_options(of_model, {"seed": 3, "stop": []}, configured={"top_k": 2, "seed": 2})
    sampling = resolved.sampling
    assert (sampling.temperature, sampling.top_k, sampling.seed, sampling.stop) == (0.1, 2, 3, ())


def test_null_keeps_the_lower_value():
    """A null in the request leaves the model's value."""
    assert resolve_options(model(parameters={"top_k": 7}), {"top_k": None}).sampling.top_k == 7


def test_zero_repeat_last_n_is_kept():
    """OP-30: zero is a value."""
    assert resolve_options(model(), {"repeat_last_n": 0}).sampling.repeat_last_n == 0


@pytest.mark.parametrize(
    ("num_predict", "num_ctx", "sent"),
    [
        pytest.param(-1, 2048, 20480, id="OP-26"),
        pytest.param(100, 2048, 100, id="OP-27"),
        pytest.param(30000, 2048, 20480, id="OP-28"),
        pytest.param(-1, 0, -1, id="OP-29"),
        pytest.param(0, 2048, 0, id="zero"),
        pytest.param(-2, 2048, 20480, id="minus two"),
    ],
)
def test_answers_are_bounded(num_predict, num_ctx, sent):
    """An answer is never longer than ten contexts."""
    assert bounded_num_predict(num_predict, num_ctx) == sent


def test_every_option_has_a_place():
    """Each name that is read ends in the load or in the sampling parameters."""
    values = {key: True if key == "use_mmap" else ["x"] if key == "stop" else 5 for key in CONVERSIONS}
    resolved = resolve_options(model(), values)
    for key, value in values.items():
        holder = resolved.load if hasattr(resolved.load, key) else resolved.sampling
        assert getattr(holder, key) == (("x",) if key == "stop" else value), key
