"""Where what is expensive to make lies: outside the tree, by the version of llama-cpp-python it was made from."""

from __future__ import annotations

import os
from importlib.metadata import version
from pathlib import Path


def llama_version() -> str:
    """The version of the library that ollamad runs here; peer and vocabulary come from the same one."""
    return version("llama-cpp-python")


def cache_folder() -> Path:
    """Return the folder, made. ``$XDG_CACHE_HOME/ollamad-bench/VERSION``."""
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = base / "ollamad-bench" / llama_version()
    folder.mkdir(parents=True, exist_ok=True)
    return folder
