"""One line per request on standard output, as log readers of Ollama know it. Source: runtime contract 6.3."""

from __future__ import annotations

import ipaddress
import sys
import time
from typing import TextIO

from ollamad.config.durations import format_duration
from ollamad.daemon.log import quoted
from ollamad.http.access import AccessRecord

_MINUTE_NS = 60_000_000_000


class RequestLines:
    """Writes a line for each request; ends for good when nobody reads any more."""

    def __init__(self, *, enabled: bool, stream: TextIO | None = None) -> None:
        self._stream = (sys.stdout if stream is None else stream) if enabled else None

    def __call__(self, record: AccessRecord) -> None:
        if self._stream is None:
            return
        try:
            self._stream.write(request_line(record, time.time()) + "\n")
            self._stream.flush()
        except (OSError, ValueError):  # a closed pipe or file: answering goes on without lines
            self._stream = None


def request_line(record: AccessRecord, now: float) -> str:
    """The line of *record*, over at *now* (Unix time)."""
    moment = time.strftime("%Y/%m/%d - %H:%M:%S", time.localtime(now))
    duration = record.duration_ns
    if duration > _MINUTE_NS:
        duration -= duration % 1_000_000_000
    target = f"{record.path}?{record.query}" if record.query else record.path
    # The blank makes `quoted` quote whatever follows.
    path = quoted(f" {target}").removeprefix('" ')
    return (
        f"[GIN] {moment} | {record.status:>3} | {format_duration(duration):>13} | {_client(record):>15} | "
        f'{record.method:<7}  "{path}'
    )


def _client(record: AccessRecord) -> str:
    """Whom the request came from; a proxy's word is believed if it is an address, as Ollama does."""
    first = record.forwarded.partition(",")[0].strip()
    try:
        return str(ipaddress.ip_address(first))
    except ValueError:
        return record.context.client
