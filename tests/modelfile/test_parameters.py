"""Types of parameter values."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollamad.errors import InvalidRequest
from ollamad.modelfile import convert_parameters
from ollamad.modelfile.parameters import shortest_float32


def test_types() -> None:
    """Each parameter has its type; stop gathers, of others the last one wins, ignored ones are left out."""
    pairs = [
        ("temperature", "0.5"),
        ("temperature", "0.7"),
        ("top_k", "1"),
        ("seed", "-9223372036854775808"),
        ("use_mmap", "T"),
        ("stop", "a"),
        ("stop", "b"),
        ("mirostat", "what"),
    ]
    assert convert_parameters(pairs) == {
        "temperature": 0.7,
        "top_k": 1,
        "seed": -(2**63),
        "use_mmap": True,
        "stop": ["a", "b"],
    }


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("foo", "1", "unknown parameter 'foo'"),
        ("", "temperature 1", "unknown parameter ''"),
        ("numa", "true", "unknown parameter 'numa'"),
        ("temperature", "hot", "invalid float value [hot]"),
        ("temperature", "1e39", "invalid float value [1e39]"),
        ("temperature", "1_0", "invalid float value [1_0]"),
        ("temperature", "nan", "invalid float value [nan]"),
        ("num_ctx", "1.5", "invalid int value [1.5]"),
        ("num_ctx", "9223372036854775808", "invalid int value [9223372036854775808]"),
        ("num_ctx", "", "invalid int value []"),
        ("num_ctx", "1" * 5000, f"invalid int value [{'1' * 5000}]"),
        ("use_mmap", "maybe", "invalid bool value [maybe]"),
    ],
)
def test_refused(name: str, text: str, message: str) -> None:
    """E8: what is no value of the type is refused with its text."""
    with pytest.raises(InvalidRequest) as caught:
        convert_parameters([(name, text)])
    assert str(caught.value) == message


@given(st.floats(width=32, allow_nan=False, allow_infinity=False))
def test_shortest_float32(value: float) -> None:
    """The short number is the same 32-bit float and never longer than the exact one."""
    short = shortest_float32(value)
    assert struct.pack("<f", short) == struct.pack("<f", value)
    assert len(repr(abs(short))) <= max(len(repr(abs(value))), 15)


def test_ends_of_the_range() -> None:
    """The largest and the smallest float are given back."""
    assert shortest_float32((2 - 2**-23) * 2.0**127) == 3.4028235e38
    assert shortest_float32(2.0**-149) == 1e-45
