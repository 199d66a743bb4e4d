"""Sources, their order, and what each refuses."""

from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from ollamad.config import sections
from ollamad.config.load import Flag, find_places, load, plugin_settings
from ollamad.config.schema import OPTIONS, Option
from ollamad.config.sections import Config
from ollamad.config.values import trim
from ollamad.errors import ConfigError
from ollamad.types import FOREVER_NS

HOME = {"HOME": "/home/somebody"}
S = 1_000_000_000


def from_environment(name: str, value: str) -> Config:
    return load(environ=HOME | {name: value}, default_file=Path("/nonexistent"))


def from_file(tmp_path: Path, text: str, **environ: str) -> Config:
    path = tmp_path / "ollamad.toml"
    path.write_text(text)
    return load(file=path, environ=HOME | environ)


def refused(tmp_path: Path, text: str) -> str:
    with pytest.raises(ConfigError) as caught:
        from_file(tmp_path, text)
    return str(caught.value).replace(str(tmp_path), "")


# --- every option from every source ---------------------------------------------------------

#: type -> (text for variables and flags, TOML, value); none of them is a default.
SAMPLES: dict[str, tuple[str, str, Any]] = {
    "tristate": ("true", "true", True),
    "float": ("7.5", "7.5", 7.5),
    "string": ("x", '"x"', "x"),
    "duration": ("7m", '"7m"', 420 * S),
    "host": ("192.0.2.1", '"192.0.2.1"', "192.0.2.1"),
    "path": ("/x/y", '"/x/y"', Path("/x/y")),
    "level": ("DEBUG", '"debug"', "DEBUG"),
}


def sample(option: Option) -> tuple[str, str, Any]:
    if option.type == "bool":
        text = "false" if option.default else "true"
        return text, text, not option.default
    if option.type == "int":
        number = int(max(option.minimum or 0, 3) if option.default != 3 else 4)
        number = number if number != option.default else number + 1
        return str(number), str(number), number
    if option.type == "choice":
        other = next(one for one in option.choices if one != option.default)
        return other, f'"{other}"', other
    if option.type == "strings":
        text = "m:a" if option.key == "plugins.extra" else "http://a,http://b"
        parts = text.split(",")
        return text, str(parts).replace("'", '"'), tuple(parts)
    return SAMPLES[option.type]


@pytest.mark.parametrize("option", OPTIONS, ids=lambda option: option.key)
def test_every_option_from_a_flag(option: Option) -> None:
    """A flag's text becomes the value and is named as the source."""
    text, _, value = sample(option)
    setting = load(flags=[Flag(option.key, text, "--set")], environ=HOME).settings[option.key]
    assert (setting.value, setting.source, setting.detail) == (value, "flag", "--set")


@pytest.mark.parametrize("option", OPTIONS, ids=lambda option: option.key)
def test_every_option_from_the_file(option: Option, tmp_path: Path) -> None:
    """A key of the file becomes the value, and its line is named."""
    _, toml, value = sample(option)
    section, _, key = option.key.partition(".")
    setting = from_file(tmp_path, f"[{section}]\n{key} = {toml}\n").settings[option.key]
    assert (setting.value, setting.source, setting.detail) == (value, "file", f"{tmp_path}/ollamad.toml:2")


@pytest.mark.parametrize("option", [one for one in OPTIONS if one.variable], ids=lambda option: option.key)
def test_every_option_from_its_variable(option: Option) -> None:
    """A variable becomes the value and is named as the source."""
    text, _, value = sample(option)
    text = "1" if option.type == "level" else text
    setting = from_environment(option.variable, text).settings[option.key]
    assert (setting.value, setting.source, setting.detail) == (value, "environment", option.variable)


@pytest.mark.parametrize("option", OPTIONS, ids=lambda option: option.key)
def test_every_option_reaches_its_section(option: Option) -> None:
    """The value stands in the section's field of the same name."""
    text, _, value = sample(option)
    config = load(flags=[Flag(option.key, text, "--set")], environ=HOME)
    section, _, key = option.key.partition(".")
    assert getattr(getattr(config, section), key + ("_ns" if option.type == "duration" else "")) == value


@pytest.mark.parametrize("section", ["server", "store", "scheduler", "runner", "plugins", "logging"])
def test_sections_hold_nothing_else(section: str) -> None:
    """A section has a field for each of its options and no other."""
    kind = getattr(sections, f"{section.capitalize()}Config")
    declared = {
        option.key.partition(".")[2] + ("_ns" if option.type == "duration" else "")
        for option in OPTIONS
        if option.key.startswith(f"{section}.")
    }
    assert {one.name for one in fields(kind)} == declared


def test_order_of_the_sources(tmp_path: Path) -> None:
    """Flags win over the environment, that over the file, that over the default."""
    text = "[scheduler]\nmax_queue = 1\nmax_loading = 2\nmax_loaded_models = 3\n"
    path = tmp_path / "f.toml"
    path.write_text(text)
    environ = HOME | {"OLLAMA_MAX_QUEUE": "10", "OLLAMA_MAX_LOADED_MODELS": "30", "OLLAMAD_CONFIG": str(path)}
    config = load(flags=[Flag("scheduler.max_queue", "100", "--set")], environ=environ)
    assert config.scheduler.max_queue == 100
    assert config.scheduler.max_loaded_models == 30
    assert config.scheduler.max_loading == 2
    assert config.scheduler.keep_alive_ns == 300 * S
    rows = {row.key: row for row in config.explain()}
    assert rows["scheduler.max_queue"].source == "flag"
    assert rows["scheduler.max_loading"].detail == f"{path}:3"
    assert rows["scheduler.keep_alive"].source == "default"
    assert [row.key for row in config.explain()] == [option.key for option in OPTIONS]


def test_which_file_is_read(tmp_path: Path) -> None:
    """A named file must be there; the usual one is read only if it is."""
    usual, named = tmp_path / "usual.toml", tmp_path / "named.toml"
    assert load(environ=HOME, default_file=usual).file is None
    usual.write_text("[store]\ndemo = false\n")
    assert load(environ=HOME, default_file=usual).store.demo is False
    with pytest.raises(ConfigError, match="cannot be read"):
        load(environ=HOME | {"OLLAMAD_CONFIG": str(named)}, default_file=usual)
    named.write_text("")
    assert load(file=named, environ=HOME, default_file=usual).store.demo is True


# --- host and port ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("environ", "host", "port"),
    [
        ({"OLLAMA_HOST": "0.0.0.0:99"}, "0.0.0.0", 99),
        ({"OLLAMA_HOST": ":99"}, "", 99),
        ({"OLLAMA_HOST": "1.2.3.4"}, "1.2.3.4", 7),
        ({"OLLAMA_HOST": "http://1.2.3.4"}, "1.2.3.4", 80),
        ({"OLLAMA_HOST": "1.2.3.4:abc"}, "1.2.3.4", 11434),
        ({"OLLAMA_HOST": "1.2.3.4:99", "OLLAMA_PORT": "100"}, "1.2.3.4", 100),
        ({"OLLAMA_PORT": "100"}, "9.9.9.9", 100),
        ({}, "9.9.9.9", 7),
    ],
)
def test_host_and_port(tmp_path: Path, environ: dict[str, str], host: str, port: int) -> None:
    """OLLAMA_HOST names the port if its text does; OLLAMA_PORT wins over that; the file is below both."""
    config = from_file(tmp_path, '[server]\nhost = "9.9.9.9"\nport = 7\n', **environ)
    assert (config.server.host, config.server.port) == (host, port)


def test_host_with_port_in_the_file(tmp_path: Path) -> None:
    """A host text of the file may name the port as well."""
    config = from_file(tmp_path, '[server]\nhost = "[::1]:8080"\n[listeners.more]\nhost = ":9"\nprofile = "admin"\n')
    assert (config.server.host, config.server.port) == ("::1", 8080)
    more = config.listeners["more"]
    assert (more.host, more.port, more.profile) == ("", 9, "admin")
    assert from_file(tmp_path, '[server]\nhost = ""\n').server.host == ""


# --- the environment's own rules ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "result"),
    [("", False), ("true", True), ("false", False), ("1", True), ("0", False), ("random", True), ("something", True)]
    + [(one, False) for one in ("F", "f", "False", "FALSE")]
    + [(one, True) for one in ("no", "off", "fAlSe", "2")],
)
def test_booleans(value: str, result: bool) -> None:
    """BOOL-01 to BOOL-09."""
    assert from_environment("OLLAMA_NOPRUNE", value).store.noprune is result


@pytest.mark.parametrize(("value", "result"), [("", None), ("1", True), ("0", False), ("x", True)])
def test_tristate(value: str, result: bool | None) -> None:
    """A three-valued variable that is unset stays automatic."""
    assert from_environment("OLLAMA_FLASH_ATTENTION", value).runner.flash_attention is result


@pytest.mark.parametrize(
    ("value", "result"),
    [("0", 0), ("1", 1), ("1337", 1337)]
    + [(one, 512) for one in ("", "-1", "0o10", "0x10", "string", "+1", "1_000", "٣")],
)
def test_unsigned_numbers(value: str, result: int) -> None:
    """UINT-01 to UINT-10: plain digits, else a warning with key, value and default, and the default."""
    config = from_environment("OLLAMA_MAX_QUEUE", value)
    assert config.scheduler.max_queue == result
    if value and result == 512:
        note = config.notes[0]
        assert note.message == "invalid environment variable, using default"
        assert note.attributes == {"key": "OLLAMA_MAX_QUEUE", "value": value, "default": 512}
    else:
        assert config.notes == ()


DURATIONS = {
    "DUR-01": ("", 300, 300),
    "DUR-02": ("1s", 1, 1),
    "DUR-03": ("1m", 60, 60),
    "DUR-04": ("1h", 3600, 3600),
    "DUR-05": ("5m0s", 300, 300),
    "DUR-06": ("1h2m3s", 3723, 3723),
    "DUR-07": ("0", 0, None),
    "DUR-08": ("60", 60, 60),
    "DUR-09": ("120", 120, 120),
    "DUR-10": ("3600", 3600, 3600),
    "DUR-11": ("-0", 0, None),
    "DUR-12": ("-1", None, None),
    "DUR-13": ("-1m", None, None),
    "DUR-14": (" ", 300, 300),
    "DUR-15": ("???", 300, 300),
    "DUR-16": ("1d", 300, 300),
    "DUR-17": ("1y", 300, 300),
    "DUR-18": ("1w", 300, 300),
    "DUR-19": ("1.5h", 5400, 5400),
    "DUR-20": ("1.5", 300, 300),
    "DUR-21": ("1h 30m", 300, 300),
}


@pytest.mark.parametrize(("value", "keep_alive", "load_timeout"), DURATIONS.values(), ids=DURATIONS)
def test_durations(value: str, keep_alive: int | None, load_timeout: int | None) -> None:
    """A wrong duration is the default without a warning; negative is for ever, and so is a load time-out of zero."""
    first = from_environment("OLLAMA_KEEP_ALIVE", value)
    second = from_environment("OLLAMA_LOAD_TIMEOUT", value)
    assert first.scheduler.keep_alive_ns == (FOREVER_NS if keep_alive is None else keep_alive * S)
    assert second.scheduler.load_timeout_ns == (FOREVER_NS if load_timeout is None else load_timeout * S)
    assert first.notes == second.notes == ()


TRIMMED = {
    "VAR-01": ("value", "value"),
    "VAR-02": (" value ", "value"),
    "VAR-03": (" 'value' ", "value"),
    "VAR-04": (' "value" ', "value"),
    "VAR-05": (" ' value ' ", " value "),
    "VAR-06": (' " value " ', " value "),
}


@pytest.mark.parametrize(("value", "result"), TRIMMED.values(), ids=TRIMMED)
def test_trimming(value: str, result: str) -> None:
    """White space, then quotes are cut off both ends; blanks inside the quotes stay."""
    assert trim(value) == result


LEVEL_TEXTS = {
    "INFO": ("", "false", "f", "0", "yes"),
    "DEBUG": ("true", "t", "1"),
    "TRACE": ("2", "4"),
    "WARN": ("-1",),
    "ERROR": ("-2", "-3"),
}


@pytest.mark.parametrize(("value", "level"), [(text, level) for level in LEVEL_TEXTS for text in LEVEL_TEXTS[level]])
def test_log_level(value: str, level: str) -> None:
    """LVL-01 to LVL-11."""
    assert from_environment("OLLAMA_DEBUG", value).logging.level == level


def test_other_variables() -> None:
    """CTX-01, CTX-02; the cache type is lower-cased, one we do not have is the default and a warning."""
    assert from_environment("OLLAMA_CONTEXT_LENGTH", "").runner.context_length == 0
    assert from_environment("OLLAMA_CONTEXT_LENGTH", "2048").runner.context_length == 2048
    assert from_environment("OLLAMA_KV_CACHE_TYPE", "Q8_0").runner.kv_cache_type == "q8_0"
    config = from_environment("OLLAMA_KV_CACHE_TYPE", "f32")
    assert config.runner.kv_cache_type == "f16"
    assert len(config.notes) == 1
    assert from_environment("OLLAMAD_DEMO", "0").store.demo is False


def test_bad_port_of_the_host_variable() -> None:
    """A bad port of OLLAMA_HOST is the default and a warning of its own."""
    config = from_environment("OLLAMA_HOST", ":66000")
    assert (config.server.host, config.server.port) == ("", 11434)
    assert config.notes[0].message == "invalid port, using default"


# --- refusals --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[sever]\n", "/ollamad.toml:1: sever: unknown key; did you mean server?"),
        ("[server]\nprot = 1\n", "/ollamad.toml:2: server.prot: unknown key; did you mean port?"),
        (
            '[server]\nport = "x"\n',
            '/ollamad.toml:2: server.port: saw "x"; allowed: a whole number from 0 to 65535',
        ),
        (
            "[server]\nport = 65536\n",
            "/ollamad.toml:2: server.port: saw 65536; allowed: a whole number from 0 to 65535",
        ),
        ("[server]\nport = true\n", "/ollamad.toml:2: server.port: saw true; allowed: a whole number from 0 to 65535"),
        ("server = 1\n", "/ollamad.toml:1: server: is a section; write [server]"),
        ("[store]\ndemo = 1\n", "/ollamad.toml:2: store.demo: saw 1; allowed: true or false"),
        (
            "[runner]\nflash_attention = 'x'\n",
            '/ollamad.toml:2: runner.flash_attention: saw "x"; allowed: true or false, or "auto"',
        ),
        (
            "\n\n[runner]\nkv_cache_type = 'F16'\n",
            '/ollamad.toml:4: runner.kv_cache_type: saw "F16"; allowed: "f16" or "q8_0" or "q4_0"',
        ),
        (
            "[scheduler]\nkeep_alive = '1d'\n",
            '/ollamad.toml:2: scheduler.keep_alive: saw "1d"; allowed: a duration such as "5m" or a number of seconds',
        ),
        (
            "[server]\nhost = '1.2.3.4:abc'\n",
            '/ollamad.toml:2: server.host: saw "1.2.3.4:abc"; '
            'allowed: an address such as "127.0.0.1" or "0.0.0.0:11434"',
        ),
        ("[server]\norigins = [1]\n", "/ollamad.toml:2: server.origins: saw [1]; allowed: a list of texts"),
        ("[plugins]\nextra = ['x']\n", "/ollamad.toml:2: plugins.extra: 'x' is not module:attribute"),
        (
            "[plugins]\nload_timeout_s = nan\n",
            "/ollamad.toml:2: plugins.load_timeout_s: saw nan; allowed: a number from",
        ),
        ("[logging]\nlevel = 'loud'\n", '/ollamad.toml:2: logging.level: saw "loud"; allowed: "TRACE" or "DEBUG"'),
        (
            "[listeners.x]\nprofile = 'all'\n",
            '/ollamad.toml:2: listeners.x.profile: saw "all"; allowed: "inference" or',
        ),
        ("[listeners]\nx = 1\n", "/ollamad.toml:2: listeners.x: is a table; write [listeners.x]"),
        (
            '[models."a:b"]\nkeep_aliv = 1\n',
            '/ollamad.toml:2: models."a:b".keep_aliv: unknown key; did you mean keep_alive?',
        ),
        ("[models.a]\nparameters = 1\n", "/ollamad.toml:2: models.a.parameters: saw 1; allowed: a table of parameters"),
        (
            "[models.a.parameters]\nstop = [1]\n",
            "/ollamad.toml:2: models.a.parameters.stop: saw [1]; allowed: a number, a text, true, false or a list",
        ),
        ("[server]\nport =\n", "/ollamad.toml:2: invalid value"),
    ],
)
def test_the_file_is_strict(tmp_path: Path, text: str, message: str) -> None:
    """A wrong key or value of the file names file, line, key, what was seen and what is allowed."""
    assert refused(tmp_path, text).startswith(message)


@pytest.mark.parametrize(
    ("key", "text", "message"),
    [
        ("server.port", "70000", '--set: server.port: saw "70000"; allowed: a whole number from 0 to 65535'),
        ("server.prot", "1", "--set: server.prot: unknown key; did you mean server.port?"),
        ("store.demo", "maybe", '--set: store.demo: saw "maybe"; allowed: true or false'),
        ("store.path", "", '--set: store.path: saw ""; allowed: a path'),
        ("scheduler.keep_alive", "x", '--set: scheduler.keep_alive: saw "x"; allowed: a duration'),
    ],
)
def test_flags_are_strict(key: str, text: str, message: str) -> None:
    """A wrong flag is refused as the file is."""
    with pytest.raises(ConfigError) as caught:
        load(flags=[Flag(key, text, "--set")], environ=HOME)
    assert str(caught.value).startswith(message)


# --- tables ------------------------------------------------------------------------------------


def test_models(tmp_path: Path) -> None:
    """What is said of one model is kept as it was written; durations are seconds or texts."""
    config = from_file(
        tmp_path, '[models."demo:latest"]\nkeep_alive = 2.5\n[models."demo:latest".parameters]\nnum_ctx = 99\n'
    )
    model = config.models["demo:latest"]
    assert model.keep_alive_ns == 2_500_000_000
    assert model.parameters == {"num_ctx": 99}
    assert config.settings['models."demo:latest".keep_alive'].source == "file"


OPTION = Option("mode", "choice", "a", "Help.", choices=("a", "b"), variable="SOME_MODE")


def test_plugin_sections(tmp_path: Path) -> None:
    """A plugin's section is kept until its plugin declares it, then checked as the core's are."""
    text = "[plugins.mine]\nmode = 'b'\n[plugins.other]\nwhatever = 1\n"
    config = from_file(tmp_path, text)
    settings, _ = plugin_settings(config, "mine", [OPTION])
    assert (settings["mode"].value, settings["mode"].detail) == ("b", f"{tmp_path}/ollamad.toml:2")
    assert set(config.plugin_tables) == {"mine", "other"}
    with pytest.raises(ConfigError, match=r"ollamad\.toml:4: plugins\.other\.whatever: unknown key; known: mode"):
        plugin_settings(config, "other", [OPTION])


def test_plugin_options_from_other_sources() -> None:
    """A plugin's option has a default, its variable and --set."""
    config = load(environ=HOME)
    assert plugin_settings(config, "mine", [OPTION])[0]["mode"].source == "default"
    config = load(environ=HOME | {"SOME_MODE": "b"})
    assert plugin_settings(config, "mine", [OPTION])[0]["mode"].detail == "SOME_MODE"
    config = load(environ=HOME | {"SOME_MODE": "b"}, flags=[Flag("plugins.mine.mode", "a", "--set")])
    setting = plugin_settings(config, "mine", [OPTION])[0]["mode"]
    assert (setting.value, setting.source) == ("a", "flag")
    config = load(environ=HOME, flags=[Flag("plugins.mine.mod", "a", "--set")])
    with pytest.raises(ConfigError, match=r"--set: plugins\.mine\.mod: unknown key; did you mean mode\?"):
        plugin_settings(config, "mine", [OPTION])


# --- places ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("environ", "state", "runtime"),
    [
        ({"STATE_DIRECTORY": "/var/lib/x:/other", "RUNTIME_DIRECTORY": "/run/x"}, "/var/lib/x", "/run/x"),
        ({"XDG_STATE_HOME": "/s", "RUNTIME_DIRECTORY": "/r"}, "/s/ollamad", "/r"),
        ({"XDG_STATE_HOME": "relative", "RUNTIME_DIRECTORY": "/r"}, "/home/somebody/.local/state/ollamad", "/r"),
    ],
)
def test_places(environ: dict[str, str], state: str, runtime: str) -> None:
    """systemd's directories come first, then those of XDG."""
    places = find_places(HOME | environ)
    assert (str(places.state), str(places.runtime)) == (state, runtime)


def test_runtime_place_of_users(monkeypatch: pytest.MonkeyPatch) -> None:
    """Root's sockets lie below /run, a user's in the session's directory, else in the state directory."""
    monkeypatch.setattr("os.geteuid", lambda: 0)
    assert str(find_places(HOME).runtime) == "/run/ollamad"
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    assert str(find_places(HOME | {"XDG_RUNTIME_DIR": "/run/user/1000"}).runtime) == "/run/user/1000/ollamad"
    assert find_places(HOME).runtime == find_places(HOME).state
