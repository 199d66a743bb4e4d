"""Which variables a child gets: an allow-list, because ours may hold keys and the service manager's socket."""

from __future__ import annotations

from collections.abc import Mapping

_NAMES = frozenset(
    {"PATH", "LD_LIBRARY_PATH", "HOME", "LANG", "TZ", "TMPDIR", "USER", "VIRTUAL_ENV", "GPU_DEVICE_ORDINAL"}
)
#: Devices (CUDA, HIP, ROCm, HSA, NVIDIA containers), llama.cpp, OpenMP, Python, locale; `FAKE_` is the test backend's.
_PREFIXES = (
    "CUDA_",
    "DYLD_",
    "FAKE_",
    "GGML_",
    "GOMP_",
    "HIP_",
    "HSA_",
    "LC_",
    "LLAMA_ARG_",
    "NVIDIA_",
    "OMP_",
    "PYTHON",
    "ROCM_",
    "ROCR_",
)
#: Chosen by `ollamad serve` for itself, to give memory back after a burst; it would only slow a child.
_NOT_INHERITED = frozenset({"PYTHONMALLOC"})
#: llama.cpp's own backtrace starts gdb, which can hang a dying runner; numpy multiplies no matrices here and needs no
#: threads for it.
_DEFAULTS = {"GGML_NO_BACKTRACE": "1", "OPENBLAS_NUM_THREADS": "1"}
#: OpenMP threads meet after every operation of a step. Spinning there for long takes the cores from others and costs
#: 100 times a step when they take ours; never spinning costs a fifth to two thirds of the speed when nobody does.
#: A thousand turns (some 20 us) have the good of both (docs/performance.md). Whoever sets one of them means it.
_WAITING = {"OMP_WAIT_POLICY": "passive", "GOMP_SPINCOUNT": "1000"}


def child_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """Return what a child may see of *environment*, with our defaults where it says nothing."""
    allowed = {name: value for name, value in environment.items() if name in _NAMES or name.startswith(_PREFIXES)}
    waiting = {} if _WAITING.keys() & allowed.keys() else _WAITING
    return {**_DEFAULTS, **waiting, **{name: value for name, value in allowed.items() if name not in _NOT_INHERITED}}


#: Source: runtime contract, section 2.3.
_LOGGED_NAMES = frozenset({"PATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH"})
_LOGGED_PREFIXES = ("CUDA_", "ROCR_", "ROCM_", "HIP_", "HSA_", "GGML_")
_SECRET = ("API", "KEY", "TOKEN", "SECRET", "PASSWORD", "PASS", "CREDENTIAL", "AUTH")


def loggable(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the variables of a child that decide about devices, with what may be a secret blanked."""
    return {
        name: "[redacted]" if any(word in name.upper() for word in _SECRET) else value
        for name, value in sorted(environment.items())
        if name in _LOGGED_NAMES or name.startswith(_LOGGED_PREFIXES)
    }
