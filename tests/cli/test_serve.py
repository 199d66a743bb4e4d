"""`ollamad` on the command line."""

import subprocess
import sys

import pytest
from click.testing import CliRunner

from ollamad import __version__
from ollamad.cli import serve
from ollamad.config.load import load


def flags(given: dict[str, str], *pairs: str) -> dict[str, str]:
    config = load(environ={"HOME": "/h"}, flags=serve._flags(given.items(), pairs))
    return {key: str(one.value) for key, one in config.settings.items() if one.source == "flag"}


def test_flags_and_pairs() -> None:
    """Named flags set their options, --set sets any; the named one wins."""
    assert flags({"--host": "0.0.0.0:5", "--models": "/m", "--log-level": "debug"}) == {
        "server.host": "0.0.0.0",
        "server.port": "5",
        "store.path": "/m",
        "logging.level": "DEBUG",
    }
    assert flags({"--port": "1"}, "server.port=2", "store.demo=false") == {"server.port": "1", "store.demo": "False"}


def test_version_and_help() -> None:
    """The version is one line; start is another name for serve."""
    runner = CliRunner()
    assert runner.invoke(serve.main, ["--version"]).output == f"ollamad version {__version__}\n"
    assert "--config FILE" in runner.invoke(serve.main, ["start", "--help"]).output


@pytest.mark.parametrize("arguments", [["--version"], ["serve", "--help"]])
def test_it_imports_little(arguments: list[str]) -> None:
    """Help and version do not load the daemon."""
    code = (
        "import sys; from ollamad.cli.serve import main\n"
        f"try: main({arguments!r})\nexcept SystemExit: pass\n"
        "assert not [m for m in sys.modules if m in ('asyncio', 'ollamad.daemon', 'ollamad.config.load')]"
    )
    assert subprocess.run([sys.executable, "-c", code], stdout=subprocess.DEVNULL, check=False).returncode == 0
