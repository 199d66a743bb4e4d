"""The strangers' plugins keep the contracts, as any author would show it."""

import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest

from ollamad.plugin import Backend, Frontend
from ollamad.testing.contracts import BackendContract, Example, FrontendContract

HERE = Path(__file__).parent


@pytest.fixture(scope="module", autouse=True)
def _importable() -> Iterator[None]:
    """The plugins' folders are on the path, as if they were installed."""
    folders = [str(HERE / "echo_backend"), str(HERE / "greeting_frontend")]
    sys.path[:0] = folders
    yield
    for folder in folders:
        sys.path.remove(folder)


def module(name: str) -> ModuleType:
    return import_module(name)


class TestEcho(BackendContract):
    plugin_module = "ollamad_echo"
    samples = False

    @pytest.fixture
    def backend(self) -> Backend:
        backend: Backend = module("ollamad_echo").EchoBackend()
        return backend

    @pytest.fixture
    def model_file(self, tmp_path: Path) -> Path:
        path = tmp_path / "echo.gguf"
        path.write_bytes(b"GGUF echo")
        return path


class TestGreeting(FrontendContract):
    plugin_module = "ollamad_greeting"
    examples = (Example("GET", "/greeting/m"), Example("GET", "/greeting/m?Who%20is%20there"))

    @pytest.fixture
    def frontend(self) -> Frontend:
        frontend: Frontend = module("ollamad_greeting").Greeting()
        return frontend
