"""The types of `PARAMETER` values: text to the numbers, booleans and lists that a request carries.

Source: models contract 4.6.
"""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Iterable
from typing import Any

from ollamad.errors import InvalidRequest

_INTEGERS = frozenset(
    (
        "num_ctx",
        "num_batch",
        "num_gpu",
        "main_gpu",
        "num_thread",
        "draft_num_predict",
        "num_keep",
        "seed",
        "num_predict",
        "top_k",
        "repeat_last_n",
    )
)
_FLOATS = frozenset(
    (
        "top_p",
        "min_p",
        "typical_p",
        "temperature",
        "repeat_penalty",
        "presence_penalty",
        "frequency_penalty",
    )
)
#: From here on a number is infinite as 32-bit float.
_INFINITE_FLOAT32 = (2 - 2**-24) * 2.0**127
_TRUE = frozenset(("1", "t", "T", "TRUE", "true", "True"))
_FALSE = frozenset(("0", "f", "F", "FALSE", "false", "False"))

#: Known from older versions: accepted, without any effect.
IGNORED = frozenset(
    (
        "penalize_newline",
        "low_vram",
        "f16_kv",
        "logits_all",
        "vocab_only",
        "use_mlock",
        "mirostat",
        "mirostat_tau",
        "mirostat_eta",
    )
)


def convert_parameters(pairs: Iterable[tuple[str, str]]) -> dict[str, Any]:
    """Give each parameter its type: ``stop`` gathers, of every other the last one wins, `IGNORED` ones are left out.

    Raises:
        InvalidRequest: An unknown name, or a text that is no value of its type.
    """
    found: dict[str, Any] = {}
    for name, text in pairs:
        if name in IGNORED:
            continue
        if name == "stop":
            found.setdefault("stop", []).append(text)
        else:
            found[name] = _convert(name, text)
    return found


def _convert(name: str, text: str) -> int | float | bool:
    if name in _INTEGERS:
        return _integer(text)
    if name in _FLOATS:
        return _float(text)
    if name != "use_mmap":
        raise InvalidRequest(f"unknown parameter '{name}'", field=name)
    if text not in _TRUE | _FALSE:
        raise InvalidRequest(f"invalid bool value [{text}]", field=name)
    return text in _TRUE


def _integer(text: str) -> int:
    # The length is checked first: Python refuses to convert more than 4300 digits with an error of its own.
    number = int(text) if len(text) <= 80 and re.fullmatch(r"[+-]?[0-9]+", text) else None
    if number is None or not -(2**63) <= number < 2**63:
        raise InvalidRequest(f"invalid int value [{text}]")
    return number


def _float(text: str) -> float:
    error = InvalidRequest(f"invalid float value [{text}]")
    try:
        number = float.fromhex(text) if re.match(r"[+-]?0[xX]", text) else float(text)
        narrow: float = struct.unpack("<f", struct.pack("<f", number))[0]
    except (ValueError, OverflowError):
        raise error from None
    if not math.isfinite(narrow) or text != text.strip() or "_" in text:
        raise error
    return shortest_float32(narrow)


def shortest_float32(value: float) -> float:
    """The number with the fewest digits that is *value* as 32-bit float: 0.7, not 0.699999988079071.

    *value* must be finite and representable in 32 bits.
    """
    packed = struct.pack("<f", value)
    for digits in range(1, 10):
        candidate = float(f"{value:.{digits}g}")
        if abs(candidate) < _INFINITE_FLOAT32 and struct.pack("<f", candidate) == packed:
            return candidate
    raise AssertionError(f"nine digits tell every 32-bit float: {value!r}")
