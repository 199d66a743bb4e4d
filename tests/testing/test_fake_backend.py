"""The fake backend: loading, text, the plugin."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollamad.plugin.backend import Backend, BackendError, BackendOutOfMemory, ModelRejected
from ollamad.testing.fake_backend import FakeBackend, FakeModel, plugin
from ollamad.testing.fake_file import write_fake_model
from ollamad.testing.fake_gates import Gates
from ollamad.testing.fake_options import BOS, EOS, FakeOptions
from ollamad.types import WeightsRef
from ollamad.wire.messages import LoadSpec

SPEC = LoadSpec("fake", (WeightsRef("sha256:1", 1),), ctx_len=64, slots=2)


@pytest.fixture
def load(tmp_path: Path) -> Callable[..., FakeModel]:
    def load(path: Path | None = None, backend: FakeBackend | None = None, **options: Any) -> FakeModel:
        path = path or write_fake_model(tmp_path / "fake.gguf", **options)
        return (backend or FakeBackend()).load(SPEC, {"sha256:1": path}, lambda fraction: True)

    return load


def test_the_plugin_registers_one_backend() -> None:
    """What ``plugins.extra`` names registers the backend ``fake``."""
    registered: list[Backend] = []
    plugin.ollamad_register_backends(registered.append)
    assert [backend.name for backend in registered] == ["fake"]


def test_options_come_from_the_file(load: Callable[..., FakeModel]) -> None:
    """A model file says what its fake is like."""
    model = load(n_embd=7, end_every=3, can_shift=False, chat_template="{{ messages }}")
    assert model.description.n_embd == 7
    assert model.description.chat_template == "{{ messages }}"
    assert not model.context("generate", ctx_len=64, slots=2, spec=SPEC).can_shift


def test_options_come_from_the_environment(load: Callable[..., FakeModel], monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the file is silent, the environment speaks."""
    monkeypatch.setenv("FAKE_N_EMBD", "5")
    monkeypatch.setenv("FAKE_CAN_CUT", "false")
    model = load(n_ctx_train=99)
    assert (model.description.n_ctx_train, model.description.n_embd) == (99, 5)
    assert not model.options.can_cut


def test_any_file_is_a_model(load: Callable[..., FakeModel], tmp_path: Path) -> None:
    """A file that is no GGUF loads with the usual options; a broken GGUF is rejected."""
    path = tmp_path / "anything"
    path.write_bytes(b"whatever")
    assert load(path).options == FakeOptions()
    path.write_bytes(b"GGUF whatever")
    with pytest.raises(ModelRejected):
        load(path)


@given(st.text(), st.booleans())
def test_every_text_survives(text: str, parse_special: bool) -> None:
    """Text to tokens and back loses nothing, control texts included."""
    model = FakeModel(FakeOptions(), Gates())
    assert model.detokenize(model.tokenize(text, add_special=False, parse_special=parse_special)) == text


def test_special_tokens_are_removed_at_the_ends(load: Callable[..., FakeModel]) -> None:
    """`remove_special` takes BOS and EOS away, `unparse_special` false leaves control texts out."""
    model = load()
    assert model.detokenize([BOS, 104, 105, EOS], remove_special=True) == "hi"
    assert model.detokenize([BOS, 104, 105], unparse_special=False) == "hi"


def test_loading_stops_at_its_gate(load: Callable[..., FakeModel]) -> None:
    """A closed gate holds a load until it is opened."""
    gates = Gates()
    gates.close("load")
    models: list[FakeModel] = []
    thread = threading.Thread(target=lambda: models.append(load(backend=FakeBackend(gates=gates))))
    thread.start()
    assert gates.wait_reached("load")
    assert not models
    gates.open("load")
    thread.join(5)
    assert models


@pytest.mark.parametrize(
    ("action", "error"), [("fail", BackendError), ("reject", ModelRejected), ("oom", BackendOutOfMemory)]
)
def test_loading_fails_on_demand(load: Callable[..., FakeModel], tmp_path: Path, action: str, error: Any) -> None:
    """A file in the gate directory that the model names makes its load fail with its words."""
    (tmp_path / f"{action}-load").write_text("no such luck")
    with pytest.raises(error, match="no such luck"):
        load(gate_dir=str(tmp_path))


def test_a_model_closes_after_its_contexts(load: Callable[..., FakeModel]) -> None:
    """Closing a model with an open context is the caller's mistake."""
    model = load()
    context = model.context("generate", ctx_len=8, slots=1, spec=SPEC)
    with pytest.raises(BackendError):
        model.close()
    context.close()
    model.close()
