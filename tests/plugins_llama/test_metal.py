"""The metal backend as the plugin manager sees it."""

from __future__ import annotations

import subprocess
import sys

from ollamad_llama import metal

from ollamad.plugin import Backend


def test_it_registers_one_backend() -> None:
    """The hook registers a backend under the name of its entry point."""
    registered: list[Backend] = []
    metal.ollamad_register_backends(registered.append)
    assert [one.name for one in registered] == ["llama-metal"]


def test_importing_it_loads_no_native_library() -> None:
    """The daemon may import the plugin: neither llama_cpp nor numpy comes with it."""
    code = (
        "import sys, ollamad_llama.metal; print([m for m in sys.modules if m.split('.')[0] in ('llama_cpp', 'numpy')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_without_such_a_device_it_lists_none() -> None:
    """Every device it lists is of its kind; a build without metal lists none."""
    assert all(device.kind == "metal" for device in metal.MetalBackend().devices())
