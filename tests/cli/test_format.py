"""Numbers and times for people (runtime contract, formatting cases)."""

from datetime import UTC, datetime, timedelta

import pytest

from ollamad.cli.format import go_number, human_bytes, human_number, human_time, parse_time, processor

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)

BYTES = [
    (0, "0 B"), (1, "1 B"), (999, "999 B"), (1000, "1 KB"), (1500, "1.5 KB"), (999999, "999 KB"), (1000000, "1 MB"),
    (1500000, "1.5 MB"), (999999999, "999 MB"), (1000000000, "1 GB"), (1500000000, "1.5 GB"),
    (999999999999, "999 GB"), (1000000000000, "1 TB"), (1500000000000, "1.5 TB"), (1999999999999, "2.0 TB"),
    (1234, "1.2 KB"), (1234567, "1.2 MB"), (1234567890, "1.2 GB"), (1024, "1.0 KB"), (9999, "10.0 KB"),
    (10000, "10 KB"), (9608350718, "9.6 GB"), (-5, "-5 B"),
]  # fmt: skip
NUMBERS = [
    (0, "0"), (999, "999"), (1000, "1K"), (1001, "1K"), (1000000, "1M"), (125000000, "125M"), (500500000, "500.50M"),
    (500550000, "500.55M"), (1000000000, "1B"), (2800000000, "2.8B"), (2850000000, "2.9B"), (1000000000000, "1000B"),
    (1500, "2K"), (2500, "2K"), (8030261312, "8.0B"),
]  # fmt: skip
TIMES = [
    (48 * 3600, "2 days from now"), (-48 * 3600, "2 days ago"), (0.8, "Less than a second from now"),
    (200 * 365 * 86400, "Forever"), (-1.9, "1 second ago"), (-59.9, "59 seconds ago"), (-119, "About a minute ago"),
    (-120, "2 minutes ago"), (-3599, "59 minutes ago"), (-5399, "About an hour ago"), (-5400, "2 hours ago"),
    (-86400, "24 hours ago"), (-47.4 * 3600, "47 hours ago"), (-47.5 * 3600, "2 days ago"),
    (-335 * 3600, "13 days ago"), (-336 * 3600, "2 weeks ago"), (-1439 * 3600, "8 weeks ago"),
    (-1440 * 3600, "2 months ago"), (-17519 * 3600, "24 months ago"), (-17520 * 3600, "2 years ago"),
    (20 * 365 * 86400 + 3600, "20 years from now"),
]  # fmt: skip
GO_NUMBERS = [
    (0, "0"), (131072, "131072"), (999999, "999999"), (1000000, "1e+06"), (1048576, "1.048576e+06"), (8e9, "8e+09"),
    (0.0001, "0.0001"), (0.00001, "1e-05"), (0.1, "0.1"), (-2.5, "-2.5"),
]  # fmt: skip
PROCESSORS = [
    (10, 0, "100% CPU"), (10, 10, "100% GPU"), (10, 11, "Unknown"), (0, 5, "Unknown"), (100, 52, "48%/52% CPU/GPU"),
    (1000, 995, "1%/99% CPU/GPU"), (1000, 996, "0%/100% CPU/GPU"), (0, 0, "100% CPU"),
]  # fmt: skip


@pytest.mark.parametrize(("size", "text"), BYTES)
def test_human_bytes(size: int, text: str) -> None:
    """HB-01 to HB-22."""
    assert human_bytes(size) == text


@pytest.mark.parametrize(("count", "text"), NUMBERS)
def test_human_number(count: int, text: str) -> None:
    """HN-01 to HN-15."""
    assert human_number(count) == text


@pytest.mark.parametrize(("offset_s", "text"), TIMES)
def test_human_time(offset_s: float, text: str) -> None:
    """HT-02 to HT-22."""
    assert human_time(NOW + timedelta(seconds=offset_s), NOW) == text


def test_the_zero_time_has_a_text_of_its_own() -> None:
    """HT-01."""
    assert human_time(parse_time("0001-01-01T00:00:00Z"), NOW, "never") == "never"


def test_times_of_the_wire_are_read() -> None:
    """Nine digits of a fraction, a zone, and a year that Python cannot hold."""
    assert parse_time("2026-11-24T12:00:00.123456789+01:00") == datetime(2026, 11, 24, 11, 0, 0, 123456, tzinfo=UTC)
    assert parse_time("2026-11-24T12:00:00.5Z") == datetime(2026, 11, 24, 12, 0, 0, 500000, tzinfo=UTC)
    assert human_time(parse_time("12318-01-01T00:00:00Z"), NOW) == "Forever"
    assert parse_time("soon") is None


@pytest.mark.parametrize(("value", "text"), GO_NUMBERS)
def test_go_numbers(value: float, text: str) -> None:
    """The exponent form starts below 1e-4 and at 1e6."""
    assert go_number(value) == text


@pytest.mark.parametrize(("size", "vram", "text"), PROCESSORS)
def test_processor(size: int, vram: int, text: str) -> None:
    """PRC-01 to PRC-08."""
    assert processor(size, vram) == text
