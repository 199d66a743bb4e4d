"""Runners are started, or say why not."""

import asyncio
import logging
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from ollamad.errors import LoadFailed, LoadTimedOut, OutOfMemory
from ollamad.runner.host import RunnerHost
from ollamad.wire.messages import LoadSpec, Progress

SECOND = 1_000_000_000


async def test_a_runner_that_loads_is_ready(hosts: Any) -> None:
    """Start returns a connection with what the runner reported, and the runner answers."""
    connection = await hosts.start()
    assert connection.ready.ctx_len == 4096
    assert (await connection.ping()).running == 0
    assert not connection.closed.is_set()


@pytest.mark.parametrize(
    ("how", "kind", "permanent", "text"),
    [
        ("reject", LoadFailed, True, "exit status 3: bad magic in sha256-1"),
        ("reject-silently", LoadFailed, True, "exit status 3: error loading model: sha256-1: unknown architecture"),
        ("memory", OutOfMemory, False, "llama-server reported out-of-memory during startup: needs 9 GiB"),
        (
            "memory-words",
            OutOfMemory,
            False,
            "llama-server reported out-of-memory during startup: cudaMalloc failed: out of memory",
        ),
        ("broken", LoadFailed, False, "exit status 7: Error: Error: something broke in file.py"),
        ("quiet-exit", LoadFailed, False, "OK"),
        ("abort", LoadFailed, False, "signal: aborted"),
        ("segfault", LoadFailed, False, "signal: segmentation fault"),
        ("garbage", LoadFailed, False, "no frame of ours: length 1213486160, flags 47"),
        ("hang-up", LoadFailed, False, "it closed its connection"),
    ],
)
async def test_a_load_that_fails_says_why(
    hosts: Any, how: str, kind: type[LoadFailed], permanent: bool, text: str
) -> None:
    """The error has the contract's words, the status and the captured error, and no path; no child is left."""
    with pytest.raises(LoadFailed) as caught:
        await hosts.make().start(LoadSpec(how, ()))
    expected = text if kind is OutOfMemory else f"llama-server process has terminated: {text}"
    assert (type(caught.value), caught.value.permanent, str(caught.value)) == (kind, permanent, expected)
    assert hosts.children() == []


async def test_an_interpreter_that_is_not_there_is_a_failed_load(hosts: Any) -> None:
    """A runner that cannot be started at all is a LoadFailed without a path."""
    with pytest.raises(LoadFailed, match=r"^error starting llama-server: No such file or directory$"):
        await hosts.make(interpreters={"ok": "/nowhere/python"}).start(LoadSpec("ok", ()))


async def test_silence_in_a_load_times_out(hosts: Any) -> None:
    """A load without a sign of life is killed after the stall time-out, with the last captured error in the text."""
    with pytest.raises(LoadTimedOut, match=r"^timed out waiting for llama-server to start - error: still thinking$"):
        await hosts.make().start(LoadSpec("hang", ()), stall_timeout_ns=SECOND)
    assert hosts.children() == []


async def test_signs_of_life_keep_a_load_going(hosts: Any) -> None:
    """Loads go on for longer than the stall time-out as long as they print or report."""
    seen: list[Progress] = []
    loop = asyncio.get_running_loop()
    started = time.monotonic()
    loads = [
        loop.create_task(hosts.make().start(LoadSpec(how, ()), progress=seen.append, stall_timeout_ns=SECOND))
        for how in ("chatty", "progress")
    ]
    hosts.connections += await asyncio.gather(*loads)
    assert time.monotonic() - started > 1
    assert [one.fraction for one in seen] == [step / 8 for step in range(8)]


@pytest.mark.parametrize("stall_timeout_ns", [None, 0, -1])
async def test_a_cancelled_load_leaves_no_child(hosts: Any, stall_timeout_ns: int | None) -> None:
    """When the last waiter leaves, the loading child is killed and reaped at once; without a limit it would wait."""
    task = asyncio.get_running_loop().create_task(
        hosts.make().start(LoadSpec("hang", ()), stall_timeout_ns=stall_timeout_ns)
    )
    await hosts.until(lambda: bool(hosts.children()))
    started = time.monotonic()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert time.monotonic() - started < 1
    assert hosts.children() == []


async def test_a_grandchild_dies_with_its_runner(hosts: Any) -> None:
    """What a runner started itself is killed with it."""
    connection = await hosts.start("grandchild")
    (runner,) = hosts.children()
    (grandchild,) = _children(runner)
    await connection.stop()
    await hosts.until(lambda: _gone(grandchild))


def _gone(pid: int) -> bool:
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return True
    return status.rpartition(")")[2].split()[0] == "Z"


async def test_a_runner_sees_only_allowed_variables(hosts: Any) -> None:
    """The environment of a runner is an allow-list: no keys, no socket of the service manager."""
    host = hosts.make(NOTIFY_SOCKET="/run/notify", OLLAMA_API_KEY="secret", CUDA_VISIBLE_DEVICES="0", FAKE_X="1")
    with pytest.raises(LoadFailed) as caught:
        await host.start(LoadSpec("environment", ()))
    for name in ("CUDA_VISIBLE_DEVICES", "FAKE_X", "GGML_NO_BACKTRACE", "OMP_WAIT_POLICY", "PATH"):
        assert f"'{name}'" in str(caught.value)
    for name in ("NOTIFY_SOCKET", "OLLAMA_API_KEY"):
        assert name not in str(caught.value)


async def test_the_command_tells_the_child_where_and_for_whom(spawn: Any, tmp_path: Path) -> None:
    """The child gets descriptor, store, parent and extra plugins on its command line."""
    host = RunnerHost(spawn, tmp_path, ["a:b", "c"], "/py", environment={})
    assert host._command("/py", 9) == [
        *("/py", "-P", "-m", "ollamad.runner_child", "--fd", "9"),
        *("--store", str(tmp_path), "--parent", str(os.getpid())),
        *("--plugin-extra", "a:b", "--plugin-extra", "c"),
    ]


async def test_what_a_runner_prints_is_logged_at_debug(hosts: Any, caplog: pytest.LogCaptureFixture) -> None:
    """Each line of output goes to the log when debugging."""
    with caplog.at_level(logging.DEBUG, logger="ollamad.runner"):
        await hosts.start("says")
    assert "just so" in [getattr(record, "line", "") for record in caplog.records]


async def test_children_die_with_the_daemon(hosts: Any, tmp_path: Path) -> None:
    """After kill -9 of the process that started it, a runner in an endless load is gone within a second."""
    code = (
        "import asyncio, sys\nfrom pathlib import Path\nfrom ollamad.runner.host import RunnerHost\n"
        "from ollamad.wire.messages import LoadSpec\n"
        "async def main():\n"
        "    loop = asyncio.get_running_loop()\n"
        "    host = RunnerHost(lambda work, name: loop.create_task(work), Path('.'),\n"
        f"        environment={{'PYTHONPATH': {str(Path(__file__).parent)!r}}}, module='scripted_runner')\n"
        "    await host.start(LoadSpec('hang', ()))\n"
        "asyncio.run(main())\n"
    )
    daemon = await asyncio.create_subprocess_exec(sys.executable, "-c", code, cwd=tmp_path)
    await hosts.until(lambda: any(map(_in_its_load, _children(daemon.pid))), 10)
    (runner,) = _children(daemon.pid)
    os.kill(daemon.pid, signal.SIGKILL)
    await daemon.wait()
    await hosts.until(lambda: _gone(runner), 1)


def _children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def _in_its_load(pid: int) -> bool:
    """The scripted runner renames itself there."""
    return "hanging" in Path(f"/proc/{pid}/comm").read_text()
