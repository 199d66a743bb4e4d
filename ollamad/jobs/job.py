"""Runs one heavy or dangerous task in a child of its own, and brings back its result.

Request, progress and result are JSON lines over a socket pair. The child (`child`) looks the kind up in
`KINDS`; what a kind does stands in a module of its own, with a typed function for the daemon beside it.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any, TypeAlias

from ollamad.children.environment import child_environment
from ollamad.children.last_words import without_paths
from ollamad.children.process import ChildProcess
from ollamad.errors import JobFailed, JobTimedOut

#: Called with a fraction in [0, 1] and a text.
JobProgress: TypeAlias = Callable[[float, str], None]

#: Kind -> module with a function ``run(arguments, progress) -> result``; imported in the child only.
KINDS: Mapping[str, str] = {"probe": "ollamad.jobs.probe", "check": "ollamad.jobs.check"}

#: Longest line that a child may answer: a result is facts, never a file.
_LINE_LIMIT_BYTES = 16 * 1024 * 1024
_SETTLE_S = 1.0


class Jobs:
    """Starts jobs. Each is bounded in time, may be bounded in memory, and dies with its caller or the daemon."""

    def __init__(
        self, environment: Mapping[str, str], python: str | None = None, kinds: Mapping[str, str] = KINDS
    ) -> None:
        """*environment* is the daemon's own; a job gets the allowed part."""
        self._environment = child_environment(environment)
        self._python = python or sys.executable
        self._kinds = kinds

    async def run(
        self,
        kind: str,
        arguments: Mapping[str, Any],
        *,
        timeout_s: float,
        memory_bytes: int | None = None,
        progress: JobProgress | None = None,
        interpreter: str | None = None,
    ) -> Mapping[str, Any]:
        """Return the result of the job *kind*; arguments and result are what JSON can hold.

        Args:
            memory_bytes: Limit of the child's address space.
            interpreter: The Python of the backend in question, if not the daemon's own.

        Raises:
            JobFailed: The task raised, or the child ended without a result.
            JobTimedOut: *timeout_s* went by.

        However this ends, also by cancelling, the child is killed and reaped before it returns.
        """
        request = {"module": self._kinds[kind], "arguments": arguments, "memory_bytes": memory_bytes}
        try:
            async with asyncio.timeout(timeout_s), self._child(kind, interpreter) as (child, reader, writer):
                writer.write(json.dumps(request).encode() + b"\n")
                return await _result(kind, child, reader, progress)
        except TimeoutError as error:
            raise JobTimedOut(f"the {kind} job took longer than {timeout_s:g} s") from error

    @asynccontextmanager
    async def _child(
        self, kind: str, interpreter: str | None
    ) -> AsyncIterator[tuple[ChildProcess, asyncio.StreamReader, asyncio.StreamWriter]]:
        ours, theirs = socket.socketpair()
        command = [interpreter or self._python, "-P", "-m", "ollamad.jobs.child"]
        command += ["--fd", str(theirs.fileno()), "--parent", str(os.getpid())]
        with theirs:
            try:
                child = ChildProcess(command, environment=self._environment, pass_fds=(theirs.fileno(),))
            except OSError as error:
                ours.close()
                raise JobFailed(f"the {kind} job cannot be started", detail=error.strerror or "") from error
        try:
            reader, writer = await asyncio.open_connection(sock=ours, limit=_LINE_LIMIT_BYTES)
            try:
                yield child, reader, writer
            finally:
                writer.transport.abort()
        finally:
            child.kill()
            await child.wait(_SETTLE_S)


async def _result(
    kind: str, child: ChildProcess, reader: asyncio.StreamReader, progress: JobProgress | None
) -> Mapping[str, Any]:
    while True:
        answer = await _answer(kind, child, reader)
        if "result" in answer:
            result = answer["result"]
            if not isinstance(result, dict):
                raise JobFailed(f"the {kind} job answered with something else than a result")
            return result
        if "error" in answer:
            raise JobFailed(f"the {kind} job failed", detail=without_paths(str(answer["error"])))
        if progress is not None:
            progress(float(answer["fraction"]), answer["text"])


async def _answer(kind: str, child: ChildProcess, reader: asyncio.StreamReader) -> dict[str, Any]:
    """One line of the child, checked as far as `_result` relies on it."""
    try:
        line = await reader.readline()
    except (ConnectionError, ValueError) as error:  # ValueError: over the limit
        raise JobFailed(f"the {kind} job's answer cannot be read", detail=str(error)) from error
    if not line:
        await child.wait(_SETTLE_S)
        words = child.output.errors or child.status_text
        raise JobFailed(
            f"the {kind} job ended without a result",
            detail=words,
            crashed=child.returncode is not None and child.returncode < 0,
        )
    try:
        answer = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise JobFailed(f"the {kind} job's answer cannot be read", detail=str(error)) from error
    if not isinstance(answer, dict) or not (answer.keys() & {"result", "error"} or _is_progress(answer)):
        raise JobFailed(f"the {kind} job's answer cannot be read")
    return answer


def _is_progress(answer: dict[str, Any]) -> bool:
    return isinstance(answer.get("fraction"), int | float) and isinstance(answer.get("text"), str)
