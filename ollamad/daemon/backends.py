"""What the loaded backends mean for other rooms: who runs which architecture, with which Python, who checks a file."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ollamad.errors import InvalidModelFile
from ollamad.gguf import facts, read_header
from ollamad.jobs.check import check
from ollamad.jobs.job import Jobs
from ollamad.plugin.backend import Backend


@dataclass(frozen=True, slots=True)
class Backends:
    """The registered backends, in loading order."""

    all: Sequence[Backend]

    @property
    def general(self) -> str:
        """The first that runs any architecture; "" if there is none."""
        return next((one.name for one in self.all if one.architectures is None), "")

    @property
    def architectures(self) -> dict[str, str]:
        """Architecture -> the backend that names it; the first one wins."""
        found: dict[str, str] = {}
        for one in self.all:
            for architecture in one.architectures or ():
                found.setdefault(architecture, one.name)
        return found

    @property
    def interpreters(self) -> dict[str, str]:
        """Backend -> its own Python, for those that have one."""
        return {one.name: one.interpreter for one in self.all if one.interpreter}

    def checker(self, jobs: Jobs, extra: Sequence[str]) -> Callable[[Path], Awaitable[None]]:
        """A function that lets the backend of a file's architecture open it in a job.

        It raises `InvalidModelFile` with the backend's words if the file cannot be opened.
        """
        architectures, interpreters = self.architectures, self.interpreters

        async def check_file(path: Path) -> None:
            backend = architectures.get(facts(read_header(path)).architecture, self.general)
            checked = await check(jobs, [path], backend=backend, extra=extra, interpreter=interpreters.get(backend))
            if not checked.ok:
                raise InvalidModelFile(checked.reason)

        return check_file
