"""Every option from every source, read back from a running daemon; what is wrong keeps it from starting."""

import grp
import json
import os
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from admin_socket import ask
from ollamad_unix_socket import OPTIONS as SOCKET_OPTIONS

from ollamad.config.durations import parse_hold
from ollamad.config.schema import OPTIONS, Option

PREFIX = "plugins.unix-socket."
ALL = [(option.key, option) for option in OPTIONS] + [(PREFIX + option.key, option) for option in SOCKET_OPTIONS]


class Sample:
    """A legal value that is not the default: as text, as TOML, and as the daemon shows it."""

    def __init__(self, text: str, shown: Any, toml: str = "", environment: str = "") -> None:
        self.text = text
        self.shown = shown
        self.toml = toml or (json.dumps(shown) if isinstance(shown, bool | int | float | list) else json.dumps(text))
        self.environment = environment or text


def special(folder: Path, port: int) -> dict[str, Sample]:
    """Options whose value has to work on this machine."""
    store, sock = folder / "elsewhere", folder / "other.sock"
    group = grp.getgrgid(os.getgid()).gr_name
    return {
        "server.host": Sample("127.0.0.2", "127.0.0.2"),
        "server.port": Sample(str(port), port),
        "server.origins": Sample("http://example.com", ["http://example.com"]),
        "store.path": Sample(str(store), str(store)),
        "plugins.disabled": Sample("llama-metal,llama-cuda", ["llama-metal", "llama-cuda"]),
        "plugins.extra": Sample("ollamad.testing.fake_backend:plugin", ["ollamad.testing.fake_backend:plugin"]),
        "logging.level": Sample("DEBUG", "DEBUG", environment="1"),
        PREFIX + "path": Sample(str(sock), str(sock)),
        PREFIX + "mode": Sample("0600", "0600"),
        PREFIX + "group": Sample(group, group),
    }


def sample(option: Option) -> Sample:
    if option.type in ("bool", "tristate"):
        return Sample("false", False) if option.default else Sample("true", True)
    if option.type == "int":
        number = option.default + 1 if option.default else 7
        return Sample(str(number), number)
    if option.type == "float":
        return Sample(str(option.default + 0.5), option.default + 0.5)
    if option.type == "duration":
        return Sample("7m30s", parse_hold("7m30s"), toml='"7m30s"')
    if option.type == "choice":
        other = next(one for one in option.choices if one != option.default)
        return Sample(other, other)
    raise AssertionError(f"no sample for {option.key}: a {option.type}")


@pytest.fixture
def samples(tmp_path: Path, make_daemon: Callable[..., Any]) -> dict[str, Sample]:
    found = special(tmp_path, make_daemon().port)
    return {key: found.get(key) or sample(option) for key, option in ALL}


def shown(daemon: Any, path: Path, timeout_s: float = 20.0) -> dict[str, dict[str, Any]]:
    """The options of a daemon, once it answers on its socket."""
    deadline = time.monotonic() + timeout_s
    pause = threading.Event()
    while True:
        try:
            status, answer = ask(path, "/ollamad/config")
        except OSError:
            assert time.monotonic() < deadline, daemon.log.read_text()
            assert daemon.process.poll() is None, daemon.log.read_text()
            pause.wait(0.02)
        else:
            assert status == 200
            return {one["key"]: one for one in answer["options"]}


def differing(found: dict[str, dict[str, Any]], samples: dict[str, Sample], keys: list[str], source: str) -> list[Any]:
    return [
        (key, found[key]["value"], found[key]["source"], samples[key].shown)
        for key in keys
        if (found[key]["value"], found[key]["source"]) != (samples[key].shown, source)
    ]


#: The harness's own variables would go before a file.
QUIET = {"OLLAMA_HOST": "", "OLLAMA_MODELS": "", "OLLAMA_CONTEXT_LENGTH": ""}


def test_every_option_from_the_file(
    make_daemon: Callable[..., Any], samples: dict[str, Sample], tmp_path: Path
) -> None:
    """Each option of core and plugin stands in the file with its line."""
    sections: dict[str, list[str]] = {}
    for key, _ in ALL:
        section, _, name = key.rpartition(".")
        sections.setdefault(section, []).append(f"{name} = {samples[key].toml}")
    sections['listeners."two"'] = ['host = "127.0.0.3"', "port = 0", 'profile = "inference"']
    sections['models."demo"'] = ['keep_alive = "9m"']
    text = "\n\n".join("\n".join([f"[{name}]", *lines]) for name, lines in sections.items())
    file = tmp_path / "ollamad.toml"
    file.write_text(text)
    daemon = make_daemon("file", **QUIET)
    daemon.start("--config", str(file), wait=False)
    found = shown(daemon, tmp_path / "other.sock")
    assert differing(found, samples, [key for key, _ in ALL], "file") == []
    lines = text.splitlines()
    for key, _ in ALL:
        where, _, line = found[key]["detail"].rpartition(":")
        assert where == str(file)
        assert lines[int(line) - 1].startswith(f"{key.rpartition('.')[2]} = ")
    assert found["listeners.two.host"]["value"] == "127.0.0.3"
    assert found["models.demo.keep_alive"]["value"] == parse_hold("9m")
    assert daemon.stop() == 0


def test_every_option_from_the_environment(
    make_daemon: Callable[..., Any], samples: dict[str, Sample], tmp_path: Path
) -> None:
    """Each option that has a variable takes it from there, and what has none keeps its default."""
    named = {key: option.variable for key, option in ALL if option.variable}
    daemon = make_daemon("environment", **{variable: samples[key].environment for key, variable in named.items()})
    daemon.start(wait=False)
    found = shown(daemon, tmp_path / "other.sock")
    assert differing(found, samples, list(named), "environment") == []
    assert {key: found[key]["detail"] for key in named} == named
    rest = [key for key, option in ALL if not option.variable]
    assert {found[key]["source"] for key in rest} == {"default"}
    assert all(found[key]["value"] == found[key]["default"] for key in rest)
    assert daemon.stop() == 0


def test_every_option_from_flags(make_daemon: Callable[..., Any], samples: dict[str, Sample], tmp_path: Path) -> None:
    """Each option may be set by a flag, which wins over a file and over the environment."""
    file = tmp_path / "ollamad.toml"
    file.write_text("[scheduler]\nmax_queue = 3\n[server]\nport = 1\n")
    daemon = make_daemon("flags", OLLAMA_MAX_QUEUE="4")
    pairs = [part for key, _ in ALL for part in ("--set", f"{key}={samples[key].text}")]
    daemon.start("--config", str(file), *pairs, wait=False)
    found = shown(daemon, tmp_path / "other.sock")
    assert differing(found, samples, [key for key, _ in ALL], "flag") == []
    assert {found[key]["detail"] for key, _ in ALL} == {"--set"}
    assert daemon.stop() == 0


# --- refusals ----------------------------------------------------------------------------------


def refused(daemon: Any, *flags: str) -> str:
    """What a daemon that must not start says; one line."""
    done = subprocess.run(
        [daemon.python, "-m", "ollamad.cli.serve", "serve", *flags],
        env={**daemon.environ(), **QUIET},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    assert done.returncode == 1, done
    assert "Traceback" not in done.stderr
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 1, lines
    return lines[0]


#: A file -> its line that is wrong, the key, what was seen, what is allowed.
WRONG_FILES = {
    "[server]\nport = 70000\n": (2, "server.port", "saw 70000", "a whole number from 0 to 65535"),
    '[server]\nport = "x"\n': (2, "server.port", 'saw "x"', "a whole number from 0 to 65535"),
    "[server]\nport = 1.5\n": (2, "server.port", "saw 1.5", "a whole number"),
    "[server]\nport = true\n": (2, "server.port", "saw true", "a whole number"),
    "\n\n[scheduler]\nmax_queu = 3\n": (4, "scheduler.max_queu", "unknown key", "did you mean max_queue?"),
    "[nothing]\nx = 1\n": (1, "nothing", "unknown key", "known: "),
    '[runner]\nkv_cache_type = "q1"\n': (2, "runner.kv_cache_type", 'saw "q1"', '"f16" or "q8_0" or "q4_0"'),
    '[scheduler]\nkeep_alive = "soon"\n': (2, "scheduler.keep_alive", 'saw "soon"', 'a duration such as "5m"'),
    "[server]\nheader_timeout_s = nan\n": (2, "server.header_timeout_s", "saw nan", "a number from 0.1 to 3600"),
    "[server]\norigins = [1]\n": (2, "server.origins", "saw [1]", "a list of texts"),
    '[logging]\nlevel = "LOUD"\n': (2, "logging.level", 'saw "LOUD"', '"TRACE" or "DEBUG"'),
    '[plugins]\nextra = ["x"]\n': (2, "plugins.extra", "'x'", "module:attribute"),
    "[server]\nport = \n": (2, "", "", ""),
    "[server\n": (1, "", "", ""),
    '[models."demo"]\nkeep_aliv = 1\n': (2, "models.demo.keep_aliv", "unknown key", "did you mean keep_alive?"),
    "[listeners.x]\nport = -1\n": (2, "listeners.x.port", "saw -1", "a whole number from 0 to 65535"),
}


@pytest.mark.parametrize("text", WRONG_FILES, ids=[repr(text)[:40] for text in WRONG_FILES])
def test_a_wrong_file_is_refused(make_daemon: Callable[..., Any], tmp_path: Path, text: str) -> None:
    """The start ends with 1 and names file, line, key, what was seen and what is allowed."""
    line, *parts = WRONG_FILES[text]
    file = tmp_path / "wrong.toml"
    file.write_text(text)
    said = refused(make_daemon(), "--config", str(file))
    assert f"{file}:{line}: " in said
    for part in parts:
        assert part in said


WRONG_FLAGS = {
    ("--set", "server.port=70000"): ("server.port", 'saw "70000"', "a whole number from 0 to 65535"),
    ("--set", "server.port=x"): ("server.port", 'saw "x"', "a whole number from 0 to 65535"),
    ("--set", "server.prt=1"): ("server.prt", "unknown key", "did you mean server.port?"),
    ("--set", "nothing"): ("", 'saw "nothing"', "KEY=VALUE"),
    ("--set", "store.demo=maybe"): ("store.demo", 'saw "maybe"', "true or false"),
    ("--set", "plugins.unix-socket.mode=rw"): ("plugins.unix-socket.mode", 'saw "rw"', "octal digits"),
    ("--set", "plugins.unix-socket.mod=1"): ("plugins.unix-socket.mod", "unknown key", "did you mean mode?"),
}


@pytest.mark.parametrize("flags", WRONG_FLAGS, ids=[" ".join(flags) for flags in WRONG_FLAGS])
def test_a_wrong_flag_is_refused(make_daemon: Callable[..., Any], flags: tuple[str, ...]) -> None:
    """A flag is as strict as the file, and is named."""
    said = refused(make_daemon(), *flags)
    assert flags[0] in said
    for part in WRONG_FLAGS[flags]:
        assert part in said


def test_a_file_that_is_not_there_is_refused(make_daemon: Callable[..., Any], tmp_path: Path) -> None:
    """A file that was named has to be there."""
    file = tmp_path / "nowhere.toml"
    assert f"{file}: cannot be read: No such file or directory" in refused(make_daemon(), "--config", str(file))


def test_a_wrong_variable_is_only_a_warning(make_daemon: Callable[..., Any]) -> None:
    """Wrong variables are logged, and the defaults hold, as with Ollama."""
    daemon = make_daemon(OLLAMA_MAX_QUEUE="many", OLLAMA_NUM_PARALLEL="-1", OLLAMA_KEEP_ALIVE="soon").start()
    found = shown(daemon, daemon.home / "run" / "ollamad.sock")
    for key in ("scheduler.max_queue", "scheduler.num_parallel", "scheduler.keep_alive"):
        assert (found[key]["source"], found[key]["value"]) == ("default", found[key]["default"])
    assert daemon.log.read_text().count("invalid environment variable, using default") == 2
