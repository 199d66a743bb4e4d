"""Job ``probe``: which devices the backends find. Native libraries may hang or crash while they look."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from ollamad.errors import JobFailed
from ollamad.jobs.job import JobProgress, Jobs
from ollamad.types import Device

TIMEOUT_S = 30.0


@dataclass(frozen=True, slots=True)
class Probed:
    """What one backend said: its devices, best first, or why it could not say."""

    backend: str
    devices: tuple[Device, ...] = ()
    error: str = ""


async def probe(
    jobs: Jobs, *, extra: Sequence[str] = (), disabled: Sequence[str] = (), timeout_s: float = TIMEOUT_S
) -> tuple[Probed, ...]:
    """Ask every backend for its devices, in loading order.

    A backend that raises is listed with its error.

    Raises:
        JobFailed: The child crashed, so nothing is known of any backend; `JobTimedOut` if it hung.
    """
    result = await jobs.run("probe", {"extra": list(extra), "disabled": list(disabled)}, timeout_s=timeout_s)
    try:
        return tuple(
            Probed(one["backend"], tuple(Device(**device) for device in one["devices"]), one["error"])
            for one in result["backends"]
        )
    except (KeyError, TypeError) as error:
        raise JobFailed("the probe job answered with something else than devices") from error


def run(arguments: Mapping[str, Any], progress: JobProgress) -> Mapping[str, Any]:
    """Probe in this process. Runs in: a job."""
    from ollamad.plugin._manager import load_backends

    backends = load_backends(arguments["extra"], arguments["disabled"])
    found = []
    for done, backend in enumerate(backends):
        progress(done / len(backends), backend.name)
        try:
            devices, error = [asdict(device) for device in backend.devices()], ""
        except Exception as raised:
            devices, error = [], f"{type(raised).__name__}: {raised}"
        found.append({"backend": backend.name, "devices": devices, "error": error})
    return {"backends": found}
