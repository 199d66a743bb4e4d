"""Values as Go prints them. Source: models contract 4.4."""

from __future__ import annotations

from typing import Any

import pytest

from ollamad.service.go_values import plain, quoted


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (0.6, "0.6"),
        (10, "10"),
        (-1, "-1"),
        (131072, "131072"),
        (999999, "999999"),
        (1000000, "1e+06"),
        (1048576, "1.048576e+06"),
        (2**63, "9.223372036854776e+18"),
        (1e100, "1e+100"),
        (0.0001, "0.0001"),
        (0.00001, "1e-05"),
        (-0.000012, "-1.2e-05"),
        (-0.0, "-0"),
        (123.456, "123.456"),
        (True, "true"),
        (False, "false"),
        (None, "<nil>"),
    ],
)
def test_numbers(value: Any, text: str) -> None:
    """Numbers are shortest, with an exponent below 1e-4 and from 1e6 on."""
    assert plain(value) == text
    assert quoted(value) == text


def test_texts() -> None:
    """A text is bare, or in quotes with Go's escapes."""
    assert plain('a "b"\n') == 'a "b"\n'
    assert quoted('a "b"\\\n\x00\x7f<ü>\u200b\U000e0001') == '"a \\"b\\"\\\\\\n\\x00\\x7f<ü>\\u200b\\U000e0001"'
