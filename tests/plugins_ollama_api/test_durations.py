"""Durations of keep_alive; ids from http-api contract A.3."""

import pytest
from ollamad_ollama_api.durations import LONGEST_NS, BadDuration, parse_duration

SECOND = 10**9


@pytest.mark.parametrize(
    ("text", "nanoseconds"),
    [
        pytest.param("42m", 42 * 60 * SECOND, id="DU-04"),
        pytest.param("-1m", -60 * SECOND, id="DU-07"),
        pytest.param("1h30m", 5400 * SECOND, id="DU-11a"),
        pytest.param("1.5h", 5400 * SECOND, id="DU-11b"),
        pytest.param("500ms", SECOND // 2, id="DU-11c"),
        ("0", 0),
        ("-0", 0),
        ("0s", 0),
        (".5s", SECOND // 2),
        ("1.s", SECOND),
        ("+1s", SECOND),
        ("1us", 1000),
        ("1µs", 1000),
        ("1μs", 1000),
        ("1ns", 1),
        ("9223372036854775807ns", LONGEST_NS),
        ("-9223372036854775808ns", -LONGEST_NS - 1),
        ("1.0000000005s", SECOND),
    ],
)
def test_durations(text: str, nanoseconds: int) -> None:
    """The grammar of Go's ParseDuration."""
    assert parse_duration(text) == nanoseconds


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param("42", 'time: missing unit in duration "42"', id="DU-08"),
        pytest.param("", 'time: invalid duration ""', id="DU-09"),
        pytest.param("1d", 'time: unknown unit "d" in duration "1d"', id="DU-12"),
        (" 5m", 'time: invalid duration " 5m"'),
        ("5m ", 'time: unknown unit "m " in duration "5m "'),
        ("-", 'time: invalid duration "-"'),
        (".", 'time: invalid duration "."'),
        ("x", 'time: invalid duration "x"'),
        ("1h1", 'time: missing unit in duration "1h1"'),
        ("1s.", 'time: invalid duration "1s."'),
        ("1é", 'time: unknown unit "\\xc3\\xa9" in duration "1\\xc3\\xa9"'),
        ('1"', 'time: unknown unit "\\"" in duration "1\\""'),
        ("9223372036854775808ns", 'time: invalid duration "9223372036854775808ns"'),
        ("999999999h", 'time: invalid duration "999999999h"'),
    ],
)
def test_bad_durations(text: str, message: str) -> None:
    """What is none has Go's text."""
    with pytest.raises(BadDuration) as caught:
        parse_duration(text)
    assert str(caught.value) == message
