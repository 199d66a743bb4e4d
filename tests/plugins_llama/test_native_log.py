"""What the log of llama.cpp tells: buffers, last words, and nothing of paths."""

from __future__ import annotations

import pytest
from ollamad_llama.native_log import (
    CONT,
    DEBUG,
    ERROR,
    INFO,
    WARN,
    NativeLog,
    device_of,
    kind_of,
    memory_of,
    says_out_of_memory,
    without_paths,
)

MIB = 1024 * 1024


def feed(*lines: str) -> NativeLog:
    log = NativeLog()
    for line in lines:
        log.feed(INFO, line + "\n")
    return log


def totals(log: NativeLog, file_mib: float = 0) -> tuple[float, float]:
    """Size and size on GPUs, in MiB."""
    memory = memory_of(log.buffers, round(file_mib * MIB))
    sums = [(one.kind, one.weights_bytes + one.kv_bytes + one.compute_bytes) for one in memory]
    return sum(size for _, size in sums) / MIB, sum(size for kind, size in sums if kind != "cpu") / MIB


def line(buffer: str, size: float, kind: str = "model", component: str = "load_tensors") -> str:
    return f"{component}: {buffer:>12} {kind} buffer size = {size:8.2f} MiB"


CASES = {
    "MPR-01": ([("Metal", 1234.56), ("CPU", 56.78)], 0, (1291.34, 1234.56)),
    "MPR-02": ([("CUDA0", 800), ("CUDA1", 400), ("CUDA_Host", 100)], 0, (1300, 1200)),
    "MPR-03": ([("ROCm0", 2000), ("ROCm_Host", 150)], 0, (2150, 2000)),
    "MPR-04": ([("Vulkan0", 500), ("Vulkan_Host", 50)], 0, (550, 500)),
    "MPR-05": ([("Metal_Private", 300), ("Metal_Mapped", 20)], 0, (320, 320)),
    "MPR-17": ([("CUDA0", 12900), ("CPU_Mapped", 13260)], 0, (26160, 12900)),
    "MPR-18": ([("CUDA0", 6500), ("CPU_Mapped", 7000)], 13578, (13500, 6500)),
    "MPR-16": ([("CPU", 234.82), ("CPU_REPACK", 129.49), ("MTL0", 132), ("MTL0", 47.5, "KV")], 0, (543.81, 179.5)),
    "MPR-15": (
        [("CPU_Mapped", 1918.35), ("CPU_REPACK", 1299.38), ("CPU", 112, "KV"), ("CPU", 72, "compute")],
        1919,
        (3401.73, 0),
    ),
    "MPR-13": (
        [
            ("CUDA0", 12900),
            ("CPU_Mapped", 13260),
            ("CUDA0", 460, "KV"),
            ("CUDA0", 350, "compute"),
            ("CUDA_Host", 270, "compute"),
        ],
        13578,
        (14658 - 0, 13710),
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_buffers_are_summed_by_device(case: str) -> None:
    """Bytes on devices and on the host come to what the contract counts."""
    buffers, file_mib, expected = CASES[case]
    log = feed(*(line(*one) for one in buffers))
    assert totals(log, file_mib) == pytest.approx(expected, abs=0.02)


def test_an_unrelated_line_counts_nothing() -> None:
    """MPR-06: only buffer lines have sizes."""
    assert totals(feed("llama_model_loader: loaded meta data with 35 key-value pairs")) == (0, 0)


def test_a_repeated_buffer_replaces_the_earlier_one() -> None:
    """MPR-07: the sizes of a trial run do not add to those of the real load."""
    trial, real = (1000, 2000, 300, 400), (1100, 2200, 330, 440)
    buffers = ("CUDA0", "CUDA1", "CUDA0", "CUDA_Host")
    kinds = ("model", "model", "KV", "compute")
    lines = [line(b, size, k) for sizes in (trial, real) for b, size, k in zip(buffers, sizes, kinds, strict=True)]
    lines += [line("CUDA0", 10, "KV", "draft"), line("CUDA0", 20, "compute", "draft")]
    assert totals(feed(*lines)) == pytest.approx((4100, 3660))


@pytest.mark.parametrize(
    ("buffer", "device", "kind"),
    [
        ("Metal", "Metal", "metal"),
        ("Metal_Private", "Metal", "metal"),
        ("CUDA0", "CUDA0", "cuda"),
        ("CUDA1", "CUDA1", "cuda"),
        ("ROCm0", "ROCm0", "rocm"),
        ("Vulkan0", "Vulkan0", "vulkan"),
        ("MUSA0", "MUSA0", "musa"),
        ("MTL0_Mapped", "MTL0", "metal"),
        ("MTL0_REPACK", "MTL0", "metal"),
        ("CUDA0_Mapped", "CUDA0", "cuda"),
        ("CPU", "CPU", "cpu"),
        ("BLAS", "CPU", "cpu"),
        ("CUDA_Host", "CPU", "cpu"),
        ("ROCm_Host", "CPU", "cpu"),
        ("Vulkan_Host", "CPU", "cpu"),
        ("CPU_Mapped", "CPU", "cpu"),
        ("CPU_REPACK", "CPU", "cpu"),
    ],
    ids=[f"GPB-{number:02}" for number in range(1, 18)],
)
def test_a_buffer_belongs_to_a_device(buffer: str, device: str, kind: str) -> None:
    """Names of buffers tell which device holds them."""
    assert (device_of(buffer), kind_of(device_of(buffer))) == (device, kind)


def test_errors_are_kept_until_taken() -> None:
    """The last words of a failure are its errors, without the rest; debug lines are not even printed."""
    log = NativeLog()
    assert log.feed(INFO, "loading\n") == "loading\n"
    assert log.feed(DEBUG, "noise\n") == ""
    assert log.feed(CONT, "more noise\n") == ""
    log.feed(ERROR, "error loading ")
    log.feed(CONT, "model: bad magic\n")
    log.feed(WARN, "and a warning\n")
    assert log.take_words() == "error loading model: bad magic"
    assert log.take_words() == ""


def test_warnings_are_the_words_of_a_failure_without_errors() -> None:
    """What only warned before it failed has its warnings for a reason."""
    log = NativeLog()
    log.feed(WARN, "no such rope type\n")
    assert log.take_words() == "no such rope type"


@pytest.mark.parametrize(
    ("words", "memory"),
    [
        ("cudaMalloc failed: out of memory", True),
        ("error: Insufficient Memory (00000008:kIOGPUCommandBufferCallbackErrorOutOfMemory)", True),
        ("failed to allocate context", True),
        ("model loaded successfully", False),
    ],
    ids=["CAP-06", "CAP-07", "CAP-08", "CAP-09"],
)
def test_lack_of_memory_is_recognised(words: str, memory: bool) -> None:
    """Words about memory make a failure one of memory."""
    assert says_out_of_memory(words) is memory


def test_no_path_is_left_in_the_words() -> None:
    """What a client may see names no path of this host."""
    words = "failed to open GGUF file '/store/blobs/sha256-1' (No such file); /store/blobs/sha256-1"
    assert without_paths(words, ["/store/blobs/sha256-1"]) == (
        "failed to open GGUF file the model file (No such file); the model file"
    )
