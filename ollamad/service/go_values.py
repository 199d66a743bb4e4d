"""Values as Go's ``fmt`` prints them: ``%v`` in a Modelfile, ``%#v`` in the parameters of `show`."""

from __future__ import annotations

from typing import Any

from ollamad.gojson import encode

_ESCAPES = {
    '"': '\\"',
    "\\": "\\\\",
    "\a": "\\a",
    "\b": "\\b",
    "\f": "\\f",
    "\n": "\\n",
    "\r": "\\r",
    "\t": "\\t",
    "\v": "\\v",
}


def plain(value: Any) -> str:
    """``%v``: texts as they are, numbers as 64-bit floats."""
    return value if isinstance(value, str) else _other(value)


def quoted(value: Any) -> str:
    """``%#v``: texts in double quotes with Go's escapes."""
    return f'"{"".join(map(_escape, value))}"' if isinstance(value, str) else _other(value)


def _other(value: Any) -> str:
    if value is None:
        return "<nil>"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return number(float(value))
    return encode(value)  # objects and nested lists: nobody sets them, any readable form will do


def number(value: float) -> str:
    """Shortest digits, in exponent form below 1e-4 and from 1e6 on.

    Source: models contract 4.4 (``0.6``, ``131072``, ``1e+06``, ``1.048576e+06``).
    """
    mantissa, _, exponent = f"{value!r}".partition("e")
    sign, digits = ("-", mantissa[1:]) if mantissa.startswith("-") else ("", mantissa)
    whole, _, fraction = digits.partition(".")
    significant = (whole + fraction).lstrip("0").rstrip("0")
    if not significant:
        return f"{sign}0"
    leading = len(whole + fraction) - len((whole + fraction).lstrip("0"))
    power = len(whole) - 1 - leading + int(exponent or 0)
    if not -4 <= power < 6:
        tail = f".{significant[1:]}" if len(significant) > 1 else ""
        return f"{sign}{significant[0]}{tail}e{'-' if power < 0 else '+'}{abs(power):02d}"
    return f"{sign}{_positional(significant, power)}"


def _positional(digits: str, power: int) -> str:
    if power < 0:
        return f"0.{'0' * (-power - 1)}{digits}"
    if len(digits) <= power + 1:
        return digits.ljust(power + 1, "0")
    return f"{digits[: power + 1]}.{digits[power + 1 :]}"


def _escape(character: str) -> str:
    if character in _ESCAPES:
        return _ESCAPES[character]
    if character.isprintable():
        return character
    code = ord(character)
    if code < 0x80:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
