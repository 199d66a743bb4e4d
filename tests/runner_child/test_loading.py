"""A load: what a slot holds, what is reported, what is left behind."""

from __future__ import annotations

from pathlib import Path

import pytest

from ollamad.plugin.backend import BackendOutOfMemory
from ollamad.runner_child.loading import load, slot_tokens
from ollamad.testing.fake_backend import FakeBackend, FakeModel
from ollamad.testing.fake_gates import Gates
from ollamad.testing.fake_options import FakeOptions
from ollamad.types import WeightsRef
from ollamad.wire.messages import LoadSpec, Progress

SPEC = LoadSpec("fake", (WeightsRef("sha256:any", 3),), ctx_len=100, slots=2, n_batch=64)


@pytest.fixture
def store(tmp_path: Path) -> Path:
    (tmp_path / "blobs").mkdir()
    (tmp_path / "blobs" / "sha256-any").write_bytes(b"any")
    return tmp_path


def fail(error: BaseException) -> None:
    raise AssertionError(error)


@pytest.mark.parametrize(("ctx_len", "held"), [(4, 256), (256, 256), (257, 512), (2048, 2048)])
def test_a_slot_is_rounded_up(ctx_len: int, held: int) -> None:
    """As llama-server does; a prompt is still fitted to num_ctx."""
    assert slot_tokens(ctx_len) == held


def test_ready_is_what_was_granted(store: Path) -> None:
    """Context per slot as asked, memory summed by device, threads chosen, progress in rising fractions."""
    reports: list[Progress] = []
    loaded = load(FakeBackend(FakeOptions(), Gates()), SPEC, store, report=reports.append, on_fatal=fail)
    assert loaded.engine is not None
    loaded.engine.stop()
    ready = loaded.ready
    assert (ready.ctx_len, ready.slots, ready.n_batch) == (100, 2, 64)
    assert ready.threads >= 1
    (memory,) = ready.memory
    assert min(memory.weights_bytes, memory.kv_bytes) > 0
    fractions = [one.fraction for one in reports]
    assert fractions == sorted(set(fractions))
    assert fractions[-1] == 1.0


def test_a_failed_context_frees_the_model(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The weights do not stay when the context cannot be made."""
    closed: list[FakeModel] = []

    def refuse(model: FakeModel, kind: str, **_: object) -> None:
        raise BackendOutOfMemory(f"no room to {kind}")

    monkeypatch.setattr(FakeModel, "context", refuse)
    monkeypatch.setattr(FakeModel, "close", lambda model: closed.append(model))
    with pytest.raises(BackendOutOfMemory, match="no room to generate"):
        load(FakeBackend(FakeOptions(), Gates()), SPEC, store, report=lambda _: None, on_fatal=fail)
    assert len(closed) == 1


def test_a_vocabulary_alone_has_no_engine(store: Path) -> None:
    """vocab_only tokenizes, and makes no context."""
    spec = LoadSpec("fake", SPEC.weights, vocab_only=True)
    loaded = load(FakeBackend(FakeOptions(), Gates()), spec, store, report=lambda _: None, on_fatal=fail)
    assert loaded.engine is None
    assert loaded.ready.memory == ()
    assert loaded.prompts.tokenize("ab")
