"""Model files that lie, are cut or make llama.cpp abort: uploaded and created, or put into the store from behind."""

import hashlib
import json
from collections.abc import Callable, Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
from gguf_writer import TensorSpec, Typed, array, build, f64, u32
from unharmed import Bystander, assert_clean, error_of, unharmed

DEMO = next(one for one in files("ollamad").joinpath("_data").iterdir() if one.name.endswith(".gguf")).read_bytes()
LLAMA = {"general.architecture": "llama"}


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory, daemon_class: Callable[..., Any]) -> Iterator[Any]:
    """One daemon with a store of its own, for these tests put broken models there."""
    one = daemon_class(tmp_path_factory.mktemp("bad-models")).start()
    yield one
    one.close()


def upload(daemon: Any, data: bytes) -> str:
    digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
    assert daemon.request("POST", f"/api/blobs/{digest}", data)[0] in (200, 201)
    return digest


def create(daemon: Any, data: bytes, name: str = "bad") -> tuple[int, str]:
    """Status and error of a create from one file."""
    body = {"model": name, "files": {"model.gguf": upload(daemon, data)}, "stream": False}
    status, answer = daemon.request("POST", "/api/create", body)
    return status, "" if status == 200 else error_of(answer)


def names(daemon: Any) -> set[str]:
    return {one["name"] for one in daemon.json("GET", "/api/tags")["models"]}


# --- uploaded and created ---------------------------------------------------------------------


def test_every_kind_of_cut(daemon: Any) -> None:
    """The demo model cut anywhere is refused, naming an offset or a tensor, and nothing is made.

    All cuts of the first 4 KiB: tests/gguf/test_read.py.
    """
    cuts = [*range(1, 4096, 71), 4096, 100_000, len(DEMO) // 2, len(DEMO) - 1]
    with unharmed(daemon), Bystander(daemon):
        for cut in cuts:
            status, text = create(daemon, DEMO[:cut])
            assert status == 400, (cut, text)
            if cut < 4:
                assert text == "supplied file was not in GGUF format"
            else:
                assert text.startswith(("unexpected EOF at offset ", "tensor ")), (cut, text)
    assert "bad:latest" not in names(daemon)


LIES = {
    "keys 2^31": (build(LLAMA, n_keys=2**31), "GGUF key count 2147483648 exceeds maximum 65536 at offset 16"),
    "keys 2^63": (build(LLAMA, n_keys=2**63), "GGUF key count 9223372036854775808 exceeds maximum 65536 at offset 16"),
    "tensors 2^31": (build(LLAMA, n_tensors=2**31), "GGUF tensor count 2147483648 exceeds maximum 65536 at offset 8"),
    "tensors 2^63": (
        build(LLAMA, n_tensors=2**63),
        "GGUF tensor count 9223372036854775808 exceeds maximum 65536 at offset 8",
    ),
    "array 2^31": (
        build({**LLAMA, "tokenizer.ggml.tokens": array(8, ["a"], 2**31)}),
        'GGUF array size 2147483648 exceeds maximum 67108864 in key "tokenizer.ggml.tokens"',
    ),
    "array 2^63": (
        build({**LLAMA, "tokenizer.ggml.tokens": array(8, ["a"], 2**63)}),
        'GGUF array size 9223372036854775808 exceeds maximum 67108864 in key "tokenizer.ggml.tokens"',
    ),
    "string 2^63": (
        build({**LLAMA, "k": Typed(8, "abc", length=2**63)}),
        "GGUF string length 9223372036854775808 exceeds maximum 16777216 at offset 82",
    ),
    "tensor 2^40": (build(LLAMA, [TensorSpec("t", (2**40,), data=b"")]), 'tensor "t" offset+size (4398046511232) exc'),
    "alignment 0": (
        build({**LLAMA, "general.alignment": u32(0)}),
        "invalid GGUF alignment: 0 in key general.alignment",
    ),
    "text": (b"FROM demo\n" * 100, "supplied file was not in GGUF format"),
    "zeros": (bytes(5000), "supplied file was not in GGUF format"),
    "empty": (b"", "supplied file was not in GGUF format"),
    "magic": (b"GGUF" + b"\xff" * 100, ""),
}


@pytest.mark.parametrize("name", LIES)
def test_lies(daemon: Any, name: str) -> None:
    """A file that claims what it has not is refused for the claim, without memory for it."""
    data, text = LIES[name]
    with unharmed(daemon):
        status, error = create(daemon, data)
    assert (status, error[: len(text)]) == (400, text)
    assert "bad:latest" not in names(daemon)


def test_lies_are_told_in_the_stream(daemon: Any) -> None:
    """A streamed create has sent its first line by then: the status stays 200 and the error is the last line."""
    body = {"model": "bad", "files": {"m.gguf": upload(daemon, DEMO[:3000])}}
    with unharmed(daemon), daemon.stream("/api/create", body) as stream:
        records = list(stream)
        assert stream.response.status == 200
    assert records[0] == {"status": "parsing GGUF"}
    assert error_of(records[-1]).startswith("unexpected EOF at offset ")


# --- right headers that llama.cpp does not take -------------------------------------------------


def toy(tensors: dict[str, tuple[int, ...] | None] | None = None, **changed: Any) -> bytes:
    """A tiny llama with random weights; None leaves a key or tensor out."""
    width, hidden, vocabulary = 32, 64, 16
    metadata = {
        "general.architecture": "llama",
        "llama.context_length": u32(64),
        "llama.embedding_length": u32(width),
        "llama.block_count": u32(1),
        "llama.feed_forward_length": u32(hidden),
        "llama.attention.head_count": u32(2),
        "llama.attention.layer_norm_rms_epsilon": 1e-5,
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "default",
        "tokenizer.ggml.tokens": array(8, [chr(97 + number) for number in range(vocabulary)]),
        "tokenizer.ggml.token_type": array(5, [1] * vocabulary),
        "tokenizer.ggml.merges": array(8, []),
        "tokenizer.ggml.eos_token_id": u32(0),
        **{key.replace("__", "."): value for key, value in changed.items()},
    }
    shapes: dict[str, tuple[int, ...] | None] = {
        "token_embd.weight": (width, vocabulary),
        "output_norm.weight": (width,),
        "output.weight": (width, vocabulary),
        "blk.0.attn_norm.weight": (width,),
        **{f"blk.0.attn_{part}.weight": (width, width) for part in ("q", "k", "v", "output")},
        "blk.0.ffn_norm.weight": (width,),
        "blk.0.ffn_gate.weight": (width, hidden),
        "blk.0.ffn_up.weight": (width, hidden),
        "blk.0.ffn_down.weight": (hidden, width),
        **(tensors or {}),
    }
    specs = [TensorSpec(name, shape, seed=1) for name, shape in shapes.items() if shape is not None]
    return build({key: value for key, value in metadata.items() if value is not None}, specs)


#: Refused by the check job, which opens the vocabulary.
UNCHECKED = {
    "unknown architecture": (build({"general.architecture": "zzz"}), "unknown model architecture: 'zzz'"),
    "no architecture": (build({"x": 1}), "unknown model architecture: ''"),
    "unknown tokenizer": (toy(tokenizer__ggml__model="nope"), "unknown tokenizer: 'nope'"),
    "unknown splitting": (toy(tokenizer__ggml__pre="nope"), "unknown pre-tokenizer type: 'nope'"),
    "tokens are numbers": (toy(tokenizer__ggml__tokens=array(5, [1] * 16)), "invalid gguf type for tokenizer"),
    "no tokens": (toy(tokenizer__ggml__tokens=None), "cannot find tokenizer vocab"),
    "types too short": (toy(tokenizer__ggml__token_type=array(5, [1])), "Index out of array bounds for toktypes"),
}


@pytest.mark.parametrize("name", UNCHECKED)
def test_what_llama_cpp_refuses(daemon: Any, name: str) -> None:
    """A file with a right header that llama.cpp refuses is a 500 with its words, and no model."""
    data, text = UNCHECKED[name]
    with unharmed(daemon):
        status, error = create(daemon, data)
    assert status == 500
    assert error.startswith("failed to validate GGUF with llama-quantize without compatibility patches: ")
    assert text in error
    assert "bad:latest" not in names(daemon)


#: Only a real load can tell; some end the process (GGML_ASSERT).
UNLOADABLE = {
    "too many blocks": toy(llama__block_count=u32(600)),
    "blocks beyond all memory": toy(llama__block_count=u32(2**31)),
    "heads do not divide": toy(llama__attention__head_count=u32(3)),
    "context length is a text": toy(llama__context_length="abc"),
    "a missing tensor": toy({"blk.0.attn_q.weight": None}),
    "a tensor too many": toy({"something": (4,)}),
    "no token": toy(
        tokenizer__ggml__tokens=array(8, []),
        tokenizer__ggml__token_type=array(5, []),
        tokenizer__ggml__eos_token_id=None,
    ),
}


def test_what_cannot_be_loaded(daemon: Any) -> None:
    """A model that llama.cpp rejects or asserts about when loaded is a clean 500; every other model goes on."""
    with unharmed(daemon), Bystander(daemon):
        for name, data in UNLOADABLE.items():
            plant(daemon, "unloadable", data)
            status, answer = daemon.request("POST", "/api/generate", {"model": "unloadable", "prompt": "x"})
            text = error_of(answer)
            assert status == 500, (name, text)
            assert text.startswith(("llama-server process has terminated: ", "model requires ")), (name, text)
        assert daemon.runners() != []


def test_what_ends_the_runner_at_the_first_token(daemon: Any) -> None:
    """A file that loads and asserts in its first step fails its request only, and again the next time."""
    assert create(daemon, toy(llama__attention__layer_norm_rms_epsilon=-1.0), "late")[0] == 200
    with unharmed(daemon), Bystander(daemon):
        for _ in range(2):
            status, answer = daemon.request("POST", "/api/generate", {"model": "late", "prompt": "abc"})
            assert status == 500
            assert error_of(answer).startswith("model runner has unexpectedly stopped, this may be due to resource")
    assert "late:latest" not in daemon.loaded()


TEMPLATES = {
    "endless": ("{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}", "longer than 1 s"),
    "large": ("{% for a in range(99999) %}{{ 'x' * 99999 }}{% endfor %}", ""),
    "numbers": ("{% for a in range(10**9) %}{% endfor %}", "the template asks for a number over 100000"),
    "broken": ("{% if", "unexpected 'end of template'"),
    "reaching out": ("{{ messages.__class__.__mro__ }}", "access to attribute '__class__' of 'list' object is unsafe."),
    "including": ("{% include '/etc/passwd' %}", ""),
}


@pytest.mark.parametrize("name", TEMPLATES)
def test_templates(daemon: Any, name: str) -> None:
    """A template that is broken, endless, huge or reaches out is a clean error within its time."""
    template, text = TEMPLATES[name]
    assert create(daemon, toy(tokenizer__chat_template=template), "template")[0] == 200
    body = {"model": "template", "messages": [{"role": "user", "content": "x"}]}
    with unharmed(daemon):
        status, answer = daemon.request("POST", "/api/chat", body, timeout_s=20)
        error = error_of(answer)
    assert status == 500
    assert error.startswith("the chat template ")
    assert text in error


def test_numbers_that_json_has_not(daemon: Any) -> None:
    """Infinite and undefined numbers in a header are null in show."""
    odd = toy(llama__odd=float("nan"), llama__wide=f64(float("inf")), llama__both=array(6, [float("nan"), 1.0]))
    assert create(daemon, odd, "odd")[0] == 200
    with unharmed(daemon):
        shown = daemon.json("POST", "/api/show", {"model": "odd", "verbose": True})["model_info"]
    assert (shown["llama.odd"], shown["llama.wide"], shown["llama.both"]) == (None, None, [None, 1])


# --- behind the daemon's back -------------------------------------------------------------------


def plant(daemon: Any, name: str, data: bytes, config: bytes | None = None, **layers: bytes) -> list[Path]:
    """Write a model's blobs and manifest as another program would; returns its blobs, the model's first."""
    if config is None:
        config = b'{"model_format":"gguf","model_family":"llama","architecture":"amd64","os":"linux"}\n'
    parts = [("vnd.ollama.image.model", data), ("vnd.docker.container.image.v1+json", config)]
    parts += [(f"vnd.ollama.image.{kind}", body) for kind, body in layers.items()]
    described, paths = [], []
    for kind, body in parts:
        digest = hashlib.sha256(body).hexdigest()
        paths.append(daemon.models / "blobs" / f"sha256-{digest}")
        paths[-1].parent.mkdir(parents=True, exist_ok=True)
        paths[-1].write_bytes(body)
        described.append({"mediaType": f"application/{kind}", "digest": f"sha256:{digest}", "size": len(body)})
    manifest = {"schemaVersion": 2, "config": described.pop(1), "layers": described}
    place = daemon.models / "manifests" / "registry.ollama.ai" / "library" / name / "latest"
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text(json.dumps(manifest))
    return paths


def answers(daemon: Any, name: str) -> dict[str, tuple[int, str]]:
    """What every route that opens a model says of one that is broken."""
    message = {"role": "user", "content": "x"}
    asked = {
        "/api/show": {"model": name},
        "/api/generate": {"model": name, "prompt": "x"},
        "/api/chat": {"model": name, "messages": [message]},
        "/api/embed": {"model": name, "input": "x"},
        "/api/embeddings": {"model": name, "prompt": "x"},
        "/api/create": {"model": f"{name}-child", "from": name, "system": "x", "stream": False},
    }
    found = {}
    for path, body in asked.items():
        status, answer = daemon.request("POST", path, body)
        found[path] = (status, "" if status == 200 else error_of(answer))
    return found


PLANTED = {
    "cut in the header": (DEMO[:3000], "unexpected EOF at offset 1055"),
    "cut in the weights": (DEMO[:2_000_000], 'tensor "blk.3.ffn_down.weight" offset+size (2083360) exceeds file size'),
    "text": (b"hello", "invalid file magic at offset 0"),
    "empty": (b"", "invalid file magic at offset 0"),
    "alignment 0": (build({**LLAMA, "general.alignment": u32(0)}), "invalid GGUF alignment: 0"),
    "keys 2^63": (build(LLAMA, n_keys=2**63), "GGUF key count 9223372036854775808 exceeds maximum"),
}


@pytest.mark.parametrize("name", PLANTED)
def test_broken_blob_in_the_store(daemon: Any, name: str) -> None:
    """A model whose blob is broken is listed; showing, running or deriving from it is a clean 400."""
    data, text = PLANTED[name]
    with unharmed(daemon):
        plant(daemon, "planted", data)
        assert "planted:latest" in names(daemon)
        for path, (status, error) in answers(daemon, "planted").items():
            assert (status, error[: len(text)]) == (400, text), path
        assert daemon.request("DELETE", "/api/delete", {"model": "planted"}) == (200, b"")
    assert "planted:latest" not in names(daemon)


def test_blob_that_is_gone(daemon: Any) -> None:
    """A model without its blob is listed and answered as one that has to be pulled again."""
    plant(daemon, "gone", DEMO[:5000])[0].unlink()
    with unharmed(daemon):
        assert "gone:latest" in names(daemon)
        found = answers(daemon, "gone")
    for path in ("/api/generate", "/api/chat", "/api/embed", "/api/embeddings"):
        assert found[path] == (404, 'model "gone" not found, try pulling it first')
    assert found["/api/show"][0] == 404
    assert found["/api/create"][0] in (404, 500)


def test_blob_cut_under_a_known_model(daemon: Any) -> None:
    """A blob that is cut after its header was read fails in the runner, which is told; the daemon goes on."""
    path = plant(daemon, "swapped", DEMO)[0]
    body = {"model": "swapped", "prompt": "x", "stream": False, "options": {"num_predict": 2}}
    assert daemon.request("POST", "/api/generate", body)[0] == 200
    with unharmed(daemon):
        assert daemon.request("POST", "/api/generate", {"model": "swapped", "keep_alive": 0})[0] == 200
        path.unlink()
        path.write_bytes(DEMO[:4000])
        status, answer = daemon.request("POST", "/api/generate", body)
        assert status == 500
        assert error_of(answer).startswith("llama-server process has terminated: exit status 3: the model could not be")


BODIES = {
    "params are no JSON": {"params": b"{"},
    "params are a list": {"params": b"[]"},
    "params are of wrong types": {"params": b'{"temperature":"hot","num_ctx":[1],"stop":5}'},
    "params are NaN": {"params": b'{"temperature":NaN}'},
    "messages are no JSON": {"messages": b"nope"},
    "messages are texts": {"messages": b'["a"]'},
    "a system text that is no UTF-8": {"system": b"\xff\xfe\x00"},
    "config is no JSON": {"config": b"{"},
    "config is a list": {"config": b"[]"},
    "config of wrong types": {"config": b'{"model_format":1,"model_families":{"a":1},"capabilities":"x"}'},
    "config is nested deeply": {"config": b"[" * 100_000},
}


@pytest.mark.parametrize("name", BODIES)
def test_broken_bodies_in_the_store(daemon: Any, name: str) -> None:
    """A broken config, parameters or messages: the list stands, every route answers cleanly."""
    with unharmed(daemon):
        plant(daemon, "body", DEMO, **BODIES[name])
        names(daemon)
        for path, (status, _) in answers(daemon, "body").items():
            assert status in (200, 400, 500), path
        daemon.request("DELETE", "/api/delete", {"model": "body"})


MODEL_LAYER = b'{"layers":[{"mediaType":"application/vnd.ollama.image.model",%s}]}'
MANIFESTS = {
    "empty": b"",
    "no JSON": b"{",
    "null": b"null",
    "list": b"[]",
    "layers are a number": b'{"layers":1}',
    "layers are texts": b'{"layers":["a"]}',
    "digest is a path": MODEL_LAYER % b'"digest":"sha256:../../x","size":1',
    "size is a text": MODEL_LAYER % b'"digest":"x","size":"1"',
    "nested": b"[" * 100_000,
    "no UTF-8": b"\xff\xfe",
}


@pytest.mark.parametrize("name", MANIFESTS)
def test_broken_manifests(daemon: Any, name: str) -> None:
    """A manifest that is none hides nothing else; asking for its model is a clean error."""
    place = daemon.models / "manifests" / "registry.ollama.ai" / "library" / "manifest" / "latest"
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_bytes(MANIFESTS[name])
    with unharmed(daemon):
        assert "demo:latest" in names(daemon)
        for path, (status, _) in answers(daemon, "manifest").items():
            assert status in (400, 404, 500), path
        status, answer = daemon.request("DELETE", "/api/delete", {"model": "manifest"})
        assert_clean(answer)
    place.unlink(missing_ok=True)
