"""Children for one task."""

import asyncio
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from own_children import own_children

from ollamad.errors import JobFailed, JobTimedOut
from ollamad.jobs.job import Jobs

HERE = Path(__file__).parent


@pytest.fixture
def jobs() -> Jobs:
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(HERE), "NOTIFY_SOCKET": "/run/notify"}
    return Jobs(environment, kinds={"test": "job_kinds"})


def run(jobs: Jobs, what: str, **more: Any) -> Any:
    arguments = {"what": what, **more.pop("arguments", {})}
    return jobs.run("test", arguments, timeout_s=more.pop("timeout_s", 20.0), **more)


async def test_a_job_brings_its_result_and_its_progress(jobs: Jobs) -> None:
    """Arguments go in, progress and the result come out; the child is modest, and sees allowed variables only."""
    seen: list[tuple[float, str]] = []
    value = {"deep": [1, None, "ü" * 100_000]}
    result = await run(jobs, "echo", arguments={"value": value}, progress=lambda *what: seen.append(what))
    assert result["got"] == value
    assert seen == [(0.5, "half")]
    assert result["niceness"] >= 10
    assert result["core"] == [0, 0]
    assert "NOTIFY_SOCKET" not in result["environment"]
    assert own_children() == []


@pytest.mark.parametrize(
    ("what", "text", "crashed"),
    [
        ("fail", "the test job failed: ValueError: cannot open sha256-1", False),
        ("leave", "the test job ended without a result: error: giving up on file", False),
        ("crash", "the test job ended without a result: GGML_ASSERT(n > 0) failed", True),
        ("segfault", "the test job ended without a result: signal: segmentation fault", True),
        ("flat", "the test job answered with something else than a result", False),
        ("missing", "the test job failed: KeyError: 'missing'", False),
    ],
)
async def test_a_job_that_fails_says_why(jobs: Jobs, what: str, text: str, crashed: bool) -> None:
    """The error has the child's last words and no path, and tells a crash from an exit."""
    with pytest.raises(JobFailed) as caught:
        await run(jobs, what)
    assert (str(caught.value), caught.value.crashed) == (text, crashed)
    assert own_children() == []


@pytest.mark.parametrize(
    "text",
    [
        "no json\n",
        "[" * 50_000 + "\n",
        "[1]\n",
        '{"fraction":1}\n',
        '{"fraction":"1","text":""}\n',
        "7\n",
        '"result"\n',
    ],
    ids=lambda text: text[:20].strip(),
)
async def test_an_answer_that_is_none_is_a_failure(jobs: Jobs, text: str) -> None:
    """What a child writes is checked; garbage ends the job, not the daemon."""
    with pytest.raises(JobFailed, match="cannot be read"):
        await run(jobs, "scribble", arguments={"text": text})


async def test_a_job_has_a_time_limit(jobs: Jobs) -> None:
    """When the time is up the child is killed and reaped."""
    with pytest.raises(JobTimedOut, match=r"longer than 0.4 s"):
        await run(jobs, "hang", timeout_s=0.4)
    assert own_children() == []


async def test_a_cancelled_job_ends_at_once(jobs: Jobs) -> None:
    """Cancelling the caller kills the child, even one that ignores signals, within a second."""
    working = asyncio.Event()
    task = asyncio.get_running_loop().create_task(run(jobs, "hang", progress=lambda *_: working.set()))
    await working.wait()
    assert len(own_children()) == 1
    started = time.monotonic()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert time.monotonic() - started < 1
    assert own_children() == []


async def test_a_job_has_a_memory_limit(jobs: Jobs) -> None:
    """More memory than allowed is an error inside the child."""
    with pytest.raises(JobFailed, match="MemoryError"):
        await run(jobs, "eat", memory_bytes=1024**3)


async def test_an_interpreter_that_is_not_there_is_a_failure(jobs: Jobs) -> None:
    """A job that cannot be started fails without a path."""
    with pytest.raises(JobFailed, match=r"^the test job cannot be started: No such file or directory$"):
        await run(jobs, "echo", interpreter="/nowhere/python")


async def test_a_job_dies_with_the_daemon() -> None:
    """After kill -9 of the process that runs it, a job that hangs is gone within a second."""
    code = (
        "import asyncio\nfrom ollamad.jobs.job import Jobs\n"
        f"jobs = Jobs({{'PYTHONPATH': {str(HERE)!r}}}, kinds={{'test': 'job_kinds'}})\n"
        "tell = lambda fraction, text: print(text, flush=True)\n"
        "asyncio.run(jobs.run('test', {'what': 'hang'}, timeout_s=60, progress=tell))\n"
    )
    daemon = await asyncio.create_subprocess_exec(sys.executable, "-c", code, stdout=asyncio.subprocess.PIPE)
    assert daemon.stdout is not None
    async with asyncio.timeout(20):
        pid = int(await daemon.stdout.readline())
    os.kill(daemon.pid, signal.SIGKILL)
    await daemon.wait()
    deadline = time.monotonic() + 1
    while lives(pid):
        assert time.monotonic() < deadline
        await asyncio.to_thread(os.sched_yield)


def lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False
