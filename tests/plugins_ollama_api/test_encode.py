"""Times, numbers and records as Go prints them."""

import json
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ollamad_ollama_api.encode import NotFinite, Records, expiry, local_time, utc_time, vector32, vector64

from ollamad.plugin import Finished, Piece, Timings

NOW = 1_795_515_838_071_000_000


def test_times() -> None:
    """Fractions lose their trailing zeros, whole seconds their point."""
    assert utc_time(NOW) == "2026-11-24T10:23:58.071Z"
    assert utc_time(NOW - 71_000_000) == "2026-11-24T10:23:58Z"
    assert utc_time(NOW + 1) == "2026-11-24T10:23:58.071000001Z"


@pytest.mark.parametrize(("zone", "printed"), [("UTC0", "10:23:58.071Z"), ("XXX-5:30", "15:53:58.071+05:30")])
def test_local_times(monkeypatch: pytest.MonkeyPatch, zone: str, printed: str) -> None:
    """Local times carry their offset."""
    import time

    monkeypatch.setenv("TZ", zone)
    time.tzset()
    try:
        assert local_time(NOW) == f"2026-11-24T{printed}"
    finally:
        monkeypatch.undo()
        time.tzset()


def test_never_is_far_away() -> None:
    """A model that never expires shows a date centuries away."""
    assert expiry(None) > "2300"
    assert expiry(0.5) != expiry(0.25)


@pytest.mark.parametrize(
    ("value", "single", "double"),
    [
        (0.1, "0.1", "0.10000000149011612"),
        (-1.0, "-1", "-1"),
        (0.0, "0", "0"),
        (-0.0, "-0", "-0"),
        (1e-7, "1e-7", "1.0000000116860974e-7"),
        (1e-6, "0.000001", "9.999999974752427e-7"),
        (0.00001234, "0.00001234", "0.000012339999557298142"),
        (1e21, "1e+21", "1.0000000200408773e+21"),
        (123456789.0, "123456790", "123456792"),
        (1.5e20, "150000000000000000000", "150000003006131600000"),
        (3.4028235e38, "3.4028235e+38", "3.4028234663852886e+38"),
    ],
)
def test_floats(value: float, single: str, double: str) -> None:
    """float32 takes the fewest digits that read back; exponents stand where Go puts them."""
    packed = struct.pack("<f", value)
    assert vector32(packed) == f"[{single}]"
    assert vector64(packed) == f"[{double}]"


@given(st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), max_size=8))
def test_vectors_read_back(values: list[float]) -> None:
    """What is printed reads back as the same numbers."""
    packed = struct.pack(f"<{len(values)}f", *values)
    for printed in (vector32(packed), vector64(packed)):
        assert struct.pack(f"<{len(values)}f", *json.loads(printed, parse_int=float)) == packed


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_a_vector_must_be_finite(value: float) -> None:
    """NaN and infinities are told, not printed (EM-07)."""
    with pytest.raises(NotFinite):
        vector32(struct.pack("<f", value))


def test_records_of_generate() -> None:
    """Key order, escapes and omitted zeros of generate."""
    records = Records("m<", chat=False, now_ns=lambda: NOW)
    head = '{"model":"m\\u003c","created_at":"2026-11-24T10:23:58.071Z",'
    assert records.piece(Piece("a\n")).decode() == head + '"response":"a\\n","done":false}\n'
    assert records.piece(Piece("t", "thinking")).decode() == head + '"response":"","thinking":"t","done":false}\n'
    finished = Finished("length", Timings(2, 0, 3, 4, 5), 6, context=(7, 8))
    assert records.whole(finished, total_ns=9).decode() == (
        head + '"response":"","done":true,"done_reason":"length","context":[7,8],"total_duration":9,"load_duration":6,'
        '"prompt_eval_count":2,"prompt_eval_duration":3,"eval_count":4,"eval_duration":5}'
    )
    assert records.whole(None, total_ns=9, content="x", thinking="y").decode() == (
        head + '"response":"x","thinking":"y","done":false}'
    )
    assert records.bare("load").decode() == head + '"response":"","done":true,"done_reason":"load"}'
    assert records.rendered("p", 1).decode() == (
        head + '"response":"","done":false,"_debug_info":{"rendered_template":"p","image_count":1}}'
    )


def test_records_of_chat() -> None:
    """In chat the text stands in a message, and there is no context."""
    records = Records("m", chat=True, now_ns=lambda: NOW)
    head = '{"model":"m","created_at":"2026-11-24T10:23:58.071Z",'
    assert records.piece(Piece("a")).decode() == (head + '"message":{"role":"assistant","content":"a"},"done":false}\n')
    assert records.piece(Piece("t", "thinking")).decode() == (
        head + '"message":{"role":"assistant","content":"","thinking":"t"},"done":false}\n'
    )
    finished = Finished("stop", Timings(2), context=(7, 8))
    assert records.whole(finished, total_ns=9, content="x", detail={"a": 1}).decode() == (
        head + '"message":{"role":"assistant","content":"x"},"done":true,"done_reason":"stop","total_duration":9,'
        '"prompt_eval_count":2,"ollamad":{"a":1}}'
    )
    assert records.rendered("p", 0).decode() == (
        head + '"message":{"role":"","content":""},"done":false,"_debug_info":{"rendered_template":"p"}}'
    )
