"""Go's duration texts."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollamad.config.durations import format_duration, hold, parse_duration, parse_hold
from ollamad.types import FOREVER_NS

S = 1_000_000_000


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0", 0),
        ("-0", 0),
        ("1s", S),
        ("1h2m3s", 3723 * S),
        ("1.5h", 5400 * S),
        (".5s", S // 2),
        ("1.s", S),
        ("-1m", -60 * S),
        ("+3ns", 3),
        ("2us", 2000),
        ("2µs", 2000),
        ("2μs", 2000),
        ("1m1ms", 60 * S + 1_000_000),
    ],
)
def test_duration_texts(text: str, value: int) -> None:
    """A Go duration is read to the nanosecond."""
    assert parse_duration(text) == value


@pytest.mark.parametrize(
    "text", ["", "1", "1.5", "1d", "1w", "1y", "s", ".s", "1h 30m", "1s ", "--1s", "???", "9" * 30 + "h"]
)
def test_no_durations(text: str) -> None:
    """What Go would refuse is refused."""
    with pytest.raises(ValueError, match="is no duration"):
        parse_duration(text)


def test_whole_seconds_and_for_ever() -> None:
    """A bare number is seconds, a negative one is for ever, and zero only where the option says so."""
    assert parse_hold("60") == 60 * S
    assert parse_hold("-1") == FOREVER_NS
    assert parse_hold("0") == 0
    assert parse_hold("0", zero_forever=True) == FOREVER_NS
    assert parse_hold("9" * 19) == FOREVER_NS
    assert hold(-5) == FOREVER_NS


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0s"),
        (1, "1ns"),
        (1500, "1.5µs"),
        (1234567, "1.234567ms"),
        (S, "1s"),
        (1234567891, "1.234567891s"),
        (90 * S, "1m30s"),
        (300 * S, "5m0s"),
        (3600 * S, "1h0m0s"),
        (FOREVER_NS, "2562047h47m16.854775807s"),
        (-1500, "-1.5µs"),
    ],
)
def test_printed_durations(value: int, text: str) -> None:
    """Durations print as Go prints them (7.6)."""
    assert format_duration(value) == text


@given(st.integers(-FOREVER_NS, FOREVER_NS))
def test_printed_durations_read_back(value: int) -> None:
    """What is printed means the same when it is read."""
    assert parse_duration(format_duration(value)) == value
