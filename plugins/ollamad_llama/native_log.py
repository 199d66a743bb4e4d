"""The log of llama.cpp: what it says on stderr, the last words of a failure, and the sizes of its buffers.

llama.cpp has no call that tells how large its buffers are, so they are read from its log lines, as
Ollama does. Source: ``llama-model.cpp``, ``llama-kv-cache.cpp``, ``llama-context.cpp``
(``... buffer size = ... MiB``).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from ollamad.plugin import Memory

_MIB = 1024 * 1024
#: ``enum ggml_log_level``.
DEBUG, INFO, WARN, ERROR, CONT = 1, 2, 3, 4, 5
#: Enough for every line that a failing load says about its reason.
_KEPT_BYTES = 8 * 1024

_BUFFER = re.compile(r"^(\w+):\s+(\S+) (model|KV|compute|output|RS) buffer size\s*=\s*([\d.]+) MiB")
_SUFFIXES = ("_Mapped", "_REPACK", "_Private")
_OUT_OF_MEMORY = (
    "out of memory",
    "outofmemory",
    "insufficient memory",
    "failed to allocate",
    "unable to allocate",
    "cannot allocate memory",
    "bad_alloc",
    "cudamalloc failed",
)


@dataclass(slots=True)
class NativeLog:
    """Collects what llama.cpp logs between two `take_words` calls."""

    buffers: dict[tuple[str, str, str], float] = field(default_factory=dict)
    _errors: list[str] = field(default_factory=list)
    _warnings: list[str] = field(default_factory=list)
    _line: str = ""
    _level: int = INFO

    def feed(self, level: int, text: str) -> str:
        """Take one piece of log text; return the text that belongs on stderr ("" for debug lines)."""
        if level != CONT:
            self._level = level
        if self._level <= DEBUG:
            return ""
        self._line += text
        *lines, self._line = self._line.split("\n")
        for line in lines:
            self._note(line)
        return text

    def take_words(self) -> str:
        """Return the errors since the last call, or the warnings if there was none; one per line, the last 8 KiB."""
        words = self._errors or self._warnings
        self._errors, self._warnings = [], []
        return "\n".join(words)[-_KEPT_BYTES:]

    def _note(self, line: str) -> None:
        match = _BUFFER.match(line)
        if match:
            component, buffer, kind, size = match.groups()
            # A repeated line replaces the earlier one: a trial run is followed by the real load.
            self.buffers[component, buffer, kind] = float(size)
        elif self._level >= WARN and line.strip():
            (self._errors if self._level >= ERROR else self._warnings).append(line.strip())


def says_out_of_memory(words: str) -> bool:
    """Whether a failure was for lack of memory."""
    lowered = words.lower()
    return any(sign in lowered for sign in _OUT_OF_MEMORY)


def without_paths(words: str, paths: Sequence[str]) -> str:
    """*words* without the paths of this host, which no client may see."""
    for path in sorted(paths, key=len, reverse=True):
        words = words.replace(f"'{path}'", "the model file").replace(path, "the model file")
    return words


def device_of(buffer: str) -> str:
    """The device that holds a buffer: ``CUDA0_Mapped`` is on ``CUDA0``, ``CUDA_Host`` and ``BLAS`` on ``CPU``."""
    for suffix in _SUFFIXES:
        buffer = buffer.removesuffix(suffix)
    if buffer == "BLAS" or buffer.startswith("CPU") or buffer.endswith("_Host"):
        return "CPU"
    return buffer


def kind_of(device: str) -> str:
    """The kind of a ggml device by its name: ``CUDA0`` is ``cuda``, ``MTL0`` is ``metal``."""
    letters = re.sub(r"\d+$", "", device).lower()
    return {"mtl": "metal"}.get(letters, letters)


def memory_of(buffers: Mapping[tuple[str, str, str], float], model_file_bytes: int = 0) -> tuple[Memory, ...]:
    """Sum buffers by device and use.

    A memory-mapped file that is also copied to a device counts once: where the mapped and the device's model
    buffers exceed *model_file_bytes*, the excess is taken off the CPU's mapped bytes.
    """
    sums: dict[str, list[int]] = {}
    mapped_cpu = mapped_all = devices_model = 0
    for (_, buffer, kind), mebibytes in buffers.items():
        size, device = round(mebibytes * _MIB), device_of(buffer)
        place = {"model": 0, "KV": 1, "RS": 1}.get(kind, 2)
        sums.setdefault(device, [0, 0, 0])[place] += size
        if kind == "model" and buffer.endswith("_Mapped"):
            mapped_all += size
            mapped_cpu += size if device == "CPU" else 0
        elif kind == "model" and device != "CPU":
            devices_model += size
    if mapped_cpu and model_file_bytes:
        excess = max(devices_model + mapped_all - model_file_bytes, 0)
        sums["CPU"][0] -= min(mapped_cpu, excess)
    return tuple(Memory(device, kind_of(device), *numbers) for device, numbers in sums.items())
