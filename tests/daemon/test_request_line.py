"""Request lines."""

import io
import re
from dataclasses import replace

import pytest

from ollamad.daemon.request_line import RequestLines, request_line
from ollamad.http.access import AccessRecord
from ollamad.plugin.frontend import RequestContext

CONTEXT = RequestContext("id", 0, "default", "manage", "127.0.0.1")


def record(path: str = "/api/chat", duration_ns: int = 1_234_567) -> AccessRecord:
    return AccessRecord(CONTEXT, "POST", path, 200, duration_ns, 10)


def test_the_line() -> None:
    """The columns stand as in Ollama's log."""
    line = request_line(record(), 0)
    assert re.fullmatch(
        r"\[GIN\] \d{4}/\d\d/\d\d - \d\d:\d\d:\d\d \| 200 \|    1\.234567ms \| "
        r'      127\.0\.0\.1 \| POST     "/api/chat"',
        line,
    )


@pytest.mark.parametrize(
    ("duration_ns", "text"),
    [(0, "           0s"), (61_900_000_000, "         1m1s"), (59_900_000_000, "        59.9s")],
)
def test_durations(duration_ns: int, text: str) -> None:
    """Above one minute whole seconds are told."""
    assert f"| {text} |" in request_line(record(duration_ns=duration_ns), 0)


def test_a_path_cannot_break_the_line() -> None:
    """Quotes and control signs of a path are escaped."""
    assert request_line(record('/a"\n[GIN]'), 0).endswith('"/a\\"\\n[GIN]"')


def test_query_and_forwarded_client() -> None:
    """The query belongs to the path; a proxy's word for the client counts if it is an address."""
    line = request_line(replace(record(), query="x=1&y", forwarded="192.0.2.7, 10.0.0.1"), 0)
    assert line.endswith('|       192.0.2.7 | POST     "/api/chat?x=1&y"')
    assert "|       127.0.0.1 |" in request_line(replace(record(), forwarded="nonsense"), 0)


def test_lines_are_written_and_can_be_off() -> None:
    """Lines go to the stream at once; turned off, none is written."""
    stream, quiet = io.StringIO(), io.StringIO()
    RequestLines(enabled=True, stream=stream)(record())
    RequestLines(enabled=False, stream=quiet)(record())
    assert stream.getvalue().count("\n") == 1
    assert quiet.getvalue() == ""


def test_a_closed_stream_does_not_matter() -> None:
    """When nobody reads the lines any more, requests are answered without."""
    stream = io.StringIO()
    lines = RequestLines(enabled=True, stream=stream)
    stream.close()
    lines(record())
    lines(record())
