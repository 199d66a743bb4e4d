"""Where runners are started: on this host. Another host would be another class with the same `start`."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from ollamad.children.environment import child_environment
from ollamad.runner.connection import BEAT_S, Connection
from ollamad.runner.process import RunnerProcess
from ollamad.runner.stream import Limits
from ollamad.types import Spawn
from ollamad.wire.messages import LoadSpec, Progress


class RunnerHost:
    """Starts one child process per loaded model."""

    def __init__(
        self,
        spawn: Spawn,
        store_root: Path,
        plugin_extra: Sequence[str] = (),
        python: str | None = None,
        *,
        environment: Mapping[str, str],
        interpreters: Mapping[str, str] | None = None,
        log: logging.Logger | None = None,
        limits: Limits | None = None,
        beat_s: float = BEAT_S,
        module: str = "ollamad.runner_child",
    ) -> None:
        """*environment* is the daemon's own; a child gets the allowed part. *module* is what the child runs.

        *interpreters* maps a backend's name to its own Python; all others run with *python*, by default ours.
        """
        self._spawn = spawn
        self._store_root = store_root.absolute()
        self._plugin_extra = tuple(plugin_extra)
        self._python = python or sys.executable
        self._interpreters = dict(interpreters or {})
        self._environment = child_environment(environment)
        self._log = log or logging.getLogger("ollamad.runner")
        self._limits = limits
        self._beat_s = beat_s
        self._module = module

    async def start(
        self,
        spec: LoadSpec,
        *,
        progress: Callable[[Progress], None] | None = None,
        stall_timeout_ns: int | None = None,
    ) -> Connection:
        """Start a runner and wait until it has loaded *spec*.

        Args:
            progress: Called with each `Progress` of the load.
            stall_timeout_ns: Longest time without a sign of life; None, 0 or less means no limit.

        Raises:
            LoadFailed: It ended, refused the file (``permanent``), or could not be started.
            LoadTimedOut: It was silent for too long.
            OutOfMemory: Not enough memory.

        A caller that is cancelled leaves no child behind.
        """
        python = self._interpreters.get(spec.backend, self._python)
        process = RunnerProcess(
            lambda descriptor: self._command(python, descriptor),
            environment=self._environment,
            spawn=self._spawn,
            log=self._log,
            limits=self._limits,
            beat_s=self._beat_s,
        )
        return await process.start(spec, progress=progress, stall_timeout_ns=stall_timeout_ns)

    def _command(self, python: str, descriptor: int) -> list[str]:
        command = [python, "-P", "-m", self._module, "--fd", str(descriptor)]
        command += ["--store", str(self._store_root), "--parent", str(os.getpid())]
        for extra in self._plugin_extra:
            command += ["--plugin-extra", extra]
        return command
