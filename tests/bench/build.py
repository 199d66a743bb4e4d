"""llama-server and llama-batched-bench, built from the source that our own library was built from.

Two builds, because which one is better depends on who else uses the machine: *openmp* (as pip builds our library) and
*pool* (llama.cpp's own threads). They differ in ggml's libraries alone: nothing else looks at ``GGML_OPENMP``.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
from dataclasses import dataclass
from pathlib import Path

from tests.bench.cache import cache_folder, llama_version

_TARGETS = ("llama-server", "llama-batched-bench")
_GGML = ("ggml", "ggml-base", "ggml-cpu")
#: As llama-cpp-python's own build sets them (shared libraries, its default optimisation, this machine's instructions),
#: and nothing that has to be downloaded.
_FLAGS = (
    "-DCMAKE_BUILD_TYPE=Release",
    "-DBUILD_SHARED_LIBS=ON",
    "-DGGML_NATIVE=ON",
    "-DLLAMA_CURL=OFF",
    "-DLLAMA_OPENSSL=OFF",
    "-DLLAMA_BUILD_TESTS=OFF",
    "-DLLAMA_BUILD_EXAMPLES=OFF",
    "-DLLAMA_BUILD_APP=OFF",
    "-DLLAMA_BUILD_UI=OFF",
    "-DLLAMA_USE_PREBUILT_UI=OFF",
    "-DCMAKE_BUILD_WITH_INSTALL_RPATH=ON",
    "-DCMAKE_INSTALL_RPATH=$ORIGIN",
)
_OPENMP = {"openmp": "-DGGML_OPENMP=ON", "pool": "-DGGML_OPENMP=OFF"}
BUILDS = tuple(_OPENMP)


@dataclass(frozen=True)
class Build:
    """One build of the peer. ``flags`` are those that cmake was given."""

    name: str
    folder: Path
    flags: tuple[str, ...]

    @property
    def server(self) -> Path:
        return self.folder / "llama-server"

    @property
    def batched_bench(self) -> Path:
        return self.folder / "llama-batched-bench"


def source() -> Path:
    """Return llama.cpp's source out of the sdist of the installed llama-cpp-python, fetched once."""
    folder = cache_folder()
    unpacked = folder / f"llama_cpp_python-{llama_version()}"
    if not unpacked.is_dir():
        archive = next(folder.glob("*.tar.gz"), None) or _fetch(folder)
        partial = folder / "unpacking"
        shutil.rmtree(partial, ignore_errors=True)
        with tarfile.open(archive) as tar:
            tar.extractall(partial, filter="data")
        (partial / unpacked.name).rename(unpacked)
        partial.rmdir()
    return unpacked / "vendor" / "llama.cpp"


def build(name: str) -> Build:
    """Return the build *name*, made if it is not in the cache. Takes minutes the first time."""
    flags = (*_FLAGS, _OPENMP[name])
    folder = cache_folder() / f"llama-{name}"
    if not folder.is_dir():
        made = _make("openmp", _TARGETS) if name == "openmp" else _with_other_ggml(name)
        made.rename(folder)
    return Build(name, folder, flags)


def _fetch(folder: Path) -> Path:
    # The build's own tools may come as wheels: only the library's source is wanted.
    _run([sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", "llama-cpp-python",
          "--dest", str(folder), f"llama-cpp-python=={llama_version()}"])  # fmt: skip
    return next(folder.glob("*.tar.gz"))


def _make(name: str, targets: tuple[str, ...]) -> Path:
    """Compile *targets*; return a folder with the programs and libraries."""
    tree = cache_folder() / f"build-{name}"
    generator = ["-G", "Ninja"] if shutil.which("ninja") else []
    _run([_cmake(), "-S", str(source()), "-B", str(tree), *generator, *_FLAGS, _OPENMP[name]])
    _run([_cmake(), "--build", str(tree), "--parallel", str(os.cpu_count() or 1), "--target", *targets])
    made = tree / "made"
    shutil.rmtree(made, ignore_errors=True)
    shutil.copytree(tree / "bin", made, symlinks=True)
    return made


def _with_other_ggml(name: str) -> Path:
    first = build("openmp").folder
    libraries = _make(name, _GGML)
    for file in first.iterdir():
        if not (libraries / file.name).exists():
            shutil.copy2(file, libraries / file.name, follow_symlinks=False)
    return libraries


def _cmake() -> str:
    found = shutil.which("cmake")
    if found is None:
        raise SystemExit("cmake is missing: apt-get install cmake ninja-build, or pip install cmake ninja")
    return found


def _run(command: list[str]) -> None:
    print("+", " ".join(command), file=sys.stderr, flush=True)
    subprocess.run(command, check=True)


if __name__ == "__main__":
    for each in BUILDS:
        print(build(each).server)
