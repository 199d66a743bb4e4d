"""A real daemon with the settings that the recorded server had."""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from recorded.player import Player
from serving import serving

SETTINGS = {
    "OLLAMAD_DEMO": "0",
    "OLLAMA_NO_CLOUD": "1",
    "OLLAMA_MAX_QUEUE": "16",
    "OLLAMA_MAX_LOADED_MODELS": "6",
    "OLLAMA_NUM_PARALLEL": "1",
    "OLLAMA_CONTEXT_LENGTH": "2048",
}


@pytest.fixture(scope="session")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Player]:
    """A daemon without a model."""
    with serving(tmp_path_factory.mktemp("empty"), **SETTINGS) as port:
        yield Player(port)


@pytest.fixture(scope="session")
def stocked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Player]:
    """A daemon with the models that all cases may use."""
    models = json.loads(Path(__file__).with_name("models.json").read_text())
    with serving(tmp_path_factory.mktemp("stocked"), **SETTINGS) as port:
        player = Player(port)
        asyncio.run(player.create_models(models))
        yield player
