"""When a loaded model will do: the reload table of the runtime contract."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ollamad.scheduler.wish import Loaded, default_shift, model_key, reload_reason
from ollamad.types import LoadParameters, ModelConfig, ModelFacts, WeightsRef

PLAIN = LoadParameters(num_ctx=4096, num_batch=512, num_batch_automatic=False)


def decide(wish, *, have=PLAIN, want=PLAIN, trained=0, mmap_automatic=False, change=None, shift=True, asked=None):
    """What `reload_reason` says of a model loaded with *have* for a request that wants *want*."""
    facts = ModelFacts(context_length=trained)
    first = wish(load=asked or have, facts=facts)
    second = replace(wish(load=want, facts=facts, **(change or {})), shift=shift)
    return reload_reason(Loaded(first, have, mmap_automatic), second)


OTHER_FILE = (WeightsRef("sha256:other", 1),)
AUTOMATIC_CTX = replace(PLAIN, num_ctx_automatic=True)
AUTOMATIC_BATCH = replace(PLAIN, num_batch=1024, num_batch_automatic=True)


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        pytest.param({"change": {"adapters": OTHER_FILE}}, "adapters", id="RLD-01"),
        pytest.param({"change": {"projectors": OTHER_FILE}}, "projectors", id="RLD-02"),
        pytest.param({"want": replace(PLAIN, num_batch=1234)}, "num_batch", id="RLD-03"),
        pytest.param({}, None, id="RLD-05"),
        pytest.param({"want": replace(PLAIN, num_gpu=99)}, "num_gpu", id="RLD-06"),
        pytest.param({"have": replace(PLAIN, num_gpu=3), "want": PLAIN}, None, id="RLD-07"),
        pytest.param({"shift": False}, "shift", id="RLD-08"),
        pytest.param(
            {"have": replace(AUTOMATIC_CTX, num_ctx=131072), "want": replace(AUTOMATIC_CTX, num_ctx=262144)},
            None,
            id="RLD-09",
        ),
        pytest.param(
            {"have": replace(AUTOMATIC_CTX, num_ctx=131072), "want": replace(PLAIN, num_ctx=262144)},
            "num_ctx",
            id="RLD-10",
        ),
        pytest.param(
            {"have": replace(PLAIN, num_ctx=2048), "want": replace(PLAIN, num_ctx=262144), "trained": 2048},
            None,
            id="RLD-11",
        ),
        pytest.param(
            {"have": replace(PLAIN, num_ctx=2048), "want": replace(PLAIN, num_ctx=1024), "trained": 2048},
            "num_ctx",
            id="RLD-12",
        ),
        pytest.param({"have": AUTOMATIC_BATCH, "want": replace(AUTOMATIC_BATCH, num_batch=512)}, None, id="RLD-13"),
        pytest.param({"have": AUTOMATIC_BATCH, "want": PLAIN}, "num_batch", id="RLD-14"),
        pytest.param({"have": replace(PLAIN, use_mmap=False), "mmap_automatic": True}, None, id="RLD-15"),
        pytest.param(
            {
                "have": replace(PLAIN, use_mmap=False),
                "want": replace(PLAIN, use_mmap=True),
                "mmap_automatic": True,
                "asked": PLAIN,
            },
            "use_mmap",
            id="RLD-16",
        ),
        pytest.param(
            {
                "have": replace(PLAIN, use_mmap=False),
                "want": replace(PLAIN, use_mmap=False),
                "mmap_automatic": True,
                "asked": PLAIN,
            },
            None,
            id="RLD-17",
        ),
        pytest.param({"have": replace(PLAIN, use_mmap=False), "want": PLAIN}, "use_mmap", id="RLD-18"),
        pytest.param({"want": replace(PLAIN, main_gpu=0)}, "main_gpu", id="main-gpu"),
        pytest.param({"want": replace(PLAIN, num_thread=2)}, "num_thread", id="threads"),
        pytest.param({"want": replace(PLAIN, draft_num_predict=4)}, "draft_num_predict", id="draft"),
    ],
)
def test_reload(wish, how, reason):
    """A difference in one respect reloads, or is one that nobody asked for."""
    assert decide(wish, **how) == reason


def test_a_runner_that_grants_less_is_not_loaded_again(wish):
    """The same wish fits the model that was loaded for it, however little the runner granted."""
    asked = replace(PLAIN, num_ctx=262144)
    assert decide(wish, have=replace(asked, num_ctx=131072), want=asked, asked=asked) is None


@pytest.mark.parametrize(
    ("asked", "family", "families", "on"),
    [
        pytest.param(None, "llama", None, True, id="CSH-01"),
        pytest.param(None, "deepseek2", None, False, id="CSH-02"),
        pytest.param(None, "llama", ("llama", "deepseek2"), False, id="CSH-03"),
        pytest.param(False, "llama", None, False, id="CSH-04"),
        pytest.param(False, "deepseek2", None, False, id="CSH-05"),
        pytest.param(True, "llama", None, True, id="CSH-06"),
        pytest.param(True, "deepseek2", None, True, id="CSH-07"),
    ],
)
def test_context_shift_default(model, asked, family, families, on):
    """The context is shifted unless the request or the family says otherwise (OP-31, OP-32)."""
    config = ModelConfig(model_family=family, model_families=families)
    assert default_shift(model(config=config), asked) is on


def test_key_is_the_weights(model):
    """Names over one file share a key; without a file the manifest, then the name stands for the model (SCH-13)."""
    assert model_key(model("a")) == model_key(model("b", weights=model("a").weights))
    assert model_key(model("a", weights=())) == "digest:manifest-a"
    assert model_key(model("a", weights=(), digest="")) == "name:a"
    assert model_key(model("a", weights=(), digest="", requested="")) == "short:a:latest"
