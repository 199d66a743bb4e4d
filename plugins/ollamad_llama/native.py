"""llama.cpp's C API as it lies in llama-cpp-python, imported once and with its log led to us.

The only file that imports `llama_cpp`. Imported inside `devices` and `load` only, so in probe jobs and
runners, never in the daemon.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
import types
from contextlib import suppress
from typing import Any

from ollamad.plugin import BackendError
from ollamad_llama.native_log import NativeLog


def _import_low_level() -> Any:
    """Import ``llama_cpp.llama_cpp`` without its package's ``__init__``.

    That one pulls in numpy, jinja2 and a server's worth of code: 0.18 s and 25 MB where the C API alone takes
    0.02 s. A bare parent module stands in for it while the import runs.
    """
    if "llama_cpp" in sys.modules:
        return importlib.import_module("llama_cpp.llama_cpp")
    spec = importlib.util.find_spec("llama_cpp")
    if spec is None or spec.submodule_search_locations is None:
        raise BackendError("llama-cpp-python is not installed")
    parent = types.ModuleType("llama_cpp")
    parent.__path__ = list(spec.submodule_search_locations)
    sys.modules["llama_cpp"] = parent
    try:
        return importlib.import_module("llama_cpp.llama_cpp")
    finally:
        del sys.modules["llama_cpp"]


c = _import_low_level()
log = NativeLog()


@c.llama_log_callback  # type: ignore[untyped-decorator]
def _on_log(level: int, text: bytes | None, _user: object) -> None:
    """Runs in: any native thread."""
    words = log.feed(level, (text or b"").decode("utf-8", "replace"))
    if words:
        with suppress(OSError):  # nobody reads our stderr any more: the daemon is gone, and so will we be
            os.write(2, words.encode("utf-8", "replace"))


c.llama_log_set(_on_log, None)
c.llama_backend_init()
