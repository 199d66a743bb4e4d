"""Plugins that are broken, and the admin socket, over a real daemon."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from admin_socket import ask
from unharmed import assert_clean

SUPPORT = Path(__file__).resolve().parents[1] / "support"
LOAD_TIMEOUT_S = 2.0

#: Modules that break at import, which no shared file could hold.
MODULES = {
    "raises_at_import": "raise ValueError('cannot be imported')\n",
    "exits_at_import": "import sys\n\nsys.exit(3)\n",
    "prints_at_import": "print('hello')\nfrom broken_plugins import Registers, OneRoute\n"
    "plugin = Registers(OneRoute('printer', '/printer'))\n",
    "sleeps_at_import": "import time\n\ntime.sleep(10)\nplugin = object()\n",
    "wrong_syntax": "def (:\n",
}
EXTRA = {
    "raises_at_import:plugin": "cannot be imported",
    "exits_at_import:plugin": "exit",
    "prints_at_import:plugin": "print",
    "sleeps_at_import:plugin": "2 s",
    "wrong_syntax:plugin": "syntax",
    "not_there:plugin": "not_there",
    "broken_plugins:nothing": "nothing",
    "broken_plugins:raises": "broken on purpose",
    "broken_plugins:exits": "exit",
    "broken_plugins:taken": "/api/version",
    "broken_plugins:namesake": "ollama-api",
    "broken_plugins:misspelt": "ollamad_register_frontend",
}


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory, daemon_class: Callable[..., Any]) -> Iterator[Any]:
    """A daemon with every broken plugin and a good one behind them."""
    folder = tmp_path_factory.mktemp("plugins")
    for name, text in MODULES.items():
        (folder / f"{name}.py").write_text(text)
    file = folder / "ollamad.toml"
    file.write_text(
        f"[plugins]\nextra = {json.dumps([*EXTRA, 'broken_plugins:good'])}\nload_timeout_s = {LOAD_TIMEOUT_S}\n"
    )
    one = daemon_class(folder, PYTHONPATH=f"{folder}:{SUPPORT}")
    began = time.monotonic()
    one.start("--config", str(file))
    one.took_s = time.monotonic() - began
    yield one
    one.close()


def socket_of(daemon: Any) -> Path:
    return Path(daemon.home / "run" / "ollamad.sock")


def test_ready_in_time(daemon: Any) -> None:
    """One plugin that sleeps for 10 s costs its time-out and no more."""
    assert daemon.took_s <= LOAD_TIMEOUT_S + 1 + SLACK_S


#: Start of an interpreter on a machine that runs other tests at the same time.
SLACK_S = 2.0


def test_each_failure_is_listed(daemon: Any) -> None:
    """Every broken plugin is listed as failed with its reason; the good one and the built-ins are loaded."""
    status, answer = ask(socket_of(daemon), "/ollamad/plugins")
    assert status == 200
    found = {one["name"]: one for one in answer["plugins"]}
    for name, reason in EXTRA.items():
        assert found[name]["status"] == "failed", name
        assert reason in found[name]["reason"].lower() or reason in found[name]["reason"], found[name]
        assert "\n" not in found[name]["reason"]
    assert found["broken_plugins:good"]["status"] == "loaded"
    for name in ("llama-cpu", "ollama-api", "unix-socket"):
        assert found[name]["status"] == "loaded"


def test_ctl_lists_the_reasons(daemon: Any) -> None:
    """`ollamactl plugins` prints them."""
    done = subprocess.run(
        [sys.executable, "-m", "ollamad.cli.ctl", "plugins", "--json"],
        env={**daemon.environ(), "OLLAMA_HOST": ""},
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    listed = {one["name"]: one["status"] for one in json.loads(done.stdout)}
    assert {name for name, status in listed.items() if status == "failed"} == set(EXTRA)


def test_it_serves_on(daemon: Any) -> None:
    """The routes of the good plugins work, and a route that was taken stays whose it was."""
    assert daemon.get("/good") == (200, b"good")
    assert b"version" in daemon.get("/api/version")[1]
    assert daemon.get("/namesake")[0] == 404
    began = time.monotonic()
    assert daemon.chat("Who are you?").startswith("I am demo")
    # Children do not import what failed: no load waits for the sleeper.
    assert time.monotonic() - began < 8


# --- the admin socket -----------------------------------------------------------------------


ADMIN_ROUTES = ["/ollamad/config", "/ollamad/plugins", "/ollamad/status", "/metrics"]


@pytest.mark.parametrize("route", ADMIN_ROUTES)
def test_admin_routes_are_on_the_socket_alone(daemon: Any, route: str) -> None:
    """The own user is admitted over the socket; over TCP there is no such route."""
    assert ask(socket_of(daemon), route)[0] == 200
    assert daemon.get(route) == (404, b"404 page not found")


def test_all_routes_are_on_the_socket(daemon: Any) -> None:
    """The socket offers what TCP does as well."""
    status, tags = ask(socket_of(daemon), "/api/tags")
    assert status == 200
    assert [one["name"] for one in tags["models"]] == ["demo:latest"]


def test_mode_of_the_socket(daemon: Any) -> None:
    """Without a group nobody but the owner may connect."""
    assert socket_of(daemon).stat().st_mode & 0o777 == 0o600


STRANGER = """
import os, socket, sys
os.setgroups([])
os.setgid(65534)
os.setuid(65534)
sock = socket.socket(socket.AF_UNIX)
sock.connect(sys.argv[1])
for route in sys.argv[2:]:
    sock.sendall(f"GET {route} HTTP/1.1\\r\\nHost: localhost\\r\\n\\r\\n".encode())
    print(sock.recv(65536).decode().replace("\\r\\n", "|"))
"""


@pytest.mark.root
def test_a_stranger_is_refused_by_its_credentials(
    daemon_class: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Where a mode lets everybody connect, a stranger's user id is still refused on admin routes, and told so."""
    folder = tmp_path_factory.mktemp("stranger")
    place = Path("/tmp") / f"ollamad-test-{os.getpid()}.sock"
    daemon = daemon_class(folder, OLLAMAD_SOCKET=str(place))
    try:
        daemon.start("--set", "plugins.unix-socket.mode=0666")
        done = subprocess.run(
            [sys.executable, "-I", "-c", STRANGER, str(place), "/ollamad/config", "/ollamad/status", "/api/version"],
            capture_output=True,
            text=True,
            timeout=30,
            check=True,
        )
        config, status, version = done.stdout.splitlines()
        for answer in (config, status):
            assert answer.startswith("HTTP/1.1 403 Forbidden|"), answer
            assert_clean(answer)
            assert "scheduler" not in answer
        assert version.startswith(("HTTP/1.1 200 OK|", "HTTP/1.1 403 Forbidden|"))
    finally:
        daemon.close()
        place.unlink(missing_ok=True)


def test_second_daemon_on_the_same_address(daemon: Any, daemon_class: Callable[..., Any], tmp_path: Path) -> None:
    """A second daemon on the same port says so in one line and leaves the first one alone."""
    done = subprocess.run(
        [sys.executable, "-m", "ollamad.cli.serve", "serve"],
        env={**daemon_class(tmp_path).environ(), "OLLAMA_HOST": f"127.0.0.1:{daemon.port}"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 1
    assert "address already in use" in done.stderr
    assert "Traceback" not in done.stderr
    assert daemon.answers()
