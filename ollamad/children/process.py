"""One child process: started from the main thread, its output read for ever, killed as a group, reaped."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress

from ollamad.children.last_words import LastWords

_READ_BYTES = 64 * 1024
#: How much is still read from the pipe of a child that has ended; what it wrote fits into a pipe's 64 KiB.
_FINAL_READS = 16


class ChildProcess:
    """A running or ended child. ``returncode`` is None until `exited` is set, negative for a signal.

    Nothing here waits in a thread where the kernel has pidfds, so the child's id cannot be
    reused between its end and our `kill`.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        environment: Mapping[str, str],
        pass_fds: Sequence[int] = (),
        on_output: Callable[[], None] | None = None,
        on_line: Callable[[str], None] | None = None,
        on_exit: Callable[[], None] | None = None,
    ) -> None:
        """Start *command*; stdin is empty, stdout and stderr are one stream to us, the session is its own.

        `on_output` is called at each sign of life on the output, `on_line` with each line, `on_exit` once it
        is reaped and all its output was read.

        Raises:
            OSError: It cannot be started.

        Runs in: main thread, or the parent-death signal would follow another thread's end.
        """
        assert threading.current_thread() is threading.main_thread()
        self.exited = asyncio.Event()
        self.returncode: int | None = None
        self.output = LastWords(on_line)
        self._on_output = on_output
        self._on_exit = on_exit
        self._loop = asyncio.get_running_loop()
        self._out, theirs = os.pipe2(os.O_CLOEXEC) if hasattr(os, "pipe2") else os.pipe()
        try:
            self._popen = subprocess.Popen(
                list(command),
                stdin=subprocess.DEVNULL,
                stdout=theirs,
                stderr=subprocess.STDOUT,
                env=dict(environment),
                pass_fds=tuple(pass_fds),
                start_new_session=True,
            )
        except BaseException:
            os.close(self._out)
            raise
        finally:
            os.close(theirs)
        self.pid = self._popen.pid
        os.set_blocking(self._out, False)
        self._loop.add_reader(self._out, self._read_output)
        self._watch_exit()

    def kill(self) -> None:
        """SIGKILL the child and all that it started in its session. Safe at any time."""
        if self.returncode is None:
            with suppress(ProcessLookupError):  # the whole group is already dead, only not reaped
                os.killpg(self.pid, signal.SIGKILL)

    async def wait(self, timeout_s: float | None = None) -> bool:
        """Wait until it has ended and is reaped; False if that took longer than *timeout_s*."""
        try:
            async with asyncio.timeout(timeout_s):
                await self.exited.wait()
        except TimeoutError:
            return False
        return True

    @property
    def status_text(self) -> str:
        """``exit status N``, ``OK``, ``signal: killed`` or ``unknown``, as Go prints the end of a process."""
        if self.returncode is None:
            return "unknown"
        if self.returncode < 0:
            return f"signal: {(signal.strsignal(-self.returncode) or str(-self.returncode)).lower()}"
        return f"exit status {self.returncode}" if self.returncode else "OK"

    def _watch_exit(self) -> None:
        try:
            descriptor = os.pidfd_open(self.pid)
        except (AttributeError, OSError):  # no such call: macOS, old kernels, strict seccomp filters
            threading.Thread(target=self._wait_in_thread, name=f"wait-{self.pid}", daemon=True).start()
            return

        def ended() -> None:
            self._loop.remove_reader(descriptor)
            os.close(descriptor)
            self._reap()

        self._loop.add_reader(descriptor, ended)

    def _wait_in_thread(self) -> None:
        os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOWAIT)
        with suppress(RuntimeError):  # the loop was closed: nobody is left to be told
            self._loop.call_soon_threadsafe(self._reap)

    def _reap(self) -> None:
        self.kill()  # what it left behind in its group; its own id is ours until `wait`
        self.returncode = self._popen.wait()
        for _ in range(_FINAL_READS):
            if not self._read_output():
                break
        self._close_output()
        self.output.end()
        self.exited.set()
        if self._on_exit is not None:
            self._on_exit()

    def _read_output(self) -> bool:
        """Take what the pipe holds; False at its end or when it is empty."""
        if self._out < 0:
            return False
        try:
            data = os.read(self._out, _READ_BYTES)
        except BlockingIOError:
            return False
        if not data:
            self._close_output()
            return False
        self.output.feed(data)
        if self._on_output is not None:
            self._on_output()
        return True

    def _close_output(self) -> None:
        if self._out >= 0:
            self._loop.remove_reader(self._out)
            os.close(self._out)
            self._out = -1
