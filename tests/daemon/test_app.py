"""The whole daemon in its own process: every source of every option, what it tells, and its faults at start."""

import http.client
import json
import re
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ollamad.config.schema import OPTIONS, Option

#: Options whose value has to fit the machine; the others get one that is not their default.
FITTING = {
    "server.host": "127.0.0.2",
    "server.port": "0",
    "server.origins": "http://a.example,http://b.example",
    "plugins.disabled": "llama-metal,llama-cuda",
    "plugins.extra": "no_such_module:plugin",
    "plugins.load_timeout_s": "10",
    "logging.level": "DEBUG",
    "scheduler.keep_alive": "7m",
    "scheduler.load_timeout": "-1",
}


def sample(option: Option, root: Path) -> str:
    if option.key in FITTING:
        return FITTING[option.key]
    if option.type == "path":
        return str(root / "elsewhere")
    if option.type in ("bool", "tristate"):
        return "false" if option.default else "true"
    if option.type in ("int", "float"):
        return str(int(max(option.minimum or 0, 1)) + (option.default == max(option.minimum or 0, 1)) + 1)
    assert option.type == "choice", option.key
    return next(one for one in option.choices if one != option.default)


def seen(option: Option, text: str) -> Any:
    """What ``config show`` says for *text*."""
    if option.key == "scheduler.keep_alive":
        return 420_000_000_000
    if option.key == "scheduler.load_timeout":
        return 2**63 - 1
    if option.type == "strings":
        return text.split(",")
    if option.type in ("bool", "tristate"):
        return text == "true"
    return {"int": int, "float": float}.get(option.type, str)(text)


def toml(option: Option, text: str) -> str:
    if option.type == "strings":
        return json.dumps(text.split(","))
    return text if option.type in ("bool", "tristate", "int", "float") else json.dumps(text)


@pytest.mark.parametrize("source", ["flag", "environment", "file"])
def test_every_option_reaches_the_running_daemon(daemon: Any, source: str) -> None:
    """Each value given by a source is what the running daemon says it has, and from where."""
    options = [one for one in OPTIONS if source != "environment" or one.variable]
    texts = {one.key: sample(one, daemon.root) for one in options}
    arguments: list[str] = []
    environ: dict[str, str] = {}
    if source == "flag":
        arguments = [part for key, text in texts.items() for part in ("--set", f"{key}={text}")]
    elif source == "environment":
        environ = {one.variable: "1" if one.type == "level" else texts[one.key] for one in options}
    else:
        sections: dict[str, list[str]] = {}
        for one in options:
            section, _, key = one.key.partition(".")
            sections.setdefault(section, []).append(f"{key} = {toml(one, texts[one.key])}")
        path = daemon.root / "ollamad.toml"
        path.write_text("\n".join("\n".join([f"[{name}]", *lines]) for name, lines in sections.items()))
        arguments = ["--config", str(path)]
    daemon.start(*arguments, **environ)
    assert daemon.ready()[0] == "127.0.0.2"
    rows = {row["key"]: row for row in daemon.admin("config")["options"]}
    assert set(texts) <= set(rows)
    for one in options:
        assert rows[one.key]["value"] == seen(one, texts[one.key]), one.key
        assert rows[one.key]["source"] == source, one.key
    # The origins are in force, not only shown.
    connection = http.client.HTTPConnection("127.0.0.2", daemon_port(daemon))
    connection.request("GET", "/api/version", headers={"Origin": "http://b.example"})
    assert connection.getresponse().getheader("Access-Control-Allow-Origin") == (
        "http://b.example" if "server.origins" in texts else None
    )
    connection.close()


def daemon_port(daemon: Any) -> int:
    listener = next(one for one in daemon.admin("status")["listeners"] if one["name"] == "default")
    return int(listener["address"].rpartition(":")[2])


def test_what_it_tells(daemon: Any) -> None:
    """The log begins with the configuration and the addresses; requests go to standard output; status is JSON."""
    daemon.start("--port", "0", OLLAMA_MAX_QUEUE="x", HTTPS_PROXY="http://u:secret@p:1")
    host, port = daemon.ready()
    connection = http.client.HTTPConnection(host, port)
    connection.request("GET", "/api/version?x=1")
    assert json.loads(connection.getresponse().read()) == {"version": "0.32.1"}
    connection.close()
    status = daemon.admin("status")
    assert status["pid"] == daemon.process.pid
    assert status["models"] == []
    assert status["rss_bytes"] < 60 * 2**20
    assert status["failed_plugins"] == status["failed_tasks"] == []
    daemon.process.terminate()
    assert daemon.end() == 0
    lines = daemon.errors.read_text().splitlines()
    assert 'msg="server config" env="map[CUDA_VISIBLE_DEVICES: ' in lines[0]
    assert "secret" not in lines[0]
    warning = 'msg="invalid environment variable, using default" key=OLLAMA_MAX_QUEUE value=x default=512'
    assert lines[1].endswith(warning)
    assert any(re.search(rf'msg="Listening on {host}:{port} \(version ', line) for line in lines)
    assert re.search(r'\| 200 \| .* \|       127\.0\.0\.1 \| GET      "/api/version\?x=1"\n', daemon.output.read_text())


def test_a_port_that_is_taken(daemon: Any) -> None:
    """The start fails in Ollama's words, tells who holds the port, and logs nothing else."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        daemon.start("--port", str(port))
        assert daemon.end() == 1
    lines = daemon.errors.read_text().splitlines()
    assert lines[0] == f"Error: listen tcp 127.0.0.1:{port}: bind: address already in use"
    assert lines[1].startswith(f"127.0.0.1:{port} is held by ")
    assert len(lines) == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--set", "server.prot=1"], "Error: --set: server.prot: unknown key; did you mean server.port?\n"),
        (["--set", "nothing"], 'Error: --set: saw "nothing"; allowed: KEY=VALUE\n'),
        (["--config", "/nonexistent"], "Error: /nonexistent: cannot be read: No such file or directory\n"),
        (["--port", "99999"], 'Error: --port: server.port: saw "99999"; allowed: a whole number from 0 to 65535\n'),
        (
            ["--set", "plugins.unix-socket.mod=1"],
            "Error: --set: plugins.unix-socket.mod: unknown key; did you mean mode?\n",
        ),
        (["--set", "server.origins=foo"], "Error: server.origins: origin 'foo' must hold a * or start with one of "),
    ],
)
def test_a_wrong_configuration(daemon: Any, arguments: list[str], message: str) -> None:
    """The start fails with one clear line and status 1."""
    daemon.start(*arguments)
    assert daemon.end() == 1
    assert daemon.errors.read_text().startswith(message)


def test_the_section_of_a_plugin_is_checked(daemon: Any) -> None:
    """A wrong key of a loaded plugin is refused with its line; a section without its plugin is told and kept."""
    path = daemon.root / "f.toml"
    path.write_text("[plugins.unix-socket]\nmodus = 1\n")
    daemon.start("--config", str(path))
    assert daemon.end() == 1
    expected = f"Error: {path}:2: plugins.unix-socket.modus: unknown key; did you mean mode?\n"
    assert daemon.errors.read_text() == expected
    path.write_text("[plugins]\ndisabled = ['llama-cuda']\n[plugins.llama-cuda]\nx = 1\n")
    daemon.start("--config", str(path), "--port", "0")
    daemon.ready()
    assert 'msg="options of a plugin that is not loaded" plugin=llama-cuda' in daemon.errors.read_text()


def test_a_second_daemon_leaves_the_first_one_its_socket(make_daemon: Callable[[], Any]) -> None:
    """A socket that is in use fails the plugin of the second daemon, which serves on; a stale one is replaced."""
    first, second = make_daemon(), make_daemon()
    first.start("--port", "0").ready()
    path = first.root / "run" / "ollamad.sock"
    second.start("--port", "0", OLLAMAD_SOCKET=str(path))
    assert re.match(r"READY=1\nSTATUS=Listening on 127\.0\.0\.1:\d+$", second.notify.recv(4096).decode())
    assert "listen unix" in second.errors.read_text()
    assert "address already in use" in second.errors.read_text()
    assert first.admin("status")["pid"] == first.process.pid
    first.process.kill()
    first.end()
    assert path.exists()
    first.start("--port", "0").ready()
    assert first.admin("status")["pid"] == first.process.pid


def test_more_listeners(daemon: Any) -> None:
    """``[listeners]`` adds TCP listeners with profiles of their own."""
    path = daemon.root / "f.toml"
    path.write_text("[server]\nport = 0\n[listeners.admin]\nhost = '127.0.0.1:0'\nprofile = 'admin'\n")
    daemon.start("--config", str(path))
    daemon.notify.recv(4096)
    listeners = {one["name"]: one["address"] for one in daemon.admin("status")["listeners"]}
    for name, status in (("default", 404), ("admin", 200)):
        connection = http.client.HTTPConnection(listeners[name])
        connection.request("GET", "/ollamad/status")
        assert connection.getresponse().status == status
        connection.close()
