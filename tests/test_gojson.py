"""JSON with the bytes of Go's encoder."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollamad import gojson


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"),
        (-0.0, "-0"),
        (1.0, "1"),
        (0.6, "0.6"),
        (100.0, "100"),
        (123.456, "123.456"),
        (1e-6, "0.000001"),
        (9.9e-7, "9.9e-7"),
        (1e-10, "1e-10"),
        (1e20, "100000000000000000000"),
        (123456789012345680000.0, "123456789012345680000"),
        (1e21, "1e+21"),
        (1.5e300, "1.5e+300"),
        (-2.5e-7, "-2.5e-7"),
        (5e-324, "5e-324"),
        (10**30, "1000000000000000000000000000000"),
    ],
)
def test_numbers(value: float, text: str) -> None:
    """Floats take the shortest form, with an exponent only outside 1e-6 to 1e21; integers are printed whole."""
    assert gojson.encode(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("<a> & b", '"\\u003ca\\u003e \\u0026 b"'),
        ("\u2028\u2029", '"\\u2028\\u2029"'),
        ("Ünïcödé 日本 😀", '"Ünïcödé 日本 😀"'),
        ('"\\/', '"\\"\\\\/"'),
        ("\b\f\n\r\t\x00\x1f\x7f", '"\\b\\f\\n\\r\\t\\u0000\\u001f\x7f"'),
        ("\ud800x", '"\ufffdx"'),
    ],
)
def test_strings(value: str, text: str) -> None:
    """Markup and line separators are escaped, other text is not, half a surrogate pair is replaced."""
    assert gojson.encode(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ({"b": 1, "a": None, "Z": True}, '{"Z":true,"a":null,"b":1}'),
        (gojson.Struct(b=1, a={"d": 1, "c": ()}), '{"b":1,"a":{"c":[],"d":1}}'),
        ([], "[]"),
        ({}, "{}"),
        ((1, [2, False]), "[1,[2,false]]"),
        (b"\x00\xff\xfe", '"AP/+"'),
    ],
)
def test_containers(value: object, text: str) -> None:
    """Mappings are sorted, structs are not; bytes are base64."""
    assert gojson.encode(value) == text


def test_encoder_ends_with_a_newline() -> None:
    """The encoder's form is UTF-8 with one newline."""
    assert gojson.encoder_json({"ü": "é"}) == '{"ü":"é"}\n'.encode()


@pytest.mark.parametrize("value", [float("inf"), float("-inf"), float("nan")])
def test_no_form_for_infinity(value: float) -> None:
    """What JSON cannot say is an error."""
    with pytest.raises(ValueError, match="unsupported value"):
        gojson.encode([value])


def test_no_form_for_other_types() -> None:
    """A type that JSON lacks is our own mistake."""
    with pytest.raises(TypeError):
        gojson.encode({"a": object()})


@given(
    st.recursive(
        st.none()
        | st.booleans()
        | st.integers(-(2**53), 2**53)
        | st.floats(allow_nan=False, allow_infinity=False)
        | st.text(),
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
        max_leaves=20,
    )
)
def test_reads_back(value: object) -> None:
    """Whatever is written means the same to a JSON reader."""
    assert json.loads(gojson.encode(value), parse_int=float) == value
