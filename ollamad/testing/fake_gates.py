"""Gates that hold, slow, fail or kill a fake at a named point, from this process or from another one.

Points: ``load context decode sample embed stop``. From the same process, `Gates.close` and `Gates.open`;
from another, files in a directory:

=================  ============================================================
``hold-POINT``     wait there until the file is gone; ``reached-POINT`` appears
``slow-POINT``     wait there for the seconds that the file holds
``crash-POINT``    end the process with status 9, as after a native abort
``fail-POINT``     raise `BackendError` with the file's text
``reject-POINT``   raise `ModelRejected` with the file's text
``oom-POINT``      raise `BackendOutOfMemory` with the file's text
``full-POINT``     raise `KVCacheFull`
=================  ============================================================
"""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

from ollamad.plugin.backend import BackendError, BackendOutOfMemory, KVCacheFull, ModelRejected

_POLL_S = 0.001
_RAISED: dict[str, type[Exception]] = {
    "fail": BackendError,
    "reject": ModelRejected,
    "oom": BackendOutOfMemory,
    "full": KVCacheFull,
}


class _Gate:
    def __init__(self) -> None:
        self.opened = threading.Event()
        self.opened.set()
        self.reached = threading.Event()


class Gates:
    """All gates of one fake; every one is open at first."""

    def __init__(self, directory: Path | None = None) -> None:
        self._directory = directory
        self._gates: dict[str, _Gate] = {}
        self._errors: dict[str, list[Exception]] = {}
        self._lock = threading.Lock()

    def close(self, point: str) -> None:
        """From now on, whoever comes to *point* waits."""
        gate = self._gate(point)
        gate.reached.clear()
        gate.opened.clear()

    def open(self, point: str) -> None:
        """Let whoever waits go on."""
        self._gate(point).opened.set()

    def wait_reached(self, point: str, timeout_s: float = 5.0) -> bool:
        """Wait until someone stands at a closed gate; False if nobody came."""
        return self._gate(point).reached.wait(timeout_s)

    def raise_next(self, point: str, *errors: Exception) -> None:
        """Raise *errors* at *point*, one for each time it is passed."""
        self._errors.setdefault(point, []).extend(errors)

    def enter(self, point: str) -> None:
        """The fake came to *point*."""
        gate = self._gates.get(point)
        if gate is not None and not gate.opened.is_set():
            gate.reached.set()
            gate.opened.wait()
        if self._directory is not None:
            self._obey_files(point, self._directory)
        if self._errors.get(point):
            raise self._errors[point].pop(0)

    def _gate(self, point: str) -> _Gate:
        with self._lock:
            return self._gates.setdefault(point, _Gate())

    def _obey_files(self, point: str, directory: Path) -> None:
        if (directory / f"crash-{point}").exists():
            os._exit(9)
        slow = directory / f"slow-{point}"
        if slow.exists():
            time.sleep(float(slow.read_text() or "1"))
        hold = directory / f"hold-{point}"
        if hold.exists():
            reached = directory / f"reached-{point}"
            reached.touch()
            while hold.exists():
                time.sleep(_POLL_S)
            reached.unlink(missing_ok=True)
        for action, error in _RAISED.items():
            file = directory / f"{action}-{point}"
            if file.exists():
                raise error(file.read_text().strip() or f"{action} {point}")
