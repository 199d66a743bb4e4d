"""Answers recorded from Ollama 0.32.1, played against a real daemon.

README.md here tells the format of the cases, and what is left out.
"""

import json
from pathlib import Path
from typing import Any

import pytest
from recorded.player import Player

CASES = [json.loads(line) for line in Path(__file__).with_name("cases.jsonl").read_text().rstrip("\n").split("\n")]
EMPTY = [case for case in CASES if case["case"].startswith("empty_store/")]
STOCKED = [case for case in CASES if not case["case"].startswith("empty_store/")]


@pytest.mark.parametrize("case", EMPTY, ids=lambda case: case["case"])
async def test_empty_store(empty: Player, case: dict[str, Any]) -> None:
    """A daemon without models answers as recorded."""
    await empty.play(case)


@pytest.mark.parametrize("case", STOCKED, ids=lambda case: case["case"])
async def test_recorded(stocked: Player, case: dict[str, Any]) -> None:
    """The same requests get the same answers."""
    await stocked.play(case)
