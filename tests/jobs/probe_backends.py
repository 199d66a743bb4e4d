"""Backends, good and bad, each a plugin for ``plugins.extra``."""

import ctypes
import os
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from ollamad.plugin import Backend, Device, hookimpl
from ollamad.plugin.backend import BackendOutOfMemory, ModelRejected


def plugin(backend: Backend) -> Any:
    @hookimpl
    def ollamad_register_backends(register: Callable[[Backend], None]) -> None:
        register(backend)

    return SimpleNamespace(ollamad_register_backends=ollamad_register_backends)


class Scripted(Backend):
    """Does as its name says, when probed and when it loads."""

    def __init__(self, name: str) -> None:
        self.name = name

    def devices(self) -> Sequence[Device]:
        match self.name:
            case "raising":
                raise RuntimeError("no driver")
            case "crashing":
                os.abort()
            case "hanging":
                threading.Event().wait()
        return [Device("G0", "fake", "a good device", 10, 5)]

    def load(self, spec: Any, files: Mapping[str, Path], progress: Callable[[float], bool]) -> Any:
        (path,) = files.values()
        assert spec.vocab_only
        assert spec.weights[0].size_bytes == path.stat().st_size
        match self.name:
            case "rejecting":
                raise ModelRejected(f"bad magic in {path}")
            case "raising":
                raise BackendOutOfMemory("needs 9 GiB")
            case "crashing":
                print("GGML_ASSERT(n_tensors > 0) failed", file=sys.stderr, flush=True)
                os.abort()
            case "segfaulting":
                ctypes.string_at(0)
            case "hanging":
                threading.Event().wait()
        progress(1.0)
        return SimpleNamespace(close=lambda: None)


good = plugin(Scripted("good"))
raising = plugin(Scripted("raising"))
crashing = plugin(Scripted("crashing"))
hanging = plugin(Scripted("hanging"))
rejecting = plugin(Scripted("rejecting"))
segfaulting = plugin(Scripted("segfaulting"))
broken = SimpleNamespace()
