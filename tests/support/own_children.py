"""Which children this test process has, beside the daemons that other tests share for the whole session."""

import os
from contextlib import suppress
from pathlib import Path


def own_children() -> list[int]:
    """Process ids of children that are not yet reaped; daemons of session fixtures are left out."""
    me = os.getpid()
    pids = [int(pid) for pid in Path(f"/proc/{me}/task/{me}/children").read_text().split()]
    return [pid for pid in pids if not _is_daemon(pid)]


def _is_daemon(pid: int) -> bool:
    with suppress(OSError):
        return b"ollamad.cli.serve" in Path(f"/proc/{pid}/cmdline").read_bytes()
    return False
