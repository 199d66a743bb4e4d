"""The bounded header reader: right files, wrong files, and files made to hurt."""

import os
import struct
import time
import tracemalloc
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

import gguf_writer as w
import pytest
from gguf_writer import TensorSpec
from hypothesis import given, settings
from hypothesis import strategies as st

from ollamad.errors import InvalidModelFile
from ollamad.gguf import Array, Header, Limits, read_header, starts_as_gguf

RICH: dict[str, Any] = {
    "general.architecture": "test",
    "test.u8": w.u8(255),
    "test.i32": w.i32(-42),
    "test.i64": w.i64(-(2**63)),
    "test.u64": w.u64(2**64 - 1),
    "test.f32": 1e-6,
    "test.f64": w.f64(1e-6),
    "test.flag": True,
    "test.text": "Ünï",
    "test.heads": [1, 5, 3, 4],
    "test.words": ["a", "bc", ""],
    "test.none": w.array(8, ()),
}
TENSORS = [TensorSpec("token_embd.weight", (6, 2)), TensorSpec("blk.0.attn_q.weight", (64,), w.Q8_0, seed=1)]


@pytest.fixture
def read(tmp_path: Path) -> Any:
    def read_bytes(data: bytes, **how: Any) -> Header:
        path = tmp_path / "file.gguf"
        path.write_bytes(data)
        return read_header(path, **how)

    return read_bytes


def refused(read: Any, data: bytes, *texts: str, **how: Any) -> None:
    with pytest.raises(InvalidModelFile) as caught:
        read(data, **how)
    for text in texts:
        assert text in str(caught.value)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("version", [1, 2, 3])
def test_reads_every_version_and_byte_order(read: Any, version: int, order: str) -> None:
    """All three versions mean the same in both byte orders."""
    header = read(w.build(RICH, TENSORS, version=version, order=order), arrays=True)
    assert (header.version, header.byte_order) == (version, "little" if order == "<" else "big")
    assert header.architecture == "test"
    assert [header.get(key) for key in ("u8", "i32", "i64", "u64")] == [255, -42, -(2**63), 2**64 - 1]
    assert [header.get(key) for key in ("f32", "f64", "flag", "text")] == [1e-6, 1e-6, True, "Ünï"]
    assert header.get("heads") == Array(4, 4, (1, 5, 3, 4))
    assert header.get("words") == Array(8, 3, ("a", "bc", ""))
    assert header.get("none") == Array(8, 0, ())
    assert [(t.name, t.type_name, t.shape, t.offset, t.size_bytes) for t in header.tensors] == [
        ("token_embd.weight", "F32", (6, 2), 0, 48),
        ("blk.0.attn_q.weight", "Q8_0", (64,), 64, 68),
    ]
    assert header.parameter_count == 76
    assert header.data_offset % 32 == 0


def test_arrays_are_stepped_over(read: Any) -> None:
    """Without `arrays`, strings are stepped over; short number arrays are kept."""
    header = read(w.build({**RICH, "test.long": w.array(6, [0.5] * 1025)}, TENSORS))
    assert header.get("words") == Array(8, 3)
    assert header.get("long") == Array(6, 1025)
    assert header.get("heads") == Array(4, 4, (1, 5, 3, 4))
    assert len(header.tensors) == 2


def test_arrays_of_every_type(read: Any) -> None:
    """Arrays of each scalar type come back, floats in their shortest form."""
    header = read(w.build({"a": [True, False], "b": [0.1, 1e-5, 16777217.0], "c": w.array(11, [-1, 2**40])}))
    assert header.metadata["a"].values == (True, False)
    assert header.metadata["b"].values == (0.1, 1e-5, 16777216.0)
    assert header.metadata["c"].values == (-1, 2**40)


@pytest.mark.parametrize(
    "bits", [0x00000001, 0x7F7FFFFF, 0x3DCCCCCD, 0x358637BD, 0x42F6E979, 0x80000000, 0x4B800001, 0x33D6BF95, 0xC2C80000]
)
def test_float32_keeps_its_value(read: Any, bits: int) -> None:
    """The decimal that stands for a 32-bit float rounds to exactly that float."""
    (value,) = struct.unpack("<f", struct.pack("<I", bits))
    shown = read(w.build({"x": w.Typed(6, value)})).metadata["x"]
    assert struct.pack("<f", shown) == struct.pack("<I", bits)
    assert len(repr(shown).replace(".", "").replace("-", "").strip("0").partition("e")[0]) <= 9


@pytest.mark.parametrize("value", [float("inf"), float("-inf")])
def test_infinite_floats_stay(read: Any, value: float) -> None:
    """What has no digits is left alone."""
    assert read(w.build({"x": value})).metadata["x"] == value


def test_text_that_is_not_utf8(read: Any) -> None:
    """Bytes that are no UTF-8 become U+FFFD."""
    assert read(w.build({"x": b"a\xff"})).metadata["x"] == "a\ufffd"


def test_parameter_count_is_recomputed(read: Any) -> None:
    """A claimed parameter count is replaced by the sum over the tensors."""
    header = read(w.build({"general.parameter_count": w.u64(7)}, TENSORS))
    assert header.metadata["general.parameter_count"] == 76


def test_alignment_moves_the_data(read: Any) -> None:
    """The tensors' data starts at the next multiple of the alignment."""
    header = read(w.build({"general.alignment": 1024}, TENSORS, alignment=1024))
    assert (header.alignment, header.data_offset) == (1024, 1024)


def test_the_empty_gguf(read: Any) -> None:
    """The 68 bytes of appendix F are a GGUF without tensors."""
    assert len(w.EMPTY) == 68
    header = read(w.EMPTY)
    assert (header.architecture, header.tensors, header.parameter_count) == ("test", (), 0)


def test_demo_model() -> None:
    """The model that ships is read: its vocabulary, its tensors, its template."""
    with as_file(files("ollamad") / "_data" / "demo.gguf") as path:
        header = read_header(path)
        assert header.text("tokenizer.chat_template")
        assert header.get("tokenizer.ggml.tokens") == Array(8, 2048)
        whole = read_header(path, arrays=True).get("tokenizer.ggml.tokens")
    assert isinstance(whole, Array)
    assert whole.values is not None
    assert len(whole.values) == 2048
    assert (header.parameter_count, len(header.tensors)) == (4066944, 68)


# --- refused --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"", "invalid file magic at offset 0"),
        (b"GG", "invalid file magic at offset 0"),
        (b"This is a text file, no model.\n" * 9, "invalid file magic at offset 0"),
        (bytes(4096), "invalid file magic at offset 0"),
        (b"GGUF", "unexpected EOF at offset 4"),
        (b"GGUF" + struct.pack("<IQQ", 4, 0, 0), "unsupported GGUF version 4 at offset 4"),
        (b"GGUF" + struct.pack(">IQQ", 3, 0, 0), "unsupported GGUF version"),
        (b"GGUF" + b"text" * 99, "unsupported GGUF version"),
    ],
)
def test_what_is_no_gguf(read: Any, data: bytes, text: str) -> None:
    """Another file is refused at its first bytes."""
    refused(read, data, text)


@pytest.mark.parametrize("count", [2**31, 2**32 - 1, 2**63, 2**64 - 1])
@pytest.mark.parametrize("what", ["key", "tensor"])
def test_lying_counts(read: Any, what: str, count: int) -> None:
    """A count is refused for its size, before anything is read or allocated."""
    lie = {"n_keys": count} if what == "key" else {"n_tensors": count}
    refused(read, w.build(RICH, TENSORS, **lie), f"GGUF {what} count {count} exceeds maximum", "at offset ")


@pytest.mark.parametrize("length", [2**24 + 1, 2**31, 2**63, 2**64 - 1])
def test_lying_strings(read: Any, length: int) -> None:
    """G5: a string past 16 MiB is refused by its claim, as value, as key and as element."""
    text = f"GGUF string length {length} exceeds maximum 16777216 at offset "
    refused(read, w.build({"a": w.Typed(8, "x", length=length)}), text)
    refused(read, b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + w.Writer().string("x", length), text)
    elements = b"".join(w.Writer().string("x", n) for n in (1, length))
    for arrays in (False, True):
        broken = w.build({"a": w.array(0, elements, 2)}).replace(
            struct.pack("<IIQ", 9, 0, 2), struct.pack("<IIQ", 9, 8, 2)
        )
        refused(read, broken, text, arrays=arrays)


@pytest.mark.parametrize("arrays", [False, True])
def test_strings_that_run_past_the_end(read: Any, arrays: bool) -> None:
    """A string shorter than the limit but longer than the file is an end of file, with its offset."""
    refused(read, w.build({"a": w.Typed(8, "x", length=1000)}), "unexpected EOF at offset", arrays=arrays)
    refused(read, w.build({"a": w.array(8, ["x"], 3)}), "unexpected EOF at offset", arrays=arrays)
    refused(read, w.build({"a": w.array(4, [1], 300)}), "unexpected EOF at offset", arrays=arrays)
    refused(read, w.build({"a": w.array(4, [1], 10**6)}), "unexpected EOF at offset", arrays=arrays)


@pytest.mark.parametrize("length", [2**26 + 1, 2**31, 2**63])
@pytest.mark.parametrize("element", [0, 4, 8])
def test_lying_arrays(read: Any, element: int, length: int) -> None:
    """G5: an array past 64 Mi elements is refused by its claim; the text names the key."""
    data = w.build({"tokenizer.ggml.tokens": w.array(element, (), length)})
    refused(read, data, f"GGUF array size {length} exceeds maximum 67108864", '"tokenizer.ggml.tokens"')


def test_unknown_types(read: Any) -> None:
    """Value types past 12, and arrays of arrays, are refused."""
    bad = w.build({"a.key": 1})
    refused(read, bad.replace(struct.pack("<II", 4, 1), struct.pack("<II", 13, 1)), "invalid type: 13", '"a.key"')
    nested = w.build({"a.key": w.array(4, [1])}).replace(struct.pack("<II", 9, 4), struct.pack("<II", 9, 9))
    refused(read, nested, "invalid array type: 9", '"a.key"')


def test_version_1_strings(read: Any) -> None:
    """G5: a version 1 string counts its terminator, so it is never empty and ends in NUL."""
    head = b"GGUF" + struct.pack("<III", 1, 0, 1)
    refused(read, head + struct.pack("<Q", 0) + bytes(64), "invalid GGUF v1 string length: 0 at offset 16")
    refused(read, head + struct.pack("<Q", 2) + b"ab" + bytes(64), "invalid GGUF v1 string terminator at offset 25")
    array = w.build({"a": w.array(8, ["", "b"])}, version=1).replace(
        struct.pack("<Q", 1) + b"\0" + struct.pack("<Q", 2), struct.pack("<Q", 0) + b"\0" + struct.pack("<Q", 2)
    )
    refused(read, array, "invalid GGUF v1 string length: 0")


@pytest.mark.parametrize(
    ("value", "shown"), [(w.u32(0), "0"), (w.i32(-32), "-32"), (w.u32(33), "33"), ("x", "str"), (True, "True")]
)
def test_bad_alignment(read: Any, value: Any, shown: str) -> None:
    """G5: an alignment is a power of two."""
    refused(read, w.build({"general.alignment": value}, TENSORS), f"invalid GGUF alignment: {shown}")


def test_repeated_names(read: Any) -> None:
    """A repeated key or tensor is refused by name and offset."""
    refused(read, w.build([("a.b", 1), ("a.b", 2)]), 'key "a.b" repeated at offset ')
    refused(read, w.build({}, [TENSORS[0], TENSORS[0]]), 'tensor "token_embd.weight" repeated at offset ')


@pytest.mark.parametrize(
    ("tensor", "text"),
    [
        (TensorSpec("x", (512, 2), data=bytes(32)), 'tensor "x" offset+size ('),
        (TensorSpec("x", (8,), offset=2**40), 'tensor "x" offset+size ('),
        (TensorSpec("x", (8,), offset=2**64 - 1), 'tensor "x" offset+size ('),
        (TensorSpec("x", (2**64 - 1, 2), data=b""), 'tensor "x" elements overflow'),
        (TensorSpec("x", (2**62, 2), data=b""), 'tensor "x" size overflow'),
        (TensorSpec("x", (1, 1, 1, 1, 1)), 'tensor "x" dimensions 5 exceeds maximum 4'),
        (TensorSpec("x", (31,), w.Q4_0, data=bytes(18)), 'tensor "x" size overflow'),
        (TensorSpec("x", (32,), 4, data=bytes(18)), 'tensor "x" size overflow'),
        (TensorSpec("x", (32,), 2**31, data=bytes(18)), 'tensor "x" size overflow'),
    ],
)
def test_tensors_that_cannot_be(read: Any, tensor: TensorSpec, text: str) -> None:
    """G5: geometry is checked against the type and against the file's size; the text names the tensor."""
    refused(read, w.build({}, [tensor]), text)


def test_parameter_count_overflow(read: Any) -> None:
    """The sum of all elements has to fit 64 bits, too."""
    tensors = [TensorSpec(name, (2**63 - 1,), 24, data=b"") for name in "abc"]
    refused(read, w.build({}, tensors), "parameter count overflow")
    empty = [TensorSpec(name, (0, 2**63), data=b"") for name in "ab"]
    assert read(w.build({}, empty)).parameter_count == 0


def test_hostile_names_in_texts(read: Any) -> None:
    """A name in an error text is short and has no control characters."""
    with pytest.raises(InvalidModelFile) as caught:
        read(w.build({}, [TensorSpec("\x1b[31m\n" + "x" * 500, (1,) * 5)]))
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 200


def test_every_truncation_of_the_demo_model(tmp_path: Path) -> None:
    """Cut after any of its first 4096 bytes, the demo model is refused, quickly and naming where."""
    data = (files("ollamad") / "_data" / "demo.gguf").read_bytes()[:4096]
    path = tmp_path / "cut.gguf"
    path.write_bytes(data)
    for length in range(4096, -1, -1):
        os.truncate(path, length)
        with pytest.raises(InvalidModelFile, match="at offset"):
            read_header(path)


def test_header_limit(read: Any) -> None:
    """A header longer than the limit is refused, whatever fills it."""
    limits = Limits(header_bytes=4096)
    for value in (["x" * 100] * 100, w.array(0, bytes(5000)), "x" * 5000):
        refused(read, w.build({"a": value, "b": 1}), "GGUF header exceeds maximum 4096 bytes at offset", limits=limits)


def test_sparse_giant_is_cheap(tmp_path: Path) -> None:
    """A sparse 1 TiB file of empty strings is refused after a bounded part of it, within a few windows of memory."""
    path = tmp_path / "sparse.gguf"
    path.write_bytes(w.build({"a": w.array(8, (), 2**26)}))
    os.truncate(path, 2**40)
    tracemalloc.start()
    try:
        with pytest.raises(InvalidModelFile, match="GGUF header exceeds maximum"):
            read_header(path, limits=Limits(header_bytes=2**21))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 4 * 2**20


def test_large_vocabulary_is_quick(tmp_path: Path) -> None:
    """A vocabulary of 152k tokens with merges is stepped over in well under 0.3 s, within a few windows of memory."""
    tokens = [f"token{n}" for n in range(152_000)]
    merges = [f"left{n} right{n}" for n in range(151_000)]
    header = {"tokenizer.ggml.tokens": tokens, "tokenizer.ggml.token_type": [1] * len(tokens)}
    path = w.write(tmp_path / "big.gguf", {**header, "tokenizer.ggml.merges": merges, "last": "x"})
    durations = []
    for _ in range(3):
        started = time.process_time()
        seen = read_header(path)
        durations.append(time.process_time() - started)
    assert seen.metadata["tokenizer.ggml.merges"] == Array(8, 151_000)
    assert seen.metadata["last"] == "x"
    assert min(durations) < 0.3


SMALL = w.build(RICH, TENSORS)


@settings(max_examples=400, deadline=1000)
@given(
    st.lists(st.tuples(st.integers(0, len(SMALL) - 1), st.integers(0, 255)), min_size=1, max_size=8),
    st.integers(0, len(SMALL)),
    st.booleans(),
)
def test_mutations_are_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, changes: list[tuple[int, int]], length: int, arrays: bool
) -> None:
    """Whatever bytes change, a header is either read or refused with `InvalidModelFile`."""
    data = bytearray(SMALL)
    for index, value in changes:
        data[index] = value
    path = tmp_path_factory.getbasetemp() / "mutated.gguf"
    path.write_bytes(data[:length] if length % 2 else data)
    try:
        header = read_header(path, arrays=arrays)
    except InvalidModelFile:
        return
    assert all(header.data_offset + t.offset + t.size_bytes <= header.size_bytes for t in header.tensors)


def test_missing_file(tmp_path: Path) -> None:
    """A file that cannot be read is no invalid model."""
    with pytest.raises(FileNotFoundError):
        read_header(tmp_path / "none")


@pytest.mark.parametrize(("data", "expected"), [(b"GGUF", True), (b"FUGG....", True), (b"GGU", False), (b"", False)])
def test_magic(tmp_path: Path, data: bytes, expected: bool) -> None:
    """The magic alone tells a GGUF from another file."""
    path = tmp_path / "file"
    path.write_bytes(data)
    assert starts_as_gguf(path) is expected
