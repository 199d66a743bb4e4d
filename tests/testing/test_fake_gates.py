"""Gates in this process and from another one."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from ollamad.plugin.backend import BackendError, KVCacheFull
from ollamad.testing.fake_gates import Gates


def wait_for(path: Path) -> None:
    deadline = time.monotonic() + 5
    while not path.exists():
        assert time.monotonic() < deadline, f"{path.name} never appeared"
        time.sleep(0.001)


def test_an_open_gate_holds_nobody() -> None:
    """Points that nobody closed are passed at once."""
    gates = Gates()
    gates.enter("decode")
    assert not gates.wait_reached("decode", 0)


def test_errors_are_raised_once_each() -> None:
    """Given errors are raised in order, then the point is free again."""
    gates = Gates()
    gates.raise_next("decode", KVCacheFull(), BackendError("lost"))
    with pytest.raises(KVCacheFull):
        gates.enter("decode")
    with pytest.raises(BackendError):
        gates.enter("decode")
    gates.enter("decode")


def test_a_file_holds_until_it_is_gone(tmp_path: Path) -> None:
    """``hold-POINT`` stops whoever comes, and ``reached-POINT`` tells that someone did."""
    (tmp_path / "hold-decode").touch()
    thread = threading.Thread(target=Gates(tmp_path).enter, args=("decode",))
    thread.start()
    wait_for(tmp_path / "reached-decode")
    assert thread.is_alive()
    (tmp_path / "hold-decode").unlink()
    thread.join(5)
    assert not thread.is_alive()
    assert not (tmp_path / "reached-decode").exists()


def test_a_file_slows(tmp_path: Path) -> None:
    """``slow-POINT`` adds its seconds."""
    (tmp_path / "slow-load").write_text("0.02")
    start = time.monotonic()
    Gates(tmp_path).enter("load")
    assert time.monotonic() - start >= 0.02


def test_a_file_kills(tmp_path: Path) -> None:
    """``crash-POINT`` ends the process at once, with status 9."""
    (tmp_path / "crash-decode").touch()
    script = "import sys, pathlib; from ollamad.testing.fake_gates import Gates; "
    script += "Gates(pathlib.Path(sys.argv[1])).enter('decode')"
    assert subprocess.run([sys.executable, "-c", script, str(tmp_path)], check=False).returncode == 9
