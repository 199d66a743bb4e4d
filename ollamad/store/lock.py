"""The advisory lock that keeps two daemons from changing one store at the same moment."""

from __future__ import annotations

import fcntl
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ollamad.store.paths import disk_errors


class FileLock:
    """``flock`` on a file of the state directory; the kernel frees it when its process dies.

    Also excludes the threads of this process from each other, and may be taken again by the
    thread that has it.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._threads = threading.RLock()
        self._depth = 0
        self._descriptor = -1

    @contextmanager
    def hold(self) -> Iterator[None]:
        """Have the lock inside; waits for it.

        Raises:
            StoreError: The lock file cannot be opened.
        """
        with self._threads:
            self._enter(0)
            try:
                yield
            finally:
                self._leave()

    @contextmanager
    def try_hold(self) -> Iterator[bool]:
        """Have the lock inside, or get False at once because another process has it."""
        with self._threads:
            try:
                self._enter(fcntl.LOCK_NB)
            except BlockingIOError:
                yield False
                return
            try:
                yield True
            finally:
                self._leave()

    def _enter(self, flags: int) -> None:
        if self._depth == 0:
            with disk_errors("store lock"):
                self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | flags)
            except BaseException:
                os.close(descriptor)
                raise
            self._descriptor = descriptor
        self._depth += 1

    def _leave(self) -> None:
        self._depth -= 1
        if self._depth == 0:
            os.close(self._descriptor)
            self._descriptor = -1
