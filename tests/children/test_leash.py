"""What a child does to itself."""

import os
import signal
import subprocess
import sys

HOLD = "import os, sys, threading; from ollamad.children.leash import die_with, limit; "


def run(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", HOLD + code], capture_output=True, text=True, timeout=20, check=False)


def test_a_child_of_somebody_else_ends_at_once() -> None:
    """A child whose parent died before the leash was on does not stay."""
    result = run("die_with(1); print('still here')")
    assert (result.returncode, result.stdout) == (1, "")


def test_a_child_dies_with_its_parent() -> None:
    """After kill -9 of the parent the child is gone: its end of a pipe closes."""
    reader, writer = os.pipe()
    parent = (
        "import subprocess, sys, os\n"
        f"code = {HOLD!r} + 'die_with(%d); os.write({writer}, b\"1\"); threading.Event().wait()' % os.getpid()\n"
        f"subprocess.Popen([sys.executable, '-c', code], pass_fds=({writer},))\n"
        f"os.close({writer})\n"
        "sys.stdin.read()\n"
    )
    process = subprocess.Popen([sys.executable, "-c", parent], pass_fds=(writer,), stdin=subprocess.PIPE)
    os.close(writer)
    try:
        assert os.read(reader, 1) == b"1"
        process.send_signal(signal.SIGKILL)
        assert os.read(reader, 1) == b""
    finally:
        os.close(reader)
        process.kill()
        process.communicate()


def test_limits_hold() -> None:
    """No core file, bounded address space, and a nicer process."""
    result = run(
        "import resource; limit(memory_bytes=1 << 31, niceness=3); "
        "print(resource.getrlimit(resource.RLIMIT_CORE), resource.getrlimit(resource.RLIMIT_AS)[0], os.nice(0) >= 3)\n"
        "try: bytearray(1 << 31)\nexcept MemoryError: print('refused')"
    )
    assert result.stdout == f"(0, 0) {1 << 31} True\nrefused\n", result.stderr
