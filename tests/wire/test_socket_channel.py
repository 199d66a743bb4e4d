"""The child's end; what it says and hears is tested with the daemon's end in `test_channel`."""

from __future__ import annotations

import subprocess
import sys


def test_a_runner_starts_without_an_event_loop() -> None:
    """What a runner imports before and while it loads brings no asyncio, which would take 20 ms."""
    modules = "ollamad.runner_child.main, ollamad.runner_child.desk, ollamad.runner_child.outbox"
    script = f"import sys, {modules}; print('asyncio' in sys.modules)"
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "False"
