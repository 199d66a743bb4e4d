"""Two strangers' packages, installed offline into a virtual environment of their own, and used over HTTP."""

import hashlib
import shutil
import struct
import subprocess
import sys
import sysconfig
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

PACKAGES = Path(__file__).resolve().parents[1] / "plugins"


def gguf(architecture: str) -> bytes:
    """A file of the GGUF format that holds a name and no tensor."""

    def text(value: str) -> bytes:
        return struct.pack("<Q", len(value)) + value.encode()

    keys = text("general.architecture") + struct.pack("<I", 8) + text(architecture)
    return b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + keys + bytes(32)


@pytest.fixture(scope="module")
def strangers(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The Python of an environment with both packages; it sees the dependencies through a `.pth` file."""
    home = tmp_path_factory.mktemp("strangers")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", home / "venv"], check=True)
    python = home / "venv" / "bin" / "python"
    code = "import sysconfig; print(sysconfig.get_paths()['purelib'])"
    own = subprocess.run([python, "-c", code], check=True, capture_output=True, text=True).stdout.strip()
    ours = sysconfig.get_paths()["purelib"]
    (Path(own) / "dependencies.pth").write_text(f"import site; site.addsitedir({ours!r})\n")
    for name in ("echo_backend", "greeting_frontend"):
        shutil.copytree(PACKAGES / name, home / name)
        command = [sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-index", "--no-deps"]
        subprocess.run([*command, "--no-build-isolation", "--no-cache-dir", home / name], check=True)
    return str(python)


def test_strangers_serve_beside_ours(strangers: str, make_daemon: Callable[..., Any]) -> None:
    """A stranger's backend runs its model and a stranger's frontend answers, through the door that ours use."""
    daemon = make_daemon(python=strangers).start()
    status, body = daemon.get("/greeting/demo")
    assert (status, body) == (200, b"I am demo, the tiny model that ships with ollamad.")
    assert daemon.get("/greeting/nobody")[0] == 404

    model = gguf("echo")
    digest = f"sha256:{hashlib.sha256(model).hexdigest()}"
    assert daemon.request("POST", f"/api/blobs/{digest}", model)[0] == 201
    created = daemon.json("POST", "/api/create", {"model": "parrot", "files": {"e.gguf": digest}, "stream": False})
    assert created == {"status": "success"}
    answer = daemon.json("POST", "/api/generate", {"model": "parrot", "prompt": "hé ho", "raw": True, "stream": False})
    assert answer["response"] == "hé ho"
    assert (answer["prompt_eval_count"], answer["done_reason"]) == (6, "stop")


@pytest.mark.parametrize("package", ["echo_backend/ollamad_echo.py", "greeting_frontend/ollamad_greeting.py"])
def test_a_plugin_is_less_than_a_hundred_lines(package: str) -> None:
    """Writing a plugin is a small thing."""
    assert len((PACKAGES / package).read_text().splitlines()) < 100
