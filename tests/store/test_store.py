"""The store as a whole: names and blobs together (appendix C, F)."""

import hashlib
import os
import threading
from collections.abc import Callable
from pathlib import Path

import gguf_writer
import pytest

from ollamad import names
from ollamad.errors import BlobNotFound, InvalidName, ModelNotFound, StoreError
from ollamad.names import parse_name
from ollamad.store import FileLock, Layer, Manifest, Store, StoredManifest, encode_config
from ollamad.store.manifests import CONFIG_MEDIA_TYPE, MODEL_MEDIA_TYPE
from ollamad.types import ModelConfig, ModelName

MakeModel = Callable[..., StoredManifest]
Files = Callable[[], set[str]]

CONFIG = encode_config(
    ModelConfig(model_format="gguf", model_family="test", model_families=("test",), model_type="0", file_type="unknown")
)


def blob(body: bytes) -> str:
    return f"blobs/sha256-{hashlib.sha256(body).hexdigest()}"


def manifest(name: str) -> str:
    return f"manifests/{names.relative_path(parse_name(name))}"


def test_the_first_case_of_create(store: Store, make_model: MakeModel, files: Files) -> None:
    """F1: the empty GGUF and its config have the digests of Ollama, under the default name."""
    make_model(store, "test", CONFIG, gguf_writer.EMPTY)
    assert files() == {
        "blobs/sha256-89a2116c3a82d6a97f59f748d86ed4417214353fd178ee54df418fde32495fad",
        "blobs/sha256-99759ad5b91e723db0393d698ffbb448b1b7df5ff6377a108c49254583b1bc8c",
        "manifests/registry.ollama.ai/library/test/latest",
    }


def test_modes(root: Path, store: Store, make_model: MakeModel) -> None:
    """Another user can read what we write."""
    make_model(store, "test", b"config", b"layer")
    for path in root.rglob("*"):
        assert path.stat().st_mode & 0o777 == (0o755 if path.is_dir() else 0o644)


def test_two_models_share_blobs(store: Store, make_model: MakeModel, files: Files) -> None:
    """C3: deleting one of two models leaves what the other needs; deleting both leaves nothing."""
    make_model(store, "one", b"config", b"weights", b"template")
    make_model(store, "two", b"config", b"weights")
    store.delete(parse_name("one"))
    assert files() == {blob(b"config"), blob(b"weights"), manifest("two")}
    store.delete(parse_name("two"))
    assert files() == set()
    assert not (store.root / "manifests").exists()


def test_a_layer_that_is_the_config(store: Store, files: Files) -> None:
    """C3: a manifest that names one digest twice is deleted like any other."""
    body = store.write_blob(b"both")
    layer = Layer(CONFIG_MEDIA_TYPE, body.digest, body.size_bytes)
    store.write_manifest(parse_name("x"), Manifest(layer, (layer,)))
    store.delete(parse_name("x"))
    assert files() == set()


def test_delete_ignores_noprune(root: Path, tmp_path: Path, make_model: MakeModel, files: Files) -> None:
    """`noprune` keeps the blobs of a replaced manifest but not those of a deleted one."""
    store = Store(root, lock=FileLock(tmp_path / "lock"), noprune=True)
    make_model(store, "x", b"config", b"old")
    make_model(store, "x", b"config", b"new")
    assert files() == {blob(b"config"), blob(b"old"), blob(b"new"), manifest("x")}
    store.delete(parse_name("x"))
    assert files() == {blob(b"old")}


def test_replacing_a_model(store: Store, make_model: MakeModel, files: Files) -> None:
    """F6: layers that a new manifest of the same name no longer has are removed, unless others use them."""
    make_model(store, "x", b"config", b"weights", b"template 1", b"shared")
    make_model(store, "y", b"config", b"shared")
    make_model(store, "x", b"config", b"weights", b"template 2")
    assert files() == {
        *(blob(body) for body in (b"config", b"weights", b"template 2", b"shared")),
        *(manifest(name) for name in "xy"),
    }


def test_missing_blobs_are_no_error_to_delete(store: Store, make_model: MakeModel, files: Files) -> None:
    """A model whose blobs are gone can still be deleted; so can one whose manifest is broken."""
    make_model(store, "x", b"config", b"layer")
    (store.root / blob(b"layer")).unlink()
    store.delete(parse_name("x"))
    broken = store.root / manifest("y")
    broken.parent.mkdir(parents=True)
    broken.write_bytes(b"no json")
    store.delete(parse_name("y"))
    assert files() == set()
    with pytest.raises(ModelNotFound):
        store.delete(parse_name("y"))


def test_a_manifest_needs_its_blobs(store: Store, files: Files) -> None:
    """A manifest whose blob is missing is not written."""
    layer = Layer(MODEL_MEDIA_TYPE, f"sha256:{'0' * 64}", 1)
    with pytest.raises(BlobNotFound):
        store.write_manifest(parse_name("x"), Manifest(None, (layer,)))
    assert files() == set()


def test_a_manifest_without_config(store: Store) -> None:
    """An empty config digest is legal and means an empty config."""
    stored = store.write_manifest(parse_name("x"), Manifest(Layer(CONFIG_MEDIA_TYPE, "", 0)))
    assert store.read_config(stored.manifest) == ModelConfig()
    assert store.read_config(Manifest(None)) == ModelConfig()


def test_configs(store: Store, make_model: MakeModel) -> None:
    """A config is read once and checked against its digest."""
    stored = make_model(store, "x", CONFIG, b"layer")
    config = store.read_config(stored.manifest)
    assert (config.model_family, config.model_families) == ("test", ("test",))
    (store.root / blob(CONFIG)).unlink()
    assert store.read_config(stored.manifest) is config
    with pytest.raises(BlobNotFound):
        Store(store.root, lock=FileLock(store.root.parent / "lock")).read_config(stored.manifest)


def test_names_that_cannot_be(store: Store) -> None:
    """An invalid name never reaches the disk."""
    bad = parse_name("../../x")
    for action in (store.read_manifest, store.delete, lambda name: store.write_manifest(name, Manifest(None))):
        with pytest.raises(InvalidName):
            action(bad)
    assert store.align_case(bad) == bad


# --- lists --------------------------------------------------------------------------------------


def test_list_order(store: Store, make_model: MakeModel) -> None:
    """Newest first in whole seconds; ties keep the order of the paths."""
    for name, when_ns in (("c", 5_000_000_000), ("b", 9_100_000_000), ("a", 9_000_000_000), ("d", 9_900_000_000)):
        make_model(store, name, b"config")
        os.utime(store.root / manifest(name), ns=(when_ns, when_ns))
    assert [stored.name.model for stored in store.models()] == ["a", "b", "d", "c"]
    assert store.models()[1].modified_ns == 9_100_000_000


def test_size_and_digest(store: Store, make_model: MakeModel) -> None:
    """The size is that of all layers and the config; the digest is that of the manifest's bytes."""
    stored = make_model(store, "x", b"12345", b"123", b"123")
    assert stored.manifest.size_bytes == 11
    assert stored.digest == hashlib.sha256((store.root / manifest("x")).read_bytes()).hexdigest()
    assert store.models() == (stored,)
    assert store.names() == (parse_name("x"),)


def test_three_hundred_models_are_listed_from_memory(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second list of many models opens no file."""
    config = store.write_blob(CONFIG)
    text = f'{{"config":{{"digest":"{config.digest}","size":{config.size_bytes}}}}}'
    for number in range(300):
        path = store.root / manifest(f"m{number}")
        path.parent.mkdir(parents=True)
        path.write_text(text)
    first = store.models()
    for stored in first:
        store.read_config(stored.manifest)
    opened: list[object] = []
    monkeypatch.setattr("builtins.open", lambda *arguments, **_: opened.append(arguments))
    again = store.models()
    assert [store.read_config(stored.manifest).model_family for stored in again] == ["test"] * 300
    assert (len(first), again, opened) == (300, first, [])


# --- copy ---------------------------------------------------------------------------------------


def test_copy(store: Store, make_model: MakeModel, files: Files) -> None:
    """A copy has the same bytes under another name, whatever they are, and shares all blobs."""
    stored = make_model(store, "x", b"config", b"layer")
    pretty = (store.root / manifest("x")).read_bytes().replace(b",", b" ,\n")
    (store.root / manifest("x")).write_bytes(pretty)
    store.copy(parse_name("x"), parse_name("h/n/y:t"))
    assert (store.root / manifest("h/n/y:t")).read_bytes() == pretty
    assert store.read_manifest(parse_name("h/n/y:t")).manifest == stored.manifest
    assert len(files()) == 4
    store.delete(parse_name("x"))
    assert files() == {blob(b"config"), blob(b"layer"), manifest("h/n/y:t")}


def test_copy_onto_itself(store: Store, make_model: MakeModel) -> None:
    """A copy onto itself changes nothing, not even the time."""
    make_model(store, "x", b"config")
    os.utime(store.root / manifest("x"), (1000, 1000))
    store.copy(parse_name("x"), parse_name("x"))
    assert store.read_manifest(parse_name("x")).modified_ns == 1000 * 10**9


def test_copy_of_nothing(store: Store) -> None:
    """What is not there cannot be copied, onto itself either."""
    for destination in ("x", "y"):
        with pytest.raises(ModelNotFound):
            store.copy(parse_name("x"), parse_name(destination))
    assert not (store.root / "manifests").exists()


# --- letter case --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("stored", "wanted", "aligned"),
    [
        (["Test"], "tEST", "Test:latest"),
        (["Test"], "test:LATEST", "Test:latest"),
        (["Test"], "other", "other:latest"),
        (["h/N/m:t"], "H/n/M:T", "h/N/m:t"),
        (["h/N/m:t"], "H/n/x:T", "h/N/x:t"),
        (["h/N/a:t", "h2/n2/Model:x"], "h/n/model:T", "h/N/Model:t"),
        (["foo", "Foo"], "foo", "foo:latest"),
        (["foo", "Foo"], "Foo", "Foo:latest"),
        (["Foo:a", "foo:b"], "FOO:B", "foo:b"),
        ([], "Test", "Test:latest"),
    ],
)
def test_alignment(store: Store, make_model: MakeModel, stored: list[str], wanted: str, aligned: str) -> None:
    """A name takes the stored spelling part by part; an exact or a whole match comes first."""
    for name in stored:
        make_model(store, name, b"config")
    assert names.short(store.align_case(parse_name(wanted))) == aligned


def test_one_manifest_per_folded_name(store: Store, make_model: MakeModel) -> None:
    """A7, NA-29: names in other letters find the first spelling, so the store holds one manifest each."""

    def aligned(text: str) -> str:
        return names.full(store.align_case(parse_name(text)))

    make_model(store, aligned("Test"), b"config")
    make_model(store, aligned("tEST"), b"config", b"layer")
    store.copy(store.align_case(parse_name("TEST")), store.align_case(parse_name("tesT2")))
    make_model(store, aligned("TEST2"), b"config")
    assert [name.model for name in store.names()] == ["Test", "tesT2"]


# --- at the same time ---------------------------------------------------------------------------


def test_delete_during_a_create(store: Store, make_model: MakeModel) -> None:
    """A body that a create has written is not removed by the delete of the last model that had it."""
    make_model(store, "old", b"config")
    with store.pinned() as pins:
        config = pins.write(b"config")
        store.delete(parse_name("old"))
        stored = store.write_manifest(parse_name("new"), Manifest(Layer(CONFIG_MEDIA_TYPE, config.digest, 6)))
    assert store.read_blob(config.digest) == b"config"
    assert store.models() == (stored,)


def test_creates_and_deletes_from_many_threads(store: Store, files: Files) -> None:
    """Threads that make and remove models with a shared body never leave a model without its blobs."""
    failures: list[Exception] = []

    def work(number: int) -> None:
        name = ModelName("h", "n", f"m{number}", "t")
        try:
            for _ in range(15):
                with store.pinned() as pins:
                    bodies = [pins.write(b"shared"), pins.write(b"own %d" % number)]
                    layers = tuple(Layer(MODEL_MEDIA_TYPE, body.digest, body.size_bytes) for body in bodies)
                    stored = store.write_manifest(name, Manifest(None, layers))
                for layer in stored.manifest.layers:
                    store.read_blob(layer.digest)
                store.delete(name)
        except (StoreError, BlobNotFound, ModelNotFound) as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert failures == []
    assert files() == set()
