"""install.sh says what is missing before it begins: in one line, at once, with how to get it."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / "install.sh"
OLD_PYTHON = '#!/bin/sh\n[ "$1" = --version ] && { echo Python 3.9.2; exit 0; }\nexit 1\n'
BARE_PYTHON = '#!/bin/sh\ncase "$2" in *ensurepip*) exit 1 ;; esac\nexit 0\n'
FULL_DISK = "#!/bin/sh\necho Filesystem\necho tmpfs 10 0 10 0% /\n"


@pytest.fixture
def machine(tmp_path: Path) -> Path:
    """A folder of programs that is all that a machine has: what the script needs, Python and a compiler."""
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in ("bash", "sh", "dirname", "df", "awk", "mkdir"):
        (programs / name).symlink_to(str(shutil.which(name)))
    (programs / "python3").symlink_to(sys.executable)
    script(programs / "g++", "#!/bin/sh\n")
    return programs


def script(path: Path, text: str) -> None:
    path.unlink(missing_ok=True)
    path.write_text(text)
    path.chmod(0o755)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        pytest.param(
            lambda programs: (programs / "g++").unlink(),
            "a C++ compiler is missing (llama.cpp is built from source); on Debian: apt-get install g++",
            id="no compiler",
        ),
        pytest.param(
            lambda programs: script(programs / "python3", OLD_PYTHON),
            "Python 3.11 or newer is missing (found: Python 3.9.2); on Debian: apt-get install python3 python3-venv",
            id="old Python",
        ),
        pytest.param(
            lambda programs: (programs / "python3").unlink(),
            "Python 3.11 or newer is missing (found: none); on Debian: apt-get install python3 python3-venv",
            id="no Python",
        ),
        pytest.param(
            lambda programs: script(programs / "python3", BARE_PYTHON),
            "Python's venv module is missing for python3; on Debian: apt-get install python3-venv",
            id="no venv",
        ),
        pytest.param(
            lambda programs: script(programs / "df", FULL_DISK),
            "only 10 MiB are free at {place}, 2500 MiB are needed to build; free some, or set VENV or TMPDIR",
            id="full disk",
        ),
        pytest.param(
            lambda programs: (programs.parent / "venv").touch(),
            "cannot write to {place}; choose another place with VENV=DIR",
            id="no folder",
        ),
    ],
)
def test_what_is_missing_is_said(machine: Path, change: Callable[[Path], object], message: str) -> None:
    """One line within two seconds, and nothing is installed."""
    change(machine)
    place = machine.parent / "venv"
    started = time.monotonic()
    done = run(machine, place)
    assert time.monotonic() - started < 2
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"install.sh: {message.format(place=place)}\n"
    assert not (place / "bin").exists()


def test_unknown_options_are_refused(machine: Path) -> None:
    """A misspelt option builds nothing."""
    done = run(machine, machine.parent / "venv", "--tset")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "install.sh: unknown option --tset; allowed: --test --lint --only, or none\n"


def run(machine: Path, place: Path, *options: str) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": str(machine), "VENV": str(place), "TMPDIR": str(machine.parent)}
    bash = machine / "bash"
    return subprocess.run([bash, SCRIPT, *options], env=environment, capture_output=True, text=True, timeout=30)
