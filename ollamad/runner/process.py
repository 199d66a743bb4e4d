"""One runner's life: stopped -> starting -> ready -> stopping -> stopped, or failed from anywhere.

Owns the child process and what its end means. The `Connection` that it makes is all that others see.
"""

from __future__ import annotations

import asyncio
import logging
import shlex
import socket
from collections.abc import Callable, Mapping, Sequence
from typing import Literal, TypeAlias

from ollamad.children.environment import loggable
from ollamad.children.last_words import is_out_of_memory, without_paths
from ollamad.children.process import ChildProcess
from ollamad.errors import LoadFailed, LoadTimedOut, OutOfMemory
from ollamad.metrics import counter
from ollamad.runner.connection import BEAT_S, Connection, LoadEvent
from ollamad.runner.stream import Limits
from ollamad.types import Spawn
from ollamad.wire.messages import Failed, Load, LoadSpec, Progress, Ready, Stop

State: TypeAlias = Literal["stopped", "starting", "ready", "stopping", "failed"]

#: Exit statuses by which a runner says why it could not load.
EXIT_REJECTED = 3
EXIT_OUT_OF_MEMORY = 4

#: How long the other one may take when either the child or its connection has ended.
_SETTLE_S = 1.0
_LOGGED_CHARACTERS = 2000

_STARTS = counter("ollamad_runner_starts_total", "Runners started, by what became of the load.", "result")
_DEATHS = counter("ollamad_runner_deaths_total", "Runners that ended although nobody asked them to, by cause.", "cause")


class RunnerProcess:
    """One child with one model. `start` is called once; the object is not used again after its end."""

    def __init__(
        self,
        command: Callable[[int], Sequence[str]],
        *,
        environment: Mapping[str, str],
        spawn: Spawn,
        log: logging.Logger,
        limits: Limits | None = None,
        beat_s: float = BEAT_S,
    ) -> None:
        """*command* makes the command line from the number of the descriptor that the child speaks on."""
        self.state: State = "stopped"
        self._command = command
        self._environment = environment
        self._spawn = spawn
        self._log = log
        self._loop = asyncio.get_running_loop()
        self._changed = asyncio.Event()
        self._wire_closed = asyncio.Event()
        self._wire_reason = ""
        self._loaded: asyncio.Future[Ready | Failed | None] = self._loop.create_future()
        self._progress: Callable[[Progress], None] | None = None
        self._alive_at = 0.0
        self._cause = ""
        self._abandoned = False
        self._killed = False
        self._child: ChildProcess | None = None
        self.connection = Connection(
            stop=self.stop,
            on_load=self._on_load,
            on_wire_closed=self._on_wire_closed,
            on_silent=self._on_silent,
            on_slow=self._on_slow,
            limits=limits,
            beat_s=beat_s,
        )

    async def start(
        self,
        spec: LoadSpec,
        *,
        progress: Callable[[Progress], None] | None = None,
        stall_timeout_ns: int | None = None,
    ) -> Connection:
        """Start the child and have it load *spec*.

        If the caller is cancelled, the child is killed and reaped.

        Raises:
            LoadFailed: It ended, refused the file (``permanent``), or could not be started.
            LoadTimedOut: No sign of life for *stall_timeout_ns* (None, 0 or less: no limit).
            OutOfMemory: It says so, or its last words do.
        """
        assert self.state == "stopped"
        self.state = "starting"
        self._progress = progress
        started = self._loop.time()
        result = "failed"
        try:
            child = await self._launch()
            self.connection.send(Load(spec))
            self.connection.ready = await self._until_ready(child, stall_timeout_ns)
            result = "ready"
        except asyncio.CancelledError:
            result = "cancelled"
            raise
        finally:
            self._progress = None
            _STARTS.add(1, result)
            if result != "ready":
                await self._abandon()
        if self.state == "starting":  # else it has ended, or was told to, since it said that it is ready
            self.state = "ready"
        self._log.info("llama-server started in %.2f seconds", self._loop.time() - started)
        child.output.forget_errors()
        return self.connection

    async def stop(self, grace_s: float) -> None:
        """See `Connection.stop`."""
        if self._child is None:
            return
        if self.state in ("starting", "ready"):
            self.state = "stopping"
            self.connection.send(Stop())
        if grace_s > 0:
            self._loop.call_later(grace_s, self._child.kill)
        else:
            self._child.kill()
        await self.connection.closed.wait()

    async def _launch(self) -> ChildProcess:
        ours, theirs = socket.socketpair()
        command = self._command(theirs.fileno())
        self._log.info("starting llama-server", extra={"cmd": shlex.join(command)})
        self._log.debug("environment", extra=loggable(self._environment))
        try:
            with theirs:
                self._child = ChildProcess(
                    command,
                    environment=self._environment,
                    pass_fds=(theirs.fileno(),),
                    on_output=self._on_sign_of_life,
                    on_line=self._on_line if self._log.isEnabledFor(logging.DEBUG) else None,
                    on_exit=self._changed.set,
                )
        except OSError as error:
            ours.close()
            raise LoadFailed(f"error starting llama-server: {error.strerror}") from error
        except BaseException:
            ours.close()
            raise
        self._on_sign_of_life()
        self._spawn(self._watch(self._child), f"runner {self._child.pid}")
        await self._loop.create_connection(lambda: self.connection.wire, sock=ours)
        return self._child

    async def _until_ready(self, child: ChildProcess, stall_timeout_ns: int | None) -> Ready:
        limit_s = stall_timeout_ns / 1e9 if stall_timeout_ns is not None and stall_timeout_ns > 0 else None
        while not self._loaded.done():
            left = None if limit_s is None else self._alive_at + limit_s - self._loop.time()
            if left is not None and left <= 0:
                raise LoadTimedOut(f"timed out waiting for llama-server to start - {child.output.errors}")
            await asyncio.wait({self._loaded}, timeout=left)
        outcome = self._loaded.result()
        if isinstance(outcome, Ready):
            return outcome
        await child.wait(_SETTLE_S)  # it exits by itself after `Failed`, and the status belongs into the message
        raise self._load_error(child, outcome)

    def _load_error(self, child: ChildProcess, failed: Failed | None) -> LoadFailed:
        said = without_paths(failed.message) if failed is not None else self._wire_reason
        words = said or child.output.errors
        kind = failed.kind if failed is not None else ""
        if kind == "memory" or child.returncode == EXIT_OUT_OF_MEMORY or (not kind and is_out_of_memory(words)):
            return OutOfMemory(f"llama-server reported out-of-memory during startup: {words or child.status_text}")
        permanent = kind == "rejected" or child.returncode == EXIT_REJECTED
        return LoadFailed(f"llama-server process has terminated: {self._ending(child, words)}", permanent=permanent)

    async def _abandon(self) -> None:
        """Kill the child of a start that came to nothing; returns once it is reaped."""
        if self.state == "starting":
            self.state = "failed"
            self._abandoned = self._child is not None and self._child.returncode is None
        if self._child is not None:
            self._child.kill()
            await self.connection.closed.wait()

    async def _watch(self, child: ChildProcess) -> None:
        """Wait for the end of the child or of its connection, see to the other, and tell who waits."""
        await self._changed.wait()
        try:
            async with asyncio.timeout(_SETTLE_S):
                if child.returncode is not None:
                    await self._wire_closed.wait()  # what it sent before its end is still read
                elif not self._wire_reason:
                    await child.exited.wait()
        except TimeoutError:
            if child.returncode is None:
                self._wire_reason = "it closed its connection"
        self.connection.wire.close()
        self._killed = child.returncode is None
        child.kill()
        await child.exited.wait()
        self._finish(child)

    def _finish(self, child: ChildProcess) -> None:
        was_ready = self.state == "ready"
        asked = self.state == "stopping" or self._abandoned
        self.state = "stopped" if self.state == "stopping" else "failed"
        reason = "stopped" if asked else self._ending(child, self._wire_reason or child.output.last_error)
        if was_ready:
            _DEATHS.add(
                1, self._cause or ("wire" if self._killed else "signal" if (child.returncode or 0) < 0 else "exit")
            )
        if not asked:
            last_words = child.output.tail[-_LOGGED_CHARACTERS:]
            attributes = {"error": reason, "exit": child.returncode, "pid": child.pid, "last_words": last_words}
            self._log.error("llama-server terminated", extra=attributes)
        if not self._loaded.done():
            self._loaded.set_result(None)
        self.connection.end(reason)

    def _ending(self, child: ChildProcess, words: str) -> str:
        """How the child ended and what it said; its exit status tells nothing when it was us who killed it."""
        if self._cause == "silent":
            return "it gave no sign of life"
        if self._killed and words:
            return words
        return f"{child.status_text}: {words}" if words else child.status_text

    def _on_load(self, event: LoadEvent) -> None:
        self._on_sign_of_life()
        if isinstance(event, Progress):
            if self._progress is not None:
                self._progress(event)
        elif not self._loaded.done():
            self._loaded.set_result(event)

    def _on_sign_of_life(self) -> None:
        self._alive_at = self._loop.time()

    def _on_line(self, line: str) -> None:
        self._log.debug("runner output", extra={"line": line})

    def _on_wire_closed(self, reason: str) -> None:
        self._wire_reason = reason
        self._wire_closed.set()
        self._changed.set()

    def _on_silent(self) -> None:
        assert self._child is not None
        self._cause = "silent"
        self._child.kill()

    def _on_slow(self, request_id: str, pending_bytes: int) -> None:
        self._log.warning(
            "request cancelled: its client does not read",
            extra={"request": request_id, "pending_bytes": pending_bytes},
        )
