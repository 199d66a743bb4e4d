"""The lock between daemons and between threads."""

import subprocess
import sys
import threading
from pathlib import Path

import pytest

from ollamad.errors import StoreError
from ollamad.store import FileLock

HOLDER = """
import sys
from pathlib import Path
from ollamad.store.lock import FileLock
with FileLock(Path(sys.argv[1])).hold():
    print("held", flush=True)
    sys.stdin.read()
"""


def test_another_process_is_kept_out(tmp_path: Path) -> None:
    """While another process has the lock a try fails at once; when it is killed the lock is free."""
    path = tmp_path / "state" / "lock"
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        with FileLock(path).try_hold() as held:
            assert not held
        other.kill()
        other.wait()
        with FileLock(path).hold(), FileLock(path).try_hold() as held:
            assert not held


def test_two_locks_of_one_file_exclude_each_other(tmp_path: Path) -> None:
    """Two stores over one lock file in one process exclude each other, too; each may be taken again by its holder."""
    first, second = FileLock(tmp_path / "lock"), FileLock(tmp_path / "lock")
    with first.hold(), first.hold(), first.try_hold() as again, second.try_hold() as other:
        assert (again, other) == (True, False)
    with second.try_hold() as free:
        assert free


def test_threads_wait_for_each_other(tmp_path: Path) -> None:
    """A thread gets the lock only when the other thread gave it back."""
    lock = FileLock(tmp_path / "lock")
    order: list[str] = []
    started = threading.Event()

    def second() -> None:
        started.set()
        with lock.hold():
            order.append("second")

    with lock.hold():
        thread = threading.Thread(target=second)
        thread.start()
        started.wait(5)
        order.append("first")
    thread.join(5)
    assert order == ["first", "second"]


def test_a_lock_that_cannot_be_opened(tmp_path: Path) -> None:
    """A state directory that is a file is a `StoreError` without a path."""
    (tmp_path / "state").write_bytes(b"")
    with pytest.raises(StoreError) as caught, FileLock(tmp_path / "state" / "lock").hold():
        pass
    assert str(tmp_path) not in str(caught.value)
