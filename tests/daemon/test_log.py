"""Logfmt lines."""

import io
import logging
import re
from collections.abc import Iterator

import pytest

from ollamad.daemon.log import TRACE, install, quoted


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield io.StringIO()
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain", "plain"),
        ("", '""'),
        ("a b", '"a b"'),
        ("a=b", '"a=b"'),
        ('a"b', '"a\\"b"'),
        ("a\nb\t", '"a\\nb\\t"'),
        ("\x00", '"\\x00"'),
        ("\u2028", '"\\u2028"'),
        ("\U000e0001", '"\\U000e0001"'),
        ("grün", "grün"),
        ("a\\b", "a\\b"),
    ],
)
def test_quoting(text: str, shown: str) -> None:
    """A value is quoted as Go quotes it, and only where it has to be."""
    assert quoted(text) == shown


def test_one_line_per_record(stream: io.StringIO) -> None:
    """A line has time, level, source, text and attributes, in this order."""
    install("INFO", stream)
    logging.getLogger("x").warning("two words", extra={"key": "a b", "attributes": {"on": True, "g": {"n": 1}}})
    pattern = (
        r"time=\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}(Z|[+-]\d\d:\d\d) level=WARN source=test_log\.py:\d+ "
        r'msg="two words" key="a b" on=true g\.n=1\n'
    )
    assert re.fullmatch(pattern, stream.getvalue())


def test_a_traceback_stays_on_the_line(stream: io.StringIO) -> None:
    """An exception is one more attribute."""
    install("INFO", stream)
    try:
        raise ValueError("bad\nthing")
    except ValueError:
        logging.getLogger("x").exception("failed")
    assert stream.getvalue().count("\n") == 1
    assert "level=ERROR" in stream.getvalue()
    assert "ValueError: bad\\nthing" in stream.getvalue()


@pytest.mark.parametrize(("level", "lines"), [("TRACE", 5), ("DEBUG", 4), ("INFO", 3), ("WARN", 2), ("ERROR", 1)])
def test_levels(stream: io.StringIO, level: str, lines: int) -> None:
    """Each level lets itself and what is above through."""
    install(level, stream)
    for number in (TRACE, logging.DEBUG, logging.INFO, logging.WARNING, logging.ERROR):
        logging.getLogger("x").log(number, "text")
    assert stream.getvalue().count("\n") == lines
    assert level != "TRACE" or "level=TRACE" in stream.getvalue()
