"""Names turned into models."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from ollamad.errors import BlobNotFound, CloudDisabled, InvalidName, ModelNotFound, StoreError
from ollamad.names import parse_name, relative_path
from ollamad.types import Message


@pytest.fixture
async def chat(bench: Any, chat_files: dict[str, str]) -> Any:
    """A bench with one model, ``rp-chat``."""
    await bench.create("rp-chat", files=chat_files, parameters={"seed": 7}, messages=(Message("user", "hi"),))
    return bench


@pytest.mark.parametrize(
    "name",
    [
        "rp-chat",
        "rp-chat:latest",
        "RP-CHAT",
        "Rp-Chat:LATEST",
        "library/rp-chat",
        "registry.ollama.ai/library/rp-chat:latest",
        "https://registry.ollama.ai/library/rp-chat:latest",
        "rp-chat:local",
        " rp-chat ",
        "REGISTRY.OLLAMA.AI/library/RP-chat",
    ],
)
async def test_spellings(chat: Any, name: str) -> None:
    """Every spelling finds the one model, and is remembered as it was written."""
    model = await chat.resolver.resolve(name)
    assert (model.requested, model.short_name) == (name, "rp-chat:latest")
    assert (model.parameters, model.messages) == ({"seed": 7}, (Message("user", "hi"),))
    assert (model.facts.architecture, model.facts.context_length) == ("llama", 2048)


async def test_without_aligning_case(chat: Any) -> None:
    """A caller that does not align finds the stored spelling only."""
    assert (await chat.resolver.resolve("rp-chat", align_case=False)).short_name == "rp-chat:latest"
    with pytest.raises(ModelNotFound):
        await chat.resolver.resolve("RP-chat", align_case=False)


@pytest.mark.parametrize(
    ("name", "error", "message"),
    [
        ("", InvalidName, "model is required"),
        (" ", InvalidName, "model is required"),
        ("-bad", InvalidName, "invalid model name"),
        ("//mm", InvalidName, "invalid model name"),
        ("mödel", InvalidName, "invalid model name"),
        ("m:" + "t" * 81, InvalidName, "invalid model name"),
        ("foo:cloud:local", InvalidName, 'use either :local or :cloud, not both: "foo:cloud:local"'),
        ("gpt-oss:cloud", CloudDisabled, "ollama cloud is disabled: remote model is unavailable"),
        ("gpt-oss:20b-cloud", CloudDisabled, "ollama cloud is disabled: remote model is unavailable"),
    ],
)
async def test_refused(chat: Any, name: str, error: type[Exception], message: str) -> None:
    """What is no name, or one of a model elsewhere, is refused in the contract's words."""
    with pytest.raises(error) as caught:
        await chat.resolver.resolve(name)
    assert str(caught.value) == message


async def test_missing(chat: Any) -> None:
    """A missing model is known as asked for and in its shortest form."""
    with pytest.raises(ModelNotFound) as caught:
        await chat.resolver.resolve("h.x/ns/Nope:local")
    assert (caught.value.name, caught.value.short_name) == ("h.x/ns/Nope:local", "h.x/ns/Nope:latest")


async def test_a_change_is_seen(chat: Any) -> None:
    """What is kept read never hides a model that was made again."""
    before = await chat.resolver.resolve("rp-chat")
    await chat.create("rp-chat", from_name="rp-chat", system="new")
    after = await chat.resolver.resolve("rp-chat")
    assert (before.system, after.system) == ("", "new")
    assert before.digest != after.digest


async def test_missing_weights(chat: Any, chat_files: dict[str, str]) -> None:
    """A model whose weights are gone says which blob is missing."""
    chat.resolver.facts.__init__()
    chat.store.blob_path(chat_files["a.gguf"]).unlink()
    with pytest.raises(BlobNotFound):
        await chat.resolver.resolve("rp-chat")


def write(bench: Any, name: str, data: str) -> None:
    path = bench.root / "models/manifests" / relative_path(parse_name(name))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(data)


async def test_a_store_of_another_age(bench: Any, gguf: Callable[..., bytes]) -> None:
    """2.13: a manifest by hand, with legacy and unknown layers and no config, is a model."""
    weights = await bench.upload(gguf({"general.architecture": "llama"}))
    prompt = await bench.upload(b"{{ .Prompt }} old")
    system = await bench.upload(b"Say hi!")
    kinds = [("model", weights), ("embed", prompt), ("prompt", prompt), ("system", system), ("made-up", system)]
    layers = [
        {"mediaType": f"application/vnd.ollama.image.{kind}", "digest": digest, "size": 1, "x": 1}
        for kind, digest in kinds
    ]
    write(bench, "old", json.dumps({"layers": layers, "unknown": [1]}, indent=3))
    model = await bench.resolver.resolve("old")
    assert (model.template, model.system, model.prompt_path) == ("{{ .Prompt }} old", "Say hi!", "go")
    assert await bench.create("child", from_name="old") != []
    data = (bench.root / "models/manifests/registry.ollama.ai/library/child/latest").read_text()
    assert [layer["mediaType"].split(".")[-1] for layer in json.loads(data)["layers"]] == [kind for kind, _ in kinds]


async def test_a_manifest_that_is_no_json(bench: Any) -> None:
    """A corrupt manifest is an error of the store where it is asked for, and absent from the list."""
    write(bench, "broken", "not json")
    with pytest.raises(StoreError):
        await bench.resolver.resolve("broken")
    with pytest.raises(StoreError):
        await bench.library.delete("broken")
    assert list(await bench.library.list()) == []


@pytest.mark.parametrize(("characters", "kept"), [(10, True), (300_000, False)])
async def test_large_bodies_are_not_kept(chat: Any, characters: int, kept: bool) -> None:
    """Small bodies are read once, large ones for each request."""
    await chat.create("big", from_name="rp-chat", system="x" * characters)
    systems = [(await chat.resolver.resolve("big")).system for _ in range(2)]
    assert systems[0] == systems[1] == "x" * characters
    assert (systems[0] is systems[1]) == kept
