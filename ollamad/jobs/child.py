"""The process of a job: ``python -m ollamad.jobs.child --fd N --parent PID``.

Reads one request, runs one task, writes one answer and ends. Standard output belongs to native libraries and
is only listened to.
"""

from __future__ import annotations

import argparse
import importlib
import json
import socket
import sys
from collections.abc import Mapping
from typing import Any

from ollamad.children.leash import die_with, limit

#: Jobs give way to runners.
_NICENESS = 10


class _Answers:
    """Writes JSON lines to the daemon."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock

    def write(self, answer: Mapping[str, Any]) -> None:
        self._sock.sendall(json.dumps(answer).encode() + b"\n")

    def progress(self, fraction: float, text: str = "") -> None:
        self.write({"fraction": fraction, "text": text})


def main() -> int:
    """Run the job that the daemon asks for; returns the exit status."""
    parser = argparse.ArgumentParser(prog="ollamad.jobs.child")
    parser.add_argument("--fd", type=int, required=True)
    parser.add_argument("--parent", type=int, required=True)
    options = parser.parse_args()
    die_with(options.parent)
    with socket.socket(fileno=options.fd) as sock:
        with sock.makefile("rb") as lines:
            line = lines.readline()
        if not line:  # the daemon has changed its mind
            return 0
        request = json.loads(line)
        answers = _Answers(sock)
        limit(memory_bytes=request["memory_bytes"], niceness=_NICENESS)
        try:
            result = importlib.import_module(request["module"]).run(request["arguments"], answers.progress)
        except Exception as error:
            answers.write({"error": f"{type(error).__name__}: {error}"})
            return 1
        answers.write({"result": result})
    return 0


if __name__ == "__main__":
    sys.exit(main())
