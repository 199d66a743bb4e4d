"""JSON as Go's encoder writes it: the bytes that digests and clients depend on.

Inside strings ``<``, ``>`` and ``&`` are escaped, other text stays UTF-8; keys of a mapping are sorted
bytewise, those of a `Struct` keep their order; floats take their shortest form; separators are compact.
"""

from __future__ import annotations

import base64
import math
import re
from collections.abc import Mapping
from typing import Any

_ESCAPES = {
    '"': '\\"',
    "\\": "\\\\",
    "\b": "\\b",
    "\f": "\\f",
    "\n": "\\n",
    "\r": "\\r",
    "\t": "\\t",
}
_SPECIAL = re.compile(r'["\\<>&\u2028\u2029\x00-\x1f\ud800-\udfff]')


class Struct(dict[str, Any]):
    """A mapping whose keys are written in insertion order, as a Go struct's fields are."""


def encode(value: Any) -> str:
    """Return *value* as HTML-escaped JSON without a newline.

    Bytes become base64 text, as Go's byte slices do. A lone surrogate becomes U+FFFD.

    Raises:
        ValueError: A float is infinite or not a number.
        TypeError: A type that JSON does not have.

    Source: Go encoding/json, ``Marshal``.
    """
    parts: list[str] = []
    _write(value, parts)
    return "".join(parts)


def encoder_json(value: Any) -> bytes:
    """Return *value* as Go's ``json.Encoder`` writes it: `encode` and one newline, in UTF-8."""
    return (encode(value) + "\n").encode()


def _write(value: Any, parts: list[str]) -> None:
    if isinstance(value, str):
        parts.append(quote(value))
    elif value is None:
        parts.append("null")
    elif value is True or value is False:
        parts.append("true" if value else "false")
    elif isinstance(value, int):
        parts.append(int.__repr__(value))
    elif isinstance(value, float):
        parts.append(number(value))
    elif isinstance(value, Mapping):
        _write_mapping(value, parts)
    elif isinstance(value, (list, tuple)):
        _write_array(value, parts)
    elif isinstance(value, (bytes, bytearray, memoryview)):
        parts.append(f'"{base64.b64encode(value).decode()}"')
    else:
        raise TypeError(f"{type(value).__name__} has no JSON form")


def _write_mapping(value: Mapping[str, Any], parts: list[str]) -> None:
    keys = list(value)
    if not isinstance(value, Struct):
        # UTF-8 sorts like code points, so this is Go's bytewise order.
        keys.sort()
    lead = "{"
    for key in keys:
        parts.append(f"{lead}{quote(key)}:")
        _write(value[key], parts)
        lead = ","
    parts.append("{}" if not keys else "}")


def _write_array(value: list[Any] | tuple[Any, ...], parts: list[str]) -> None:
    lead = "["
    for item in value:
        parts.append(lead)
        _write(item, parts)
        lead = ","
    parts.append("[]" if not value else "]")


def quote(text: str) -> str:
    """Return *text* as a JSON string with Go's escapes."""
    return f'"{_SPECIAL.sub(_escape, text)}"'


def _escape(match: re.Match[str]) -> str:
    char = match.group()
    if "\ud800" <= char <= "\udfff":
        return "\ufffd"
    return _ESCAPES.get(char) or f"\\u{ord(char):04x}"


def number(value: float) -> str:
    """Return *value* in Go's shortest form: ``1`` for 1.0, exponents only below 1e-6 and from 1e21.

    Raises:
        ValueError: The value is infinite or not a number.
    """
    if not math.isfinite(value):
        raise ValueError(f"unsupported value: {value}")
    if value == 0:
        return "-0" if math.copysign(1.0, value) < 0 else "0"
    digits, exponent = _shortest(abs(value))
    sign = "-" if value < 0 else ""
    if 1e-6 <= abs(value) < 1e21:
        return sign + _positional(digits, exponent)
    fraction = f".{digits[1:]}" if len(digits) > 1 else ""
    return f"{sign}{digits[0]}{fraction}e{'-' if exponent < 0 else '+'}{abs(exponent):0{1 if exponent < 0 else 2}d}"


def _shortest(value: float) -> tuple[str, int]:
    """Split a positive float into its shortest digits d and exponent e: value = d[0].d[1:] * 10^e."""
    mantissa, _, exponent = repr(value).partition("e")
    whole, _, fraction = mantissa.partition(".")
    digits = (whole + fraction).lstrip("0")
    leading = len(whole + fraction) - len(digits)
    return digits.rstrip("0"), int(exponent or 0) + len(whole) - 1 - leading


def _positional(digits: str, exponent: int) -> str:
    if exponent < 0:
        return "0." + "0" * (-exponent - 1) + digits
    if len(digits) <= exponent + 1:
        return digits.ljust(exponent + 1, "0")
    return f"{digits[: exponent + 1]}.{digits[exponent + 1 :]}"
