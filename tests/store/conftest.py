"""A store in a fresh directory, and short ways to fill and to look at it."""

from collections.abc import Callable
from pathlib import Path

import pytest

from ollamad.names import parse_name
from ollamad.store import FileLock, Layer, Manifest, Store, StoredManifest
from ollamad.store.manifests import CONFIG_MEDIA_TYPE, MODEL_MEDIA_TYPE

MakeModel = Callable[..., StoredManifest]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "models"


@pytest.fixture
def store(root: Path, tmp_path: Path) -> Store:
    return Store(root, lock=FileLock(tmp_path / "state" / "lock"))


@pytest.fixture
def make_model() -> MakeModel:
    """(store, name, *bodies) -> a model whose first body is its config and whose others are its layers."""

    def make(store: Store, name: str, *bodies: bytes, media_type: str = MODEL_MEDIA_TYPE) -> StoredManifest:
        config, *layers = (store.write_blob(body) for body in bodies)
        manifest = Manifest(
            Layer(CONFIG_MEDIA_TYPE, config.digest, config.size_bytes),
            tuple(Layer(media_type, layer.digest, layer.size_bytes) for layer in layers),
        )
        return store.write_manifest(parse_name(name), manifest)

    return make


@pytest.fixture
def files(root: Path) -> Callable[[], set[str]]:
    """All files below the store's root, as relative paths."""
    return lambda: {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()}
