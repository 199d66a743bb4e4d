"""Answers as bytes: key order, omitted zeros, times and numbers as Go writes them (http-api contract 2.3).

Per token only a time and a text are new, so a stream prepares everything else once (`Records`).
"""

from __future__ import annotations

import math
import time
from array import array
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ollamad.plugin import FOREVER_NS, Finished, JsonStruct, Piece, Reply, encode_json, quote_json

_SECOND_NS = 1_000_000_000


def reply(value: Any, status: int = 200) -> Reply:
    """A plain JSON answer."""
    return Reply(status, encode_json(value).encode())


def fields(**pairs: Any) -> JsonStruct:
    """An object in this key order; see `present` for keys that may be left out."""
    return JsonStruct(pairs)


def present(**pairs: Any) -> dict[str, Any]:
    """Those pairs whose value is not zero, empty or null."""
    return {key: value for key, value in pairs.items() if value}


# --- times -------------------------------------------------------------------------------


def utc_time(unix_ns: int) -> str:
    """RFC 3339 in UTC with the fraction's trailing zeros cut."""
    seconds, fraction = divmod(unix_ns, _SECOND_NS)
    return f"{_date(time.gmtime(seconds))}{_fraction(fraction)}Z"


def local_time(unix_ns: int) -> str:
    """RFC 3339 with this machine's offset; ``Z`` where there is none."""
    seconds, fraction = divmod(unix_ns, _SECOND_NS)
    moment = time.localtime(seconds)
    offset = moment.tm_gmtoff // 60
    zone = "Z" if not offset else f"{'-' if offset < 0 else '+'}{abs(offset) // 60:02d}:{abs(offset) % 60:02d}"
    return f"{_date(moment)}{_fraction(fraction)}{zone}"


def expiry(expires_at: float | None) -> str:
    """When a model goes; never is as far away as Go's clock reaches."""
    if expires_at is None:
        return local_time(time.time_ns() + FOREVER_NS)
    return local_time(int(expires_at * 1e9))


def _date(moment: time.struct_time) -> str:
    return (
        f"{moment.tm_year:04d}-{moment.tm_mon:02d}-{moment.tm_mday:02d}"
        f"T{moment.tm_hour:02d}:{moment.tm_min:02d}:{moment.tm_sec:02d}"
    )


def _fraction(nanoseconds: int) -> str:
    return f".{nanoseconds:09d}".rstrip("0").rstrip(".")


# --- vectors -----------------------------------------------------------------------------


class NotFinite(Exception):
    """A vector holds NaN or an infinity."""


def _floats(vector: bytes) -> array[float]:
    values = array("f")
    values.frombytes(vector)
    if not all(map(math.isfinite, values)):
        raise NotFinite
    return values


def vector32(vector: bytes) -> str:
    """Little-endian float32 as JSON: the shortest decimals that read back as the same float32."""
    values = _floats(vector)
    return f"[{','.join(map(_shortest32, values, _rounded(values, 8), _rounded(values, 7)))}]"


def vector64(vector: bytes) -> str:
    """The same numbers widened to float64, which prints more digits."""
    return f"[{','.join(_go(repr(value).removesuffix('.0'), value) for value in _floats(vector))}]"


def _rounded(values: array[float], digits: int) -> list[str]:
    return [f"{value:.{digits}g}" for value in values]


def _shortest32(value: float, eight: str, seven: str) -> str:
    """Most float32 need eight digits or nine; fewer are tried only where seven are enough."""
    if _single(eight) != value:
        return _go(f"{value:.9g}", value, _LEAST_32)
    if _single(seven) != value:
        return _go(eight, value, _LEAST_32)
    for digits in range(1, 7):
        text = f"{value:.{digits}g}"
        if _single(text) == value:
            return _go(text, value, _LEAST_32)
    return _go(seven, value, _LEAST_32)


def _single(text: str) -> float:
    return array("f", (float(text),))[0]


#: Go compares a float32 with its bounds as float32: this one lies a little below 1e-6.
_LEAST_32 = array("f", (1e-6,))[0]


def _go(text: str, value: float, least: float = 1e-6) -> str:
    """Python's form of a number as Go's: an exponent below *least* and from 1e21 only, without leading zeros."""
    plain = not value or least <= abs(value) < 1e21
    if plain and "e" not in text:
        return text
    sign = "-" if value < 0 else ""
    mantissa, _, exponent = text.lstrip("-").partition("e")
    whole, _, fraction = mantissa.partition(".")
    power = int(exponent or 0)
    if plain:
        return sign + (_small(whole + fraction, power) if power < 0 else (whole + fraction).ljust(power + 1, "0"))
    if not exponent:
        power = len(whole) - 1
        whole, fraction = whole[0], (whole[1:] + fraction).rstrip("0")
    tail = f".{fraction}" if fraction else ""
    return f"{sign}{whole}{tail}e{'-' if power < 0 else '+'}{abs(power)}"


def _small(digits: str, power: int) -> str:
    return "0." + "0" * (-power - 1) + digits


# --- records of generate and chat ----------------------------------------------------------


class Records:
    """The records of one answer of generate or chat.

    Args:
        model: The name as requested.
        chat: Whether the text stands in ``message``.
        now_ns: The wall clock, Unix nanoseconds.
    """

    def __init__(self, model: str, *, chat: bool, now_ns: Callable[[], int] = time.time_ns) -> None:
        self._chat = chat
        self._now_ns = now_ns
        self._lead = f'{{"model":{quote_json(model)},"created_at":"'
        self._content = '","message":{"role":"assistant","content":' if chat else '","response":'
        self._behind = '},"done":false}\n' if chat else ',"done":false}\n'

    def piece(self, piece: Piece) -> bytes:
        """The line of one piece."""
        return (self._open(*_split(piece)) + self._behind).encode()

    def _open(self, content: str, thinking: str) -> str:
        quoted = quote_json(content)
        if thinking:
            quoted += f',"thinking":{quote_json(thinking)}'
        return f"{self._lead}{utc_time(self._now_ns())}{self._content}{quoted}"

    def whole(
        self,
        finished: Finished | None,
        *,
        total_ns: int,
        content: str = "",
        thinking: str = "",
        detail: Mapping[str, Any] | None = None,
    ) -> bytes:
        """The last record (without a line end), or the whole answer when *content* is given.

        Without *finished* the answer ended early and is marked as not done.
        """
        head = self._open(content, thinking) + ("}" if self._chat else "")
        tail: dict[str, Any] = {"done": finished is not None}
        if finished is not None:
            tail |= _closing(finished, total_ns, context=not self._chat)
        if detail is not None:
            tail["ollamad"] = detail
        return f"{head},{encode_json(JsonStruct(tail))[1:]}".encode()

    def bare(self, reason: str) -> bytes:
        """The answer of a load or unload: no statistics."""
        return self.whole(Finished(reason=reason), total_ns=0)  # type: ignore[arg-type]

    def rendered(self, prompt: str, image_count: int) -> bytes:
        """The answer to ``_debug_render_only``."""
        info = fields(rendered_template=prompt, **present(image_count=image_count))
        text = '","message":{"role":"","content":""}' if self._chat else '","response":""'
        debug = encode_json(fields(done=False, _debug_info=info))[1:]
        return f"{self._lead}{utc_time(self._now_ns())}{text},{debug}".encode()


def _split(piece: Piece) -> tuple[str, str]:
    return ("", piece.text) if piece.kind == "thinking" else (piece.text, "")


def _closing(finished: Finished, total_ns: int, *, context: bool) -> dict[str, Any]:
    timings = finished.timings
    return present(
        done_reason=finished.reason,
        context=list(finished.context) if context and finished.context else None,
        total_duration=total_ns,
        load_duration=finished.load_ns,
        prompt_eval_count=timings.prompt_tokens,
        prompt_eval_duration=timings.prompt_ns,
        eval_count=timings.generated_tokens,
        eval_duration=timings.generate_ns,
    )


def error_line(message: str) -> bytes:
    """The last line of a stream that fails."""
    return f'{{"error":{quote_json(message)}}}\n'.encode()


def joined(pieces: Sequence[Piece]) -> tuple[str, str]:
    """(content, thinking) of all pieces."""
    content = "".join(piece.text for piece in pieces if piece.kind == "content")
    return content, "".join(piece.text for piece in pieces if piece.kind == "thinking")
