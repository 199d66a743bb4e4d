"""Imports go one way: every module imports only from lower floors (see ollamad/README.md)."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

#: Room -> floor. `config.schema` stands lower than the rest of `config`.
FLOORS = {
    "types": 0,
    "errors": 0,
    "metrics": 0,
    "names": 1,
    "gguf": 1,
    "gojson": 1,
    "modelfile": 1,
    "wire": 1,
    "config.schema": 1,
    "children": 2,
    "config": 2,
    "prompt": 2,
    "store": 2,
    "state": 2,
    "plugin": 2,
    "engine": 3,
    "http": 3,
    "jobs": 3,
    "runner": 4,
    "runner_child": 4,
    "scheduler": 5,
    "service": 6,
    "daemon": 7,
    "testing": 7,
    "cli": 8,
}

#: What the daemon's process may never hold: native code, and what is too heavy for an idle daemon.
FORBIDDEN_IN_DAEMON = ("llama_cpp", "numpy", "jinja2", "gguf", "safetensors", "ollamad.engine")


def modules() -> list[Path]:
    return sorted((ROOT / "ollamad").rglob("*.py"))


def room_of(dotted: str) -> str | None:
    """`ollamad.config.schema` -> `config.schema`, `ollamad.store.blobs` -> `store`; None for the package itself."""
    parts = dotted.split(".")[1:]
    if not parts:
        return None
    two = ".".join(parts[:2])
    return two if two in FLOORS else parts[0]


def imported(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            module = node.module or ""
            yield module
            yield from (f"{module}.{alias.name}" for alias in node.names if module == "ollamad")


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_go_down(path: Path) -> None:
    """A module imports its own room and rooms on lower floors, nothing else of ours."""
    dotted = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    room = room_of(dotted)
    if room is None:
        return
    for name in imported(path):
        if not name.startswith("ollamad."):
            assert not name.startswith("ollamad_"), f"{path} names a plugin: {name}"
            continue
        other = room_of(name)
        if other is None or other == room or other.startswith("__") or other in ("OLLAMA_VERSION",):
            continue
        same_package = other.split(".")[0] == room.split(".")[0]
        assert same_package or FLOORS[other] < FLOORS[room], f"{dotted} (floor {FLOORS[room]}) imports {name}"


def test_every_room_has_a_floor() -> None:
    """A new room is given a floor before it is imported."""
    rooms = {room_of(".".join(p.relative_to(ROOT).with_suffix("").parts)) for p in modules()}
    assert {room for room in rooms if room not in ("__init__", None)} <= set(FLOORS)


@pytest.mark.parametrize("path", sorted((ROOT / "plugins").rglob("*.py")), ids=lambda path: path.name)
def test_plugins_use_the_public_door(path: Path) -> None:
    """A plugin in `plugins/` imports `ollamad.plugin` and its own package, nothing else of ours."""
    own = path.relative_to(ROOT / "plugins").parts[0]
    for name in imported(path):
        if name == "ollamad" or name.startswith("ollamad."):
            assert name == "ollamad.plugin", f"{path} imports {name}"
        elif name.startswith("ollamad_"):
            assert name.split(".")[0] == own, f"{path} imports {name}"


def test_the_daemon_holds_no_native_code() -> None:
    """Importing the whole daemon brings in neither native engines nor what only children need."""
    code = (
        "import sys, ollamad.daemon.app, ollamad.cli.serve\n"
        f"bad = [m for m in sys.modules for f in {FORBIDDEN_IN_DAEMON!r} if m == f or m.startswith(f + '.')]\n"
        "print(bad)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert result.stdout.strip() == "[]"
