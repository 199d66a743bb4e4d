"""A child process from its start to its reaping."""

import asyncio
import os
import sys
import time
from pathlib import Path

import pytest

from ollamad.children.process import ChildProcess

WAIT = "import threading; threading.Event().wait()"


@pytest.fixture(params=["pidfd", "thread"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both ways of learning of an end: the kernel's, and the one for systems without it."""
    if request.param == "thread":
        monkeypatch.delattr(os, "pidfd_open")
    return str(request.param)


def start(code: str, **more: object) -> ChildProcess:
    return ChildProcess([sys.executable, "-c", code], environment={}, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("code", "returncode", "text"),
    [
        ("", 0, "OK"),
        ("raise SystemExit(3)", 3, "exit status 3"),
        ("import os; os.abort()", -6, "signal: aborted"),
        ("import os; os.kill(os.getpid(), 9)", -9, "signal: killed"),
    ],
)
async def test_an_end_is_told(way: str, code: str, returncode: int, text: str) -> None:
    """The status comes with `exited`, once, and has Go's text."""
    calls: list[int | None] = []
    child = start(code, on_exit=lambda: calls.append(child.returncode))
    assert child.status_text == "unknown"
    assert await child.wait(10)
    assert (child.returncode, child.status_text, calls) == (returncode, text, [returncode])
    child.kill()


async def test_all_output_is_there_at_the_end(way: str) -> None:
    """Both streams are read, to the last byte, before the end is told."""
    lines: list[str] = []
    child = start(
        "import sys\nfor n in range(20000): print('line', n)\nsys.stdout.flush()\nsys.stderr.write('error: last')",
        on_line=lines.append,
    )
    assert await child.wait(10)
    assert lines[0] == "line 0"
    assert lines[-2:] == ["line 19999", "error: last"]
    assert child.output.last_error == "error: last"


async def test_a_kill_takes_the_whole_group(way: str) -> None:
    """What the child started dies with it, and keeps nobody waiting."""
    heard = asyncio.Event()
    child = start(f"import os; pid = os.fork(); pid and print(pid, flush=True); {WAIT}", on_output=heard.set)
    async with asyncio.timeout(10):
        await heard.wait()
    child.kill()
    assert await child.wait(5)
    assert child.returncode == -9
    grandchild = int(child.output.tail)
    deadline = time.monotonic() + 5
    while _lives(grandchild):
        assert time.monotonic() < deadline
        await asyncio.to_thread(os.sched_yield)


async def test_a_grandchild_does_not_outlive_a_child_that_ends(way: str) -> None:
    """A child that exits and leaves another behind, which holds the output open, is still seen to end."""
    child = start("import os, threading\nif os.fork() == 0: threading.Event().wait()")
    assert await child.wait(10)
    assert child.returncode == 0


def _lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


async def test_waiting_has_a_limit(way: str) -> None:
    """A wait that is too short says so and changes nothing."""
    child = start(WAIT)
    assert not await child.wait(0.01)
    assert child.returncode is None
    child.kill()
    assert await child.wait(5)


async def test_a_child_has_no_input_and_a_session_of_its_own(way: str) -> None:
    """Standard input is empty, the session is its own, the environment is what was given."""
    child = start("import os, sys; print(sys.stdin.read() == '', os.getsid(0) == os.getpid(), len(os.environ) <= 1)")
    assert await child.wait(10)
    assert child.output.tail == "True True True\n"


async def test_what_cannot_be_started_raises() -> None:
    """A program that is not there is an OSError, and no descriptor stays open."""
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(FileNotFoundError):
        ChildProcess(["/nowhere"], environment={})
    assert len(os.listdir("/proc/self/fd")) == before


async def test_no_descriptor_is_left_behind(way: str) -> None:
    """A child that came and went costs nothing."""
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        assert await start("").wait(10)
    assert len(os.listdir("/proc/self/fd")) == before
