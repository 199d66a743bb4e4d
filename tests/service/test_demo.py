"""The demo model as a layer over the store."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

import pytest

from ollamad.errors import ModelNotFound
from ollamad.gguf import facts, parameter_size_text, read_header
from ollamad.service.demo import CONFIG, LICENSE, WEIGHTS_BYTES, WEIGHTS_DIGEST, weights_path


def test_constants_are_the_packaged_file() -> None:
    """Digest, size and config written in the code are those of the GGUF that is shipped."""
    data = weights_path().read_bytes()
    assert f"sha256:{hashlib.sha256(data).hexdigest()}" == WEIGHTS_DIGEST
    assert len(data) == WEIGHTS_BYTES
    found = facts(read_header(weights_path()))
    assert (found.architecture, found.file_type) == (CONFIG.model_family, CONFIG.file_type)
    assert parameter_size_text(found.parameter_count) == CONFIG.model_type


async def test_it_is_there_without_a_store(make_bench: Callable[..., Any]) -> None:
    """The demo is listed, resolved and shown, and nothing is written for it."""
    bench = make_bench(demo=True)
    (row,) = await bench.library.list()
    assert (row.name, row.read_only, row.capabilities) == ("demo:latest", True, ("completion",))
    model = await bench.resolver.resolve("library/DEMO")
    assert (model.source, model.short_name, model.prompt_path) == ("demo", "demo:latest", "native")
    assert (model.weights[0].digest, model.weights[0].source) == (WEIGHTS_DIGEST, "demo")
    assert model.capabilities == ("tools", "thinking", "completion")
    assert model.parameters == {
        "num_ctx": 2048,
        "repeat_penalty": 1,
        "stop": ["<|im_start|>", "<|im_end|>", "<|endoftext|>"],
        "temperature": 0,
    }
    shown = await bench.library.show("demo", verbose=False)
    assert shown.licenses == (LICENSE,)
    assert f"FROM {weights_path()}\n" in shown.modelfile
    assert not (bench.root / "models").exists()


async def test_turned_off(make_bench: Callable[..., Any]) -> None:
    """Turned off, there is no demo."""
    bench = make_bench(demo=False)
    assert list(await bench.library.list()) == []
    with pytest.raises(ModelNotFound):
        await bench.resolver.resolve("demo")


async def test_removing_hides_it(make_bench: Callable[..., Any]) -> None:
    """After rm it is gone, also for the next daemon, until the mark is taken away."""
    bench = make_bench(demo=True)
    await bench.library.delete("Demo:latest")
    for again in (bench, make_bench(demo=True)):
        assert list(await again.library.list()) == []
        with pytest.raises(ModelNotFound):
            await again.library.delete("demo")
    bench.state.show_demo()
    assert len(await bench.library.list()) == 1


async def test_a_copy_is_real(make_bench: Callable[..., Any]) -> None:
    """A copy has blobs and a manifest of its own, with the same digest, and outlives the demo."""
    bench = make_bench(demo=True)
    await bench.library.copy("demo", "mine")
    rows = {row.name: row for row in await bench.library.list()}
    assert rows["mine:latest"].digest == rows["demo:latest"].digest
    assert rows["mine:latest"].size_bytes == rows["demo:latest"].size_bytes
    assert not rows["mine:latest"].read_only
    await bench.library.delete("demo")
    model = await bench.resolver.resolve("mine")
    assert model.weights[0].source == "store"
    bench.store.verify_blob(model.weights[0].digest)
    await bench.library.delete("mine")
    assert bench.blobs() == set()


async def test_copying_onto_itself_writes_nothing(make_bench: Callable[..., Any]) -> None:
    """The demo copied onto its own name stays a layer."""
    bench = make_bench(demo=True)
    await bench.library.copy("demo", "DEMO")
    assert not (bench.root / "models").exists()


async def test_a_stored_demo_wins(make_bench: Callable[..., Any], gguf: Callable[..., bytes]) -> None:
    """A model called demo in the store is the demo; when it is deleted the layer shows again."""
    bench = make_bench(demo=True)
    files = {"a.gguf": await bench.upload(gguf({"general.architecture": "llama"}))}
    await bench.create("demo", files=files)
    (row,) = await bench.library.list()
    assert not row.read_only
    assert (await bench.resolver.resolve("demo")).source == "store"
    await bench.library.delete("demo")
    (row,) = await bench.library.list()
    assert row.read_only
