"""What a loaded model takes: told from the truth, shrunk by options, and known to the next daemon."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

QUESTION = {"model": "demo", "prompt": "Who are you?", "stream": False, "options": {"temperature": 0}}
LEARNED = "learned-memory.json"


def learned(daemon: Any) -> dict[tuple[Any, ...], list[Any]]:
    """What the daemon's state directory says of earlier loads."""
    found = list(daemon.home.rglob(LEARNED))
    return {tuple(one["load"]): one["memory"] for one in json.loads(found[0].read_bytes())["loads"]} if found else {}


@pytest.fixture
def load_demo(make_daemon: Callable[..., Any]) -> Callable[..., tuple[str, int, list[int]]]:
    """Load the demo model in a new daemon: its answer, its size in `ps`, and bytes of weights, KV cache, compute."""

    def load(name: str, **environment: str) -> tuple[str, int, list[int]]:
        daemon = make_daemon(name, OLLAMA_NUM_PARALLEL="4", **environment).start()
        answer = daemon.json("POST", "/api/generate", QUESTION)["response"]
        (shown,) = daemon.json("GET", "/api/ps")["models"]
        daemon.stop()
        ((line,),) = learned(daemon).values()
        return answer, shown["size"], line[2:]

    return load


def test_the_kv_cache_shrinks_with_its_type(load_demo: Callable[..., tuple[str, int, list[int]]]) -> None:
    """34 and 18 bytes in place of 64 for 32 numbers; `ps` shows the sum; the model still knows who it is."""
    answer, size, (weights, kv, compute) = load_demo("f16")
    assert size == weights + kv + compute
    for kind, bytes_per_block in (("q8_0", 34), ("q4_0", 18)):
        other, small, parts = load_demo(kind, OLLAMA_KV_CACHE_TYPE=kind)
        assert other == answer
        assert parts[1] * 64 == kv * bytes_per_block
        assert small == sum(parts) < size


def test_flash_attention_saves_memory(load_demo: Callable[..., tuple[str, int, list[int]]]) -> None:
    """Both answer alike; without it the attention matrices are made whole."""
    with_it, without = (load_demo(f"fa{value}", OLLAMA_FLASH_ATTENTION=value) for value in "10")
    assert with_it[0] == without[0]
    assert without[2][2] > 2 * with_it[2][2]


def test_a_small_kv_cache_needs_flash_attention(make_daemon: Callable[..., Any]) -> None:
    """llama.cpp cannot do it otherwise: the load is refused with its words, and the daemon serves on."""
    daemon = make_daemon("home", OLLAMA_KV_CACHE_TYPE="q8_0", OLLAMA_FLASH_ATTENTION="0").start()
    status, answer = daemon.post("/api/generate", QUESTION)
    assert status == 500
    assert "quantized V cache requires flash_attn to be enabled" in answer["error"]
    assert daemon.loaded() == []
    assert daemon.stop() == 0


def test_the_next_daemon_plans_with_what_the_last_one_saw(make_daemon: Callable[..., Any]) -> None:
    """A budget that the estimate fits and the truth does not: only who learned the truth refuses before loading."""
    daemon = make_daemon("home").start()
    daemon.chat("Hello")
    (size,) = [one["size"] for one in daemon.json("GET", "/api/ps")["models"]]
    daemon.stop()
    (load,) = learned(daemon)
    slots = {"OLLAMA_NUM_PARALLEL": str(load[2])}
    config = daemon.home / "ollamad.toml"
    config.write_text(f"[scheduler]\nmemory_budget_bytes = {size - 1}\n")
    daemon.environment |= slots | {"OLLAMAD_CONFIG": str(config)}
    daemon.start()
    status, answer = daemon.post("/api/generate", QUESTION)
    assert status == 500
    assert answer["error"] == (
        f"model requires {size} bytes of memory, more than the {size - 1} bytes that this server may use"
    )
    daemon.stop()


def test_the_daemon_allocates_so_that_it_can_give_back(daemon: Any) -> None:
    """It runs with the C library's allocator and one arena."""
    variables = Path(f"/proc/{daemon.pid}/environ").read_bytes().split(b"\0")
    assert {b"PYTHONMALLOC=malloc", b"MALLOC_ARENA_MAX=1"} <= set(variables)
