"""Making models. Ids F… are those of the models contract, CR-… those of the http contract."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from typing import Any

import pytest

from ollamad.errors import (
    CreateFailed,
    InvalidModelFile,
    InvalidName,
    InvalidRequest,
    ModelNotFound,
    StoreError,
    Unsupported,
)
from ollamad.plugin import CreateRequest
from ollamad.service.demo import weights_path
from ollamad.types import Message

GGUF = "89a2116c3a82d6a97f59f748d86ed4417214353fd178ee54df418fde32495fad"
CONFIG = "99759ad5b91e723db0393d698ffbb448b1b7df5ff6377a108c49254583b1bc8c"
T1 = "b507b9c2f6ca642bffcd06665ea7c91f235fd32daeefdf875a0f938db05fb315"
T2 = "fe7ac77b725cda2ccad03f88a880ecdfd7a33192d6cae08fce2c0ee1455991ed"
S1 = "f29e82a8284dbdf5910b1555580ff60b04238b8da9d5e51159ada67a4d0d5851"
S2 = "4c5f51faac758fecaff8db42f0b7382891a4d0c0bb885f7b86be88c814a7cc86"
L1 = "e5dcffe836b6ec8a58e492419b550e65fb8cbdc308503979e5dacb33ac7ea3b7"
L2 = "2af71558e438db0b73a20beab92dc278a94e1bbe974c00c1a33e3ab62d53a608"
P1 = "1d0ad71299d48c2fb7ae2b98e683643e771f8a5b72be34942af90d97a91c1e37"
P2 = "e29a7b3c47287a2489c895d21fe413c20f859a85d20e749492f52a838e36e1ba"
P3 = "12f58bb75cb3042d69a7e013ab87fb3c3c7088f50ddc62f0c77bd332f0d44d35"
M1 = "298baeaf6928a60cf666d88d64a1ba606feb43a2865687c39e40652e407bffc4"
M2 = "a60ecc9da299ec7ede453f99236e5577fd125e143689b646d9f0ddc9971bf4db"

PARAMETERS = {"temperature": 1, "top_k": 10, "stop": ["USER:", "ASSISTANT:"]}
MESSAGES_1 = (
    Message("assistant", "What is my purpose?"),
    Message("user", "You run tests."),
    Message("assistant", "Oh, my god."),
)
MESSAGES_2 = (
    Message("assistant", "You're a test, Harry."),
    Message("user", "I-I'm a what?"),
    Message("assistant", "A test. And a thumping good one at that, I'd wager."),
)


def existing(digest: str) -> str:
    return f"using existing layer sha256:{digest}"


def new(digest: str) -> str:
    return f"creating new layer sha256:{digest}"


END = ["writing manifest", "success"]


@pytest.fixture
async def files(bench: Any, gguf: Callable[..., bytes]) -> dict[str, str]:
    """The empty GGUF of appendix F, uploaded."""
    data = gguf({"general.architecture": "test"})
    assert len(data) == 68
    digest = await bench.upload(data)
    assert digest == f"sha256:{GGUF}"
    return {"test.gguf": digest}


async def test_from_file(bench: Any, files: dict[str, str]) -> None:
    """F1: a file gives a model of two blobs, in the recorded steps."""
    lines = await bench.create("test", files=files)
    assert lines == ["parsing GGUF", "verifying conversion", existing(GGUF), *END]
    assert bench.blobs() == {GGUF, CONFIG}
    assert bench.manifests() == {"registry.ollama.ai/library/test/latest"}
    assert bench.checked == [bench.store.blob_path(f"sha256:{GGUF}")]


async def test_from_model(bench: Any, files: dict[str, str]) -> None:
    """F4: a model from a model adds a manifest and no blob; its layers name their origin."""
    await bench.create("test", files=files)
    assert await bench.create("test2", from_name="test") == [existing(GGUF), *END]
    assert bench.blobs() == {GGUF, CONFIG}
    data = (bench.root / "models/manifests/registry.ollama.ai/library/test2/latest").read_text()
    assert json.loads(data)["layers"] == [
        {
            "mediaType": "application/vnd.ollama.image.model",
            "digest": f"sha256:{GGUF}",
            "size": 68,
            "from": "test:latest",
        }
    ]


async def test_renderer_and_parser_are_inherited(bench: Any, files: dict[str, str]) -> None:
    """F5: a child has its parent's renderer, parser and required version unless it names others."""
    await bench.create("base", files=files, renderer="custom-renderer", parser="custom-parser", requires="0.14.0")
    await bench.create("child", from_name="base", parser="mine")
    config = (await bench.resolver.resolve("child")).config
    assert (config.renderer, config.parser, config.requires) == ("custom-renderer", "mine", "0.14.0")


@pytest.mark.parametrize(
    ("first", "second", "blobs"),
    [
        pytest.param({"template": "{{ .Prompt }}"}, {"template": "{{ .System }} {{ .Prompt }}"}, {T2}, id="F6"),
        pytest.param({"system": "Say hi!"}, {"system": ""}, set(), id="F7"),
        pytest.param({}, {"parameters": PARAMETERS}, {P1}, id="F8"),
        pytest.param({}, {"template": "{{ .System }} {{ .Prompt }}", "system": "Say bye!"}, {T2, S2}, id="F12"),
        pytest.param({}, {"licenses": ("MIT", "", "Apache-2.0")}, {L1, L2}, id="F14"),
    ],
)
async def test_again_from_files(
    bench: Any, files: dict[str, str], first: dict[str, Any], second: dict[str, Any], blobs: set[str]
) -> None:
    """A model made again from files has only what was given last, and the bytes are the known ones."""
    await bench.create("test", files=files, **first)
    await bench.create("test", files=files, **second)
    assert bench.blobs() == {GGUF, CONFIG, *blobs}


async def test_parameters_are_merged(bench: Any, files: dict[str, str]) -> None:
    """F9, F10: given parameters are put over inherited ones key by key, lists as a whole; the old body goes."""
    await bench.create("test", files=files, parameters=PARAMETERS)
    await bench.create("test2", from_name="test", parameters={"temperature": 0.6, "top_p": 0.7})
    assert bench.blobs() == {GGUF, CONFIG, P1, P2}
    again = {"temperature": 0.6, "top_p": 0.7, "stop": ["<|endoftext|>"]}
    await bench.create("test2", from_name="test", parameters=again)
    assert bench.blobs() == {GGUF, CONFIG, P1, P3}


async def test_messages_are_replaced(bench: Any, files: dict[str, str]) -> None:
    """F11: given messages take the place of inherited ones."""
    await bench.create("test", files=files, messages=MESSAGES_1)
    assert bench.blobs() == {GGUF, CONFIG, M1}
    assert await bench.create("test2", from_name="test", messages=MESSAGES_2) == [existing(GGUF), new(M2), *END]
    assert bench.blobs() == {GGUF, CONFIG, M1, M2}
    assert (await bench.resolver.resolve("test2")).messages == MESSAGES_2


async def test_layer_order(bench: Any, files: dict[str, str]) -> None:
    """What is written stands at the end in a fixed order; inherited parameters move behind messages."""
    everything = {
        "template": "{{ .System }} {{ .Prompt }}",
        "system": "Say hi!",
        "licenses": ("MIT", "Apache-2.0"),
        "parameters": PARAMETERS,
        "messages": MESSAGES_1,
    }
    lines = await bench.create("test", files=files, **everything)
    assert lines[3:] == [new(T2), new(S1), new(L1), new(L2), new(P1), new(M1), *END]
    lines = await bench.create("test2", from_name="test")
    assert lines == [*map(existing, (GGUF, T2, S1, L1, L2, M1, P1)), *END]


async def test_empty_texts_keep_the_inherited(bench: Any, files: dict[str, str]) -> None:
    """CR-27: empty system, template and licences leave what the parent has."""
    await bench.create("test", files=files, system="Say hi!", template="{{ .Prompt }}", licenses=("MIT",))
    await bench.create("test2", from_name="test", system="", template="", licenses=("",))
    model = await bench.resolver.resolve("test2")
    assert (model.system, model.template) == ("Say hi!", "{{ .Prompt }}")


async def test_onto_itself(bench: Any, files: dict[str, str]) -> None:
    """A model may be made from itself; its replaced body goes."""
    await bench.create("test", files=files, system="Say hi!")
    assert await bench.create("test", from_name="test", system="Say bye!") == [existing(GGUF), new(S2), *END]
    assert bench.blobs() == {GGUF, CONFIG, S2}


async def test_noprune_keeps_the_old_layers(make_bench: Callable[..., Any], gguf: Callable[..., bytes]) -> None:
    """C3: with OLLAMA_NOPRUNE every blob of the old manifest stays."""
    bench = make_bench(noprune=True)
    files = {"test.gguf": await bench.upload(gguf({"general.architecture": "test"}))}
    await bench.create("test", files=files, system="Say hi!")
    await bench.create("test", files=files)
    assert bench.blobs() == {GGUF, CONFIG, S1}


async def test_the_stored_spelling_stays(bench: Any, files: dict[str, str]) -> None:
    """A create in other letters writes over the one manifest."""
    await bench.create("Foo:Tag", files=files)
    await bench.create("foo:tag", files=files, system="Say hi!")
    assert bench.manifests() == {"registry.ollama.ai/library/Foo/Tag"}


@pytest.mark.parametrize(
    ("architecture", "renderer", "parser", "parameters"),
    [
        pytest.param("gemma4", "gemma4", "gemma4", {"stop": ["<turn|>"]}, id="F16"),
        pytest.param("laguna", "laguna", "laguna", {}, id="F17"),
        pytest.param("nemotron_h", "nemotron-3-nano", "nemotron-3-nano", {}, id="F18-h"),
        pytest.param("nemotron_h_moe", "nemotron-3-nano", "nemotron-3-nano", {}, id="F18-moe"),
        pytest.param("nemotron_h_omni", "nemotron-3-nano", "nemotron-3-nano", {}, id="F18-omni"),
    ],
)
async def test_architecture_defaults(
    bench: Any, gguf: Callable[..., bytes], architecture: str, renderer: str, parser: str, parameters: dict[str, Any]
) -> None:
    """Some architectures bring renderer and parser along; what is given wins."""
    files = {"a.gguf": await bench.upload(gguf({"general.architecture": architecture}))}
    await bench.create("plain", files=files)
    model = await bench.resolver.resolve("plain")
    assert (model.config.renderer, model.config.parser, model.parameters) == (renderer, parser, parameters)
    await bench.create("own", files=files, renderer="r", parser="p", parameters={"stop": ["x"]})
    model = await bench.resolver.resolve("own")
    assert (model.config.renderer, model.config.parser, model.parameters) == ("r", "p", {"stop": ["x"]})


async def test_info(bench: Any, files: dict[str, str]) -> None:
    """``info`` fills the config where no file says otherwise."""
    info = {"capabilities": ["tools"], "context_length": 2048, "base_name": "b", "model_family": "overruled"}
    await bench.create("test", files=files, info=info)
    config = (await bench.resolver.resolve("test")).config
    assert (config.capabilities, config.context_length, config.base_name) == (("tools",), 2048, "b")
    assert config.model_family == "test"


@pytest.mark.parametrize(
    ("info", "message"),
    [
        pytest.param({"model_family": 1}, 'info field "model_family" must be a string', id="F19-family"),
        pytest.param(
            {"context_length": 1.5}, 'info field "context_length" must be a non-negative integer', id="F19-length"
        ),
        pytest.param(
            {"embedding_length": -1}, 'info field "embedding_length" must be a non-negative integer', id="negative"
        ),
        pytest.param({"context_length": "big"}, 'info field "context_length" must be a number', id="text"),
        pytest.param({"context_length": True}, 'info field "context_length" must be a number', id="boolean"),
        pytest.param(
            {"context_length": float("inf")}, 'info field "context_length" must be a non-negative integer', id="inf"
        ),
    ],
)
async def test_bad_info(bench: Any, files: dict[str, str], info: dict[str, Any], message: str) -> None:
    """A wrong type in ``info`` is refused with the field, for files and for remote models."""
    for fields in ({"files": files}, {"from_name": "bob", "remote_host": "example.com"}):
        with pytest.raises(InvalidRequest) as caught:
            await bench.create("test", info=info, **fields)
        assert str(caught.value) == message
    assert bench.manifests() == set()


DIGEST = f"sha256:{GGUF}"


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        pytest.param({"files": {"0.gguf": ""}}, "invalid digest format", id="F2"),
        pytest.param({"files": {}, "adapters": {"a.gguf": ""}}, "invalid digest format", id="F3"),
        pytest.param({"draft_files": {"a.gguf": ""}}, "invalid digest format", id="draft-digest"),
        *(
            pytest.param({"files": {path: DIGEST}}, "file path must be relative", id=f"F31-{path or 'empty'}")
            for path in ("../file.safetensors", "../../../data/file.txt", "dir/../../other.safetensors", "/abs", "")
        ),
        pytest.param({"draft_files": {"../d": DIGEST}}, "file path must be relative", id="draft-path"),
        pytest.param({"draft_quantize": "q8_0"}, "--draft-quantize requires a DRAFT model", id="draft-quantize"),
        pytest.param({"name": ""}, "invalid model name", id="target-empty"),
        pytest.param({"name": "-bad"}, "invalid model name", id="target-bad"),
        pytest.param({"name": "-bad", "files": {"/x": ""}}, "file path must be relative", id="checks-in-order"),
    ],
)
async def test_refused_at_once(bench: Any, fields: dict[str, Any], message: str) -> None:
    """What the request shows by itself is refused by the call, before there is anything to stream."""
    with pytest.raises(InvalidRequest) as caught:
        bench.library.create(CreateRequest(**{"name": "test", **fields}))
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("fields", "error", "message"),
    [
        pytest.param({}, InvalidRequest, "neither 'from' or 'files' was specified", id="CR-25"),
        pytest.param({"files": {}}, InvalidRequest, "unknown type", id="no-files"),
        pytest.param({"files": {"model.bin": DIGEST}}, InvalidRequest, "unknown type", id="F30-missing-blob"),
        pytest.param({"from_name": "-bad"}, InvalidName, "invalid model name", id="from-bad"),
        pytest.param({"from_name": "foo:cloud:local"}, InvalidName, "invalid model name", id="from-both-sources"),
        pytest.param({"from_name": "  "}, InvalidName, "invalid model name", id="from-blank"),
        pytest.param(
            {"from_name": "bob", "remote_host": "http://[::1]:namedport"}, InvalidRequest, "bad remote", id="bad-remote"
        ),
        pytest.param(
            {"from_name": "bob", "remote_host": "https://ollama.com", "draft_files": {"d": DIGEST}},
            InvalidRequest,
            "DRAFT cannot be used with remote models",
            id="F21",
        ),
        pytest.param(
            {"from_name": "gpt-oss:20b:cloud"},
            Unsupported,
            "remote models are not available in this version of ollamad",
            id="F22",
        ),
        pytest.param(
            {"files": {"a.gguf": DIGEST}, "adapters": {"b.gguf": DIGEST}},
            Unsupported,
            "adapters are not available in this version of ollamad",
            id="adapters",
        ),
        pytest.param(
            {"files": {"a.gguf": DIGEST}, "draft_files": {"b.gguf": DIGEST}},
            Unsupported,
            "draft models are not available in this version of ollamad",
            id="drafts",
        ),
        pytest.param(
            {"files": {"model.safetensors": DIGEST}},
            Unsupported,
            "importing safetensors files is not available in this version of ollamad",
            id="safetensors",
        ),
        pytest.param(
            {"from_name": "nope"},
            Unsupported,
            "pull model manifest: model 'nope' is not in the store, and pulling is not available in this version of "
            "ollamad",
            id="from-missing",
        ),
        pytest.param({"files": {"a.gguf": DIGEST}}, StoreError, f'blob "{DIGEST}" not found', id="blob-missing"),
        pytest.param({"files": {"a.gguf": "sha256:12"}}, InvalidRequest, "invalid digest format", id="half-a-digest"),
    ],
)
async def test_refused_in_the_stream(bench: Any, fields: dict[str, Any], error: type[Exception], message: str) -> None:
    """What needs the store to be known is refused by the iteration, and nothing is made."""
    lines = bench.library.create(CreateRequest(name="test", **fields))
    with pytest.raises(error) as caught:
        async for _ in lines:
            pass
    assert type(caught.value) is error
    assert str(caught.value) == message
    assert bench.manifests() == set()


@pytest.mark.parametrize(
    ("file_name", "data", "message"),
    [
        ("model.gguf", b"just text", "supplied file was not in GGUF format"),
        ("model.gguf", bytes(100), "supplied file was not in GGUF format"),
        ("model.gguf", b"GG", "supplied file was not in GGUF format"),
        ("model.bin", b"12345678", "unknown type"),
        ("model.bin", b"GGU", "unknown type"),
    ],
)
async def test_files_that_are_no_models(bench: Any, file_name: str, data: bytes, message: str) -> None:
    """F30: what is not GGUF is refused in the recorded words."""
    digest = await bench.upload(data)
    with pytest.raises(InvalidRequest) as caught:
        await bench.create("test", files={file_name: digest})
    assert str(caught.value) == message


async def test_type_detection(bench: Any, files: dict[str, str]) -> None:
    """F30: a GGUF is known by its magic too, and a lone dot is a file's name."""
    for name in ("weights", "."):
        assert (await bench.create("test", files={name: files["test.gguf"]}))[-1] == "success"


async def test_a_header_that_lies(bench: Any, gguf: Callable[..., bytes]) -> None:
    """A broken header is refused before anything native opens the file."""
    digest = await bench.upload(gguf({"general.architecture": "test", "general.alignment": 0}))
    with pytest.raises(InvalidModelFile):
        await bench.create("test", files={"a.gguf": digest})
    assert bench.checked == []


async def test_every_truncation(bench: Any) -> None:
    """A sample of the demo model's truncations: none is taken, none reaches the native check, nothing is made."""
    head = weights_path().read_bytes()[:4096]
    for length in (*range(1, 64), *range(64, 4097, 61)):
        with pytest.raises(InvalidRequest):
            await bench.create("test", files={"a.gguf": await bench.upload(head[:length])})
    assert bench.checked == []
    assert bench.manifests() == set()


async def test_native_check_fails(bench: Any, files: dict[str, str]) -> None:
    """F29: a file that llama.cpp does not open ends the create; no manifest is written."""
    bench.refuse = InvalidModelFile("unknown model architecture: 'test'")
    with pytest.raises(CreateFailed, match="failed to validate GGUF with llama-quantize without compatibility patches"):
        await bench.create("test", files=files)
    assert bench.manifests() == set()


async def test_compatibility_tensors_are_not_opened(bench: Any, gguf: Callable[..., bytes]) -> None:
    """F23, F24: a file with tensors of Ollama's own engine is taken as it is, any other is opened first."""
    plain = await bench.upload(gguf({"general.architecture": "llama"}, ["blk.0.attn_q.weight"]))
    own = await bench.upload(gguf({"general.architecture": "gemma4"}, ["v.patch_embd.weight"]))
    await bench.create("plain", files={"a.gguf": plain})
    assert len(bench.checked) == 1
    assert await bench.create("own", files={"a.gguf": own}) == [
        "parsing GGUF",
        f"using existing layer {own}",
        new(hashlib.sha256(b'{"stop":["\\u003cturn|\\u003e"]}\n').hexdigest()),
        *END,
    ]
    assert len(bench.checked) == 1


@pytest.mark.parametrize(
    "keys",
    [
        {"general.architecture": "clip", "general.type": "mmproj"},
        {"general.architecture": "clip", "clip.has_vision_encoder": True, "clip.projector_type": "mlp"},
    ],
)
async def test_projectors(bench: Any, files: dict[str, str], gguf: Callable[..., bytes], keys: dict[str, Any]) -> None:
    """F27: a projector beside a model is a projector layer, which keeps its file's name and is not opened."""
    projector = await bench.upload(gguf(keys))
    await bench.create("test", files={**files, "mmproj.gguf": projector})
    model = await bench.resolver.resolve("test")
    assert [ref.digest for ref in model.projectors] == [projector]
    assert [ref.digest for ref in model.weights] == [f"sha256:{GGUF}"]
    assert len(bench.checked) == 1
    assert "vision" in model.capabilities


@pytest.mark.parametrize(
    ("quantize", "file_type", "error", "message"),
    [
        (
            "q3_x",
            7,
            CreateFailed,
            "unsupported quantization type Q3_X - supported types are F32, F16, Q4_K_S, Q4_K_M, Q8_0",
        ),
        ("q4_K_M", 7, CreateFailed, "quantization is only supported for F16, BF16 and F32 models"),
        ("q4_K_M", 1, Unsupported, "quantization is not available in this version of ollamad"),
        ("f16", 1, None, ""),
    ],
)
async def test_quantize(
    bench: Any,
    gguf: Callable[..., bytes],
    quantize: str,
    file_type: int,
    error: type[Exception] | None,
    message: str,
) -> None:
    """What could never be quantized says so; what a later version will do says that."""
    digest = await bench.upload(gguf({"general.architecture": "llama", "general.file_type": file_type}))
    if error is None:
        assert (await bench.create("test", files={"a.gguf": digest}, quantize=quantize))[-1] == "success"
        return
    with pytest.raises(error) as caught:
        await bench.create("test", files={"a.gguf": digest}, quantize=quantize)
    assert str(caught.value) == message


async def test_split_files(bench: Any, gguf: Callable[..., bytes]) -> None:
    """Parts of a split model are refused: merging them comes later."""
    digest = await bench.upload(gguf({"general.architecture": "llama", "split.count": 2}))
    with pytest.raises(Unsupported, match="split GGUF files are not available"):
        await bench.create("test", files={"a.gguf": digest})


async def test_an_abandoned_create_makes_nothing(bench: Any, files: dict[str, str]) -> None:
    """A client that leaves before the manifest leaves no model, and its blobs are no longer held."""
    await bench.create("test", files=files)
    lines = bench.library.create(CreateRequest(name="test2", from_name="test", system="Say hi!"))
    await anext(lines)
    await lines.aclose()
    with pytest.raises(ModelNotFound):
        await bench.resolver.resolve("test2")
    assert bench.store.remove_unreferenced([f"sha256:{S1}"]) == (f"sha256:{S1}",)


async def test_blobs_of_a_running_create_are_held(bench: Any, files: dict[str, str]) -> None:
    """A delete of the parent in the middle of a create takes no layer away from the child."""
    await bench.create("test", files=files, system="Say hi!")
    lines = bench.library.create(CreateRequest(name="test2", from_name="test"))
    await anext(lines)
    await bench.library.delete("test")
    async for _ in lines:
        pass
    assert (await bench.resolver.resolve("test2")).system == "Say hi!"


async def test_from_the_demo(make_bench: Callable[..., Any]) -> None:
    """A model from the demo has real blobs."""
    bench = make_bench(demo=True)
    lines = await bench.create("mine", from_name="demo", system="Say hi!")
    assert lines[-1] == "success"
    model = await bench.resolver.resolve("mine")
    assert model.source == "store"
    assert model.system == "Say hi!"
    assert bench.store.blob_size(model.weights[0].digest) == model.weights[0].size_bytes
