"""The cpu backend as the plugin manager sees it."""

from __future__ import annotations

import subprocess
import sys

from ollamad_llama import cpu

from ollamad.plugin import Backend


def test_it_registers_one_backend() -> None:
    """The hook registers a backend under the name of its entry point."""
    registered: list[Backend] = []
    cpu.ollamad_register_backends(registered.append)
    assert [one.name for one in registered] == ["llama-cpu"]


def test_importing_it_loads_no_native_library() -> None:
    """The daemon may import the plugin: neither llama_cpp nor numpy comes with it."""
    code = "import sys, ollamad_llama.cpu; print([m for m in sys.modules if m.split('.')[0] in ('llama_cpp', 'numpy')])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_processor_is_its_only_device() -> None:
    """The CPU is listed with the memory that this process may use."""
    (device,) = cpu.CpuBackend().devices()
    assert (device.id, device.kind) == ("CPU", "cpu")
    assert 0 < device.free_bytes <= device.total_bytes
