"""What a child printed, kept for the error message of its end."""

from __future__ import annotations

import re
from collections.abc import Callable

KEPT_BYTES = 8 * 1024
#: A line without an end is cut here.
_LINE_BYTES = 4 * 1024

#: Source: runtime contract, section 2.1, error capture; the text is kept from the match on.
_ERROR = re.compile(
    r"mlx:|MLX:|panic:|fatal error:|error:|Error:|CUDA error|ROCm error|cudaMalloc failed|\"ERR\"|error loading model|"
    r"GGML_ASSERT|Deepseek2 does not support K-shift|signal arrived during cgo execution|llama_init_from_model:"
)
#: Source: runtime contract, section 1.13, out-of-memory text match.
_OUT_OF_MEMORY = re.compile(
    r"out of memory|out of device memory|cudaMalloc failed|hipMalloc failed|failed to allocate|allocation failed|"
    r"not enough memory|insufficient memory|vk_error_out_of_device_memory|erroroutofmemory",
    re.IGNORECASE,
)
_PATH = re.compile(r"(?<![\w/])/(?:[^\s/'\"`:,;()\[\]]+/)+([^\s/'\"`:,;()\[\]]*)")


def is_out_of_memory(text: str) -> bool:
    """Whether *text* is how a native library says that memory is used up."""
    return _OUT_OF_MEMORY.search(text) is not None


def without_paths(text: str) -> str:
    """Return *text* with each absolute path cut to its last part: clients need not know our folders."""
    return _PATH.sub(r"\1", text)


def captured_error(line: str) -> str:
    """The part of a line that tells of an error, "" if none does."""
    match = _ERROR.search(line)
    if match is not None:
        return line[match.start() :]
    return line if is_out_of_memory(line) else ""


class LastWords:
    """Keeps the last 8 KiB of output and, apart from it, the last 8 KiB of lines that tell of errors."""

    def __init__(self, on_line: Callable[[str], None] | None = None) -> None:
        self._on_line = on_line
        self._tail = bytearray()
        self._rest = bytearray()
        self._errors = ""

    def feed(self, data: bytes) -> None:
        """Take output as it comes, cut anywhere."""
        self._tail += data
        del self._tail[:-KEPT_BYTES]
        self._rest += data
        *lines, rest = self._rest.split(b"\n")
        if len(rest) > _LINE_BYTES:
            lines.append(rest)
            rest = bytearray()
        self._rest = rest
        for line in lines:
            self._take(line)

    def end(self) -> None:
        """Take what is left of a line as a line: nothing follows."""
        if self._rest:
            self._take(self._rest)
            self._rest = bytearray()

    def forget_errors(self) -> None:
        """Drop what was captured: a start that went well leaves no errors behind."""
        self._errors = ""

    @property
    def tail(self) -> str:
        """The last 8 KiB of output, for our log."""
        return self._tail.decode("utf-8", "replace")

    @property
    def errors(self) -> str:
        """The captured lines, joined by newlines, without paths: fit for a client."""
        return self._errors

    @property
    def last_error(self) -> str:
        """The last captured line."""
        return self._errors.rpartition("\n")[2]

    def _take(self, raw: bytes | bytearray) -> None:
        line = raw[:_LINE_BYTES].decode("utf-8", "replace").rstrip("\r")
        if self._on_line is not None and line:
            self._on_line(line)
        error = captured_error(line).strip()
        if error:
            joined = f"{self._errors}\n{without_paths(error)}" if self._errors else without_paths(error)
            if len(joined) > KEPT_BYTES:
                joined = joined[-KEPT_BYTES:].partition("\n")[2] or joined[-KEPT_BYTES:]
            self._errors = joined
