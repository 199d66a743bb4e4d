"""Go's JSON scanner: which texts it takes, and its words for the others."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ollamad_ollama_api.parse import Pairs, SyntaxFault, _Scanner, parse, quote


@pytest.mark.parametrize(
    ("body", "message"),
    [
        pytest.param(b"", "missing request body", id="TR-11"),
        pytest.param(b" \n", "missing request body", id="TR-12"),
        pytest.param(b'{"model":"m"', "unexpected EOF", id="TR-15"),
        pytest.param(b"xyz", "invalid character 'x' looking for beginning of value", id="TR-16"),
        (b'{"model":"m', "unexpected EOF"),
        (b'{"mod', "unexpected EOF"),
        (b'{"model" "m"}', "invalid character '\"' after object key"),
        (b'{"a":NaN}', "invalid character 'N' looking for beginning of value"),
        (b'{"a":"x\ny"}', "invalid character '\\n' in string literal"),
        (rb'{"a":"\x"}', "invalid character 'x' in string escape code"),
        (rb'{"a":"\u12g4"}', "invalid character 'g' in \\u hexadecimal character escape"),
        ("\ufeff{}".encode(), "invalid character 'ï' looking for beginning of value"),
        (b"}", "invalid character '}' looking for beginning of value"),
        (b"\x1f\x8b", "invalid character '\\x1f' looking for beginning of value"),
        (b"{]", "invalid character ']' looking for beginning of object key string"),
        (b'{"a":1,}', "invalid character '}' looking for beginning of object key string"),
        (b'{"a":1 "b"}', "invalid character '\"' after object key:value pair"),
        (b"[1 2]", "invalid character '2' after array element"),
        (b"[1,]", "invalid character ']' looking for beginning of value"),
        (b"[-x]", "invalid character 'x' in numeric literal"),
        (b"[1.x]", "invalid character 'x' after decimal point in numeric literal"),
        (b"[1ex]", "invalid character 'x' in exponent of numeric literal"),
        (b"[trux]", "invalid character 'x' in literal true (expecting 'e')"),
        (b"[nul]", "invalid character ']' in literal null (expecting 'l')"),
        (b"'a'", "invalid character '\\'' looking for beginning of value"),
        (b'{"a":\x80}', "invalid character '\\u0080' looking for beginning of value"),
        (b"1.", "unexpected EOF"),
        (b"[" * 10001, "exceeded max depth"),
    ],
)
def test_faults(body: bytes, message: str) -> None:
    """Each fault has Go's text."""
    with pytest.raises(SyntaxFault) as caught:
        parse(body)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("body", "value"),
    [
        (b" {}garbage", Pairs()),
        (b"truex", True),
        (b"5x", "5"),
        (b"01", "0"),
        (b'{"a":1,"a":2.50}', Pairs([("a", "1"), ("a", "2.50")])),
        (b'{"a":"\xff\xe2\x82"}', Pairs([("a", "\ufffd\ufffd\ufffd")])),
        (rb'["\ud800x\ud83d\ude00\\ud800\udc00"]', ["\ufffdx😀\\ud800\ufffd"]),
    ],
)
def test_values(body: bytes, value: object) -> None:
    """The first value is read; keys keep their order, numbers their spelling, broken text becomes U+FFFD."""
    assert parse(body) == value


def test_depth_costs_no_recursion() -> None:
    """Ten thousand levels are read, as Go does."""
    value = parse(b"[" * 10000 + b"]" * 10000)
    levels = 1
    while value:
        value = value[0]
        levels += 1
    assert levels == 10000


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(JSON, st.booleans())
def test_both_scanners_read_the_same(value: object, ascii_only: bool) -> None:
    """The slow scanner, which knows the errors, reads what the fast one reads."""
    body = json.dumps(value, ensure_ascii=ascii_only).encode("utf-8", "surrogatepass")
    assert _Scanner(body.decode("latin-1")).value() == parse(body)


@given(st.binary(max_size=60))
def test_any_bytes_are_a_value_or_a_fault(body: bytes) -> None:
    """No bytes make the scanner fail otherwise."""
    try:
        value = parse(body)
    except SyntaxFault as fault:
        value = str(fault)
    assert value is None or value is not NotImplemented


def test_quoting() -> None:
    """Texts are quoted as Go's %q does it."""
    assert quote('a"b\\\n\x1f\x7fé\u00a0\u2028😀') == '"a\\"b\\\\\\n\\x1f\\x7fé\\u00a0\\u2028😀"'
