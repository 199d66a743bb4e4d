"""Job ``check``: whether a backend opens a model file. A hostile file may end the child, never the daemon."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ollamad.children.last_words import without_paths
from ollamad.errors import JobFailed, JobTimedOut
from ollamad.jobs.job import JobProgress, Jobs
from ollamad.types import WeightsRef
from ollamad.wire.messages import LoadSpec

TIMEOUT_S = 60.0
#: Address space, not memory in use: a mapped file counts with its full size beside this.
MEMORY_BYTES = 4 * 1024**3


@dataclass(frozen=True, slots=True)
class Checked:
    """``ok``, or ``reason`` in the words of the backend, without paths."""

    ok: bool
    reason: str = ""


async def check(
    jobs: Jobs,
    files: Sequence[Path],
    *,
    backend: str,
    extra: Sequence[str] = (),
    vocab_only: bool = True,
    interpreter: str | None = None,
    timeout_s: float = TIMEOUT_S,
) -> Checked:
    """Have *backend* open *files* (the shards of one model, in order).

    A child that crashes, or does not come back, means that the file is rejected.

    Raises:
        JobFailed: The check itself could not be made: no such backend, no memory.
    """
    sizes = [file.stat().st_size for file in files]
    arguments = {
        "backend": backend,
        "extra": list(extra),
        "files": [{"path": str(file), "size_bytes": size} for file, size in zip(files, sizes, strict=True)],
        "vocab_only": vocab_only,
    }
    try:
        result = await jobs.run(
            "check",
            arguments,
            timeout_s=timeout_s,
            memory_bytes=MEMORY_BYTES + 2 * sum(sizes),
            interpreter=interpreter,
        )
    except JobTimedOut:
        return Checked(False, f"not opened within {timeout_s:g} s")
    except JobFailed as error:
        if error.crashed:
            return Checked(False, error.detail)
        raise
    return Checked(bool(result.get("ok")), without_paths(str(result.get("reason", ""))))


def run(arguments: Mapping[str, Any], progress: JobProgress) -> Mapping[str, Any]:
    """Open the files in this process. Runs in: a job."""
    from ollamad.plugin._manager import load_backend
    from ollamad.plugin.backend import ModelRejected

    files = {f"shard-{number}": one for number, one in enumerate(arguments["files"])}
    weights = tuple(WeightsRef(name, one["size_bytes"]) for name, one in files.items())
    spec = LoadSpec(arguments["backend"], weights, vocab_only=arguments["vocab_only"])
    paths = {name: Path(one["path"]) for name, one in files.items()}

    def report(fraction: float) -> bool:
        progress(fraction, "")
        return True

    try:
        model = load_backend(arguments["backend"], arguments["extra"]).load(spec, paths, report)
    except ModelRejected as error:
        return {"ok": False, "reason": str(error)}
    model.close()
    return {"ok": True, "reason": ""}
