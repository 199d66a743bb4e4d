"""llama.cpp on the CPU keeps the contract of backends, with the demo model and a tiny encoder."""

from importlib.resources import files
from pathlib import Path

import pytest
from ollamad_llama.cpu import CpuBackend
from tiny_bert import write_tiny_bert

from ollamad.plugin import Backend
from ollamad.testing.contracts import BackendContract, EmbedContract


class TestDemo(BackendContract):
    plugin_module = "ollamad_llama.cpu"

    @pytest.fixture
    def backend(self) -> Backend:
        return CpuBackend()

    @pytest.fixture
    def model_file(self) -> Path:
        return Path(str(files("ollamad").joinpath("_data/demo.gguf")))


class TestEncoder(EmbedContract):
    @pytest.fixture
    def backend(self) -> Backend:
        return CpuBackend()

    @pytest.fixture
    def model_file(self, tmp_path: Path) -> Path:
        return write_tiny_bert(tmp_path / "tiny.gguf")
