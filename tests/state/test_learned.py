"""What loads took, over restarts."""

import json
import logging
from pathlib import Path

import pytest

from ollamad.state import LearnedMemory, State
from ollamad.types import Memory

KEY = ("sha256:a", 4096, 8, "q8_0", "cpu")
MEMORY = (Memory("cpu", "cpu", 100, 20, 3), Memory("cuda0", "cuda", 4, 5, 6))


def test_what_was_learned_outlives_the_daemon(tmp_path: Path) -> None:
    """The last value of each kind of load is known to the next daemon, exactly."""
    learned = LearnedMemory(State(tmp_path / "state"))
    assert learned.known() == {}
    learned.remember(KEY, MEMORY[:1])
    learned.remember(KEY, MEMORY)
    other = (*KEY[:3], "f16", "cpu")
    learned.remember(other, MEMORY[1:])
    assert LearnedMemory(State(tmp_path / "state")).known() == {KEY: MEMORY, other: MEMORY[1:]}


def test_nothing_new_writes_nothing(tmp_path: Path) -> None:
    """A load that took what it always takes does not touch the disk."""
    learned = LearnedMemory(State(tmp_path))
    learned.remember(KEY, MEMORY)
    before = next(tmp_path.iterdir()).stat()
    learned.remember(KEY, MEMORY)
    after = next(tmp_path.iterdir()).stat()
    assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)


def test_the_oldest_go_first(tmp_path: Path) -> None:
    """The file does not grow without limit."""
    learned = LearnedMemory(State(tmp_path))
    for number in range(600):
        learned._known[(f"sha256:{number}", 1, 1, "f16", "cpu")] = MEMORY
    learned.remember(KEY, MEMORY)
    known = LearnedMemory(State(tmp_path)).known()
    assert len(known) == 512
    assert KEY in known
    assert ("sha256:0", 1, 1, "f16", "cpu") not in known


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff",
        b"[]",
        b"{}",
        b'{"version":2,"loads":[]}',
        b'{"version":1,"loads":[{"load":["a"],"memory":[]}]}',
        b'{"version":1,"loads":[{"load":["a",1,1,"f16","cpu"],"memory":[["cpu","cpu",1,-1,1]]}]}',
        b'{"version":1,"loads":[{"load":["a",1,1,"f16","cpu"],"memory":[["cpu","cpu",1,"x",1]]}]}',
        b'{"version":1,"loads":3}',
    ],
)
def test_a_broken_file_is_an_empty_one(tmp_path: Path, data: bytes, caplog: pytest.LogCaptureFixture) -> None:
    """It is said once, and the next load writes a whole one."""
    state = State(tmp_path)
    state.write("learned-memory.json", data)
    with caplog.at_level(logging.WARNING):
        learned = LearnedMemory(state)
    assert len(caplog.records) == 1
    assert learned.known() == {}
    learned.remember(KEY, MEMORY)
    assert json.loads(state.read("learned-memory.json") or b"")["version"] == 1
    assert LearnedMemory(state).known() == {KEY: MEMORY}


def test_a_directory_that_cannot_be_written(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The daemon goes on with what it has in memory, and says so."""
    (tmp_path / "file").write_bytes(b"")
    learned = LearnedMemory(State(tmp_path / "file" / "state"))
    with caplog.at_level(logging.WARNING):
        learned.remember(KEY, MEMORY)
    assert "not kept" in caplog.text
    assert learned.known() == {KEY: MEMORY}
