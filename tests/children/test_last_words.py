"""What is kept of a child's output."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollamad.children.last_words import KEPT_BYTES, LastWords, captured_error, is_out_of_memory, without_paths


@pytest.mark.parametrize(
    ("line", "captured"),
    [
        ("llama_model_load: error loading model: unknown type", "error loading model: unknown type"),
        ("12:00 fatal error: stack", "fatal error: stack"),
        ("x error: y Error: z", "error: y Error: z"),
        ("panic: oh", "panic: oh"),
        ("ggml.c:1: GGML_ASSERT(a) failed", "GGML_ASSERT(a) failed"),
        ("CUDA error 2 at x", "CUDA error 2 at x"),
        ('{"level":"ERR"}', '"ERR"}'),
        ("llama_init_from_model: failed", "llama_init_from_model: failed"),
        ("ggml: failed to allocate buffer", "ggml: failed to allocate buffer"),
        ("W Out Of Memory now", "W Out Of Memory now"),
        ("E cudaMalloc failed: out of memory", "cudaMalloc failed: out of memory"),
        ("loading tensors", ""),
        ("errors: none", ""),
    ],
)
def test_lines_that_tell_of_errors(line: str, captured: str) -> None:
    """A line counts from its first error word on; a line about memory counts whole."""
    assert captured_error(line) == captured


@pytest.mark.parametrize(
    "text",
    [
        "CUDA: OUT OF MEMORY",
        "out of device memory",
        "cudaMalloc failed",
        "hipMalloc failed",
        "Failed to allocate 3 bytes",
        "allocation failed",
        "not enough memory",
        "insufficient memory",
        "vk_error_out_of_device_memory",
        "ErrorOutOfMemory",
    ],
)
def test_words_for_no_memory(text: str) -> None:
    """Each library's way of saying it (runtime contract, section 1.13) is known, in any case."""
    assert is_out_of_memory(text)
    assert not is_out_of_memory("memory: 12 MiB")


@pytest.mark.parametrize(
    ("text", "cut"),
    [
        ("cannot open /var/lib/blobs/sha256-1: no", "cannot open sha256-1: no"),
        ("at '/a/b/c.py', line 3", "at 'c.py', line 3"),
        ("(/a/b/c)", "(c)"),
        ("3/4 done, and/or a/b", "3/4 done, and/or a/b"),
        ("http://x", "http://x"),
        ("/single", "/single"),
        ("", ""),
    ],
)
def test_paths_are_cut_to_their_last_part(text: str, cut: str) -> None:
    """A client sees the name of a file, not where we keep it."""
    assert without_paths(text) == cut


@given(st.lists(st.binary(max_size=50)))
def test_output_may_be_cut_anywhere(chunks: list[bytes]) -> None:
    """Lines are the same however the output arrived."""
    seen: list[str] = []
    words, whole = LastWords(seen.append), LastWords()
    for chunk in chunks:
        words.feed(chunk)
    whole.feed(b"".join(chunks))
    words.end()
    whole.end()
    assert words.errors == whole.errors
    assert words.tail == whole.tail
    assert all("\n" not in line for line in seen)


def test_only_the_last_8_kib_are_kept() -> None:
    """Neither output without end nor a flood of errors nor a line without end takes memory."""
    words = LastWords()
    for number in range(5000):
        words.feed(f"error: number {number}\n".encode())
    words.feed(b"x" * 1_000_000)
    assert len(words.tail) == KEPT_BYTES
    assert len(words.errors) <= KEPT_BYTES
    assert words.errors.startswith("error: number ")
    assert words.last_error == "error: number 4999"
    assert len(words._rest) <= KEPT_BYTES


def test_errors_of_a_good_start_are_forgotten() -> None:
    """After a start that went well nothing captured is left, but the tail is."""
    words = LastWords()
    words.feed(b"error: harmless\n")
    words.forget_errors()
    assert words.errors == ""
    assert "harmless" in words.tail
