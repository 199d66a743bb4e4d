"""The sources and their order: defaults < file < environment < flags.

The only module that reads `os.environ`. What other rooms need of it, they are given: their section, the `Places`,
or `inherited_environment` for a child.
"""

from __future__ import annotations

import os
import pwd
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

from ollamad.config.document import Document, dotted, read_document
from ollamad.config.host import parse_host
from ollamad.config.schema import LISTENER, MODEL, OPTIONS, Option, Places
from ollamad.config.sections import (
    Config,
    ListenerConfig,
    LoggingConfig,
    ModelSection,
    Note,
    PluginsConfig,
    RawTable,
    RunnerConfig,
    SchedulerConfig,
    ServerConfig,
    Setting,
    Source,
    StoreConfig,
)
from ollamad.config.values import Unusable, default_of, from_environment, from_text, from_toml, trim
from ollamad.errors import ConfigError

#: Read when neither ``--config`` nor ``$OLLAMAD_CONFIG`` names a file, if it is there.
DEFAULT_FILE = Path("/etc/ollamad/ollamad.toml")

#: What one source gives: dotted key -> (value, detail).
Level: TypeAlias = dict[str, tuple[Any, str]]
S = TypeVar("S")


@dataclass(frozen=True, slots=True)
class Flag:
    """One option from the command line; ``name`` is how it was written (``--port``)."""

    key: str
    text: str
    name: str


def inherited_environment() -> dict[str, str]:
    """A copy of this process's environment, for those who start children."""
    return dict(os.environ)


def load(
    *,
    file: str | Path | None = None,
    flags: Sequence[Flag] = (),
    environ: Mapping[str, str] | None = None,
    default_file: Path = DEFAULT_FILE,
) -> Config:
    """Read all sources of the core's options; sections of plugins are kept for `plugin_settings`.

    Raises:
        ConfigError: An unknown key, a wrong type or a value out of range in the file or a flag; a file that
            was named and cannot be read. A wrong variable is a `Note` and the default instead.
    """
    environ = inherited_environment() if environ is None else dict(environ)
    places = find_places(environ)
    path = _file_path(file, environ, places, default_file)
    document = read_document(path) if path is not None else Document()
    notes: list[Note] = []
    file_level, tables = _file_level(document, places)
    flag_level, plugin_flags = _flag_level(flags, places)
    levels: list[tuple[Source, Level]] = [
        ("flag", flag_level),
        ("environment", _environment_level(OPTIONS, environ, places, notes)),
        ("file", file_level),
    ]
    settings = {option.key: _resolve(option, levels, places) for option in OPTIONS}
    for option_key, option in _table_options(tables):
        settings[option_key] = _resolve(option, levels, places, option_key)
    return Config(
        server=_section(ServerConfig, settings, "server."),
        store=_section(StoreConfig, settings, "store."),
        scheduler=_section(SchedulerConfig, settings, "scheduler."),
        runner=_section(RunnerConfig, settings, "runner."),
        plugins=_section(PluginsConfig, settings, "plugins."),
        logging=_section(LoggingConfig, settings, "logging."),
        listeners={
            name: _section(ListenerConfig, settings, dotted(("listeners", name)) + ".") for name in tables.listeners
        },
        models={
            name: _section(ModelSection, settings, dotted(("models", name)) + ".", parameters=parameters)
            for name, parameters in tables.models.items()
        },
        settings=settings,
        plugin_tables=tables.plugins,
        plugin_flags=plugin_flags,
        places=places,
        environment=environ,
        file=path,
        notes=tuple(notes),
    )


def plugin_settings(config: Config, plugin: str, options: Sequence[Option]) -> tuple[dict[str, Setting], list[Note]]:
    """The options of a loaded plugin by their bare names, from its section, its variables and ``--set``.

    Raises:
        ConfigError: As `load` does, for the plugin's section or flags.
    """
    table = config.plugin_tables.get(plugin, RawTable({}, {}, ""))
    document = Document(
        table.file, {"plugins": {plugin: table.values}}, {("plugins", plugin, key): n for key, n in table.lines.items()}
    )
    file_level = _table_level(document, ("plugins", plugin), options, config.places)
    flag_level: Level = {}
    for key, text in config.plugin_flags.get(plugin, {}).items():
        name = f"plugins.{plugin}.{key}"
        option = next((one for one in options if one.key == key), None)
        if option is None:
            raise ConfigError(_unknown(key, [one.key for one in options]), source="--set", key=name)
        flag_level[dotted(("plugins", plugin, key))] = (
            _strict_text(Flag(name, text, "--set"), option, config.places),
            "--set",
        )
    notes: list[Note] = []
    environment = _environment_level(options, config.environment, config.places, notes)
    levels: list[tuple[Source, Level]] = [("flag", flag_level), ("file", file_level)]
    settings = {}
    for option in options:
        key = dotted(("plugins", plugin, option.key))
        if option.key in environment and key not in flag_level:
            value, detail = environment[option.key]
            settings[option.key] = Setting(option, value, "environment", detail)
        else:
            settings[option.key] = _resolve(option, levels, config.places, key)
    return settings, notes


def find_places(environ: Mapping[str, str]) -> Places:
    """The directories of this process. Source: systemd.exec(5), XDG Base Directory Specification."""
    home = Path(environ.get("HOME") or pwd.getpwuid(os.getuid()).pw_dir)
    xdg_state = environ.get("XDG_STATE_HOME", "")
    if given := environ.get("STATE_DIRECTORY"):
        state = Path(given.split(":")[0])
    else:
        state = (Path(xdg_state) if xdg_state.startswith("/") else home / ".local" / "state") / "ollamad"
    if given := environ.get("RUNTIME_DIRECTORY"):
        runtime = Path(given.split(":")[0])
    elif os.geteuid() == 0:
        runtime = Path("/run/ollamad")
    elif environ.get("XDG_RUNTIME_DIR", "").startswith("/"):
        runtime = Path(environ["XDG_RUNTIME_DIR"]) / "ollamad"
    else:
        runtime = state
    return Places(home, state, runtime)


def _file_path(file: str | Path | None, environ: Mapping[str, str], places: Places, default: Path) -> Path | None:
    named = str(file) if file is not None else environ.get("OLLAMAD_CONFIG", "")
    if named:
        return places.home / named[2:] if named.startswith("~/") else Path(named)
    return default if default.exists() else None


def _resolve(option: Option, levels: Iterable[tuple[Source, Level]], places: Places, key: str | None = None) -> Setting:
    for source, level in levels:
        if (key or option.key) in level:
            value, detail = level[key or option.key]
            return Setting(option, value, source, detail)
    return Setting(option, default_of(option, places))


def _section(kind: type[S], settings: Mapping[str, Setting], prefix: str, **more: Any) -> S:
    names = {one.name for one in fields(kind)}  # type: ignore[arg-type]
    values = dict(more)
    for name in names - more.keys():
        values[name] = settings[prefix + name.removesuffix("_ns")].value
    return kind(**values)


# --- the environment -----------------------------------------------------------------------


def _environment_level(
    options: Sequence[Option], environ: Mapping[str, str], places: Places, notes: list[Note]
) -> Level:
    level: Level = {}
    for option in options:
        text = trim(environ.get(option.variable, "")) if option.variable else ""
        if not text:
            continue
        if option.type == "host":
            _host_of_environment(option, text, level, notes)
            continue
        try:
            level[option.key] = (from_environment(option, text, places), option.variable)
        except Unusable as error:
            if not error.silent:
                attributes = {"key": option.variable, "value": text, "default": default_of(option, places)}
                notes.append(Note(str(error), attributes))
    return level


def _host_of_environment(option: Option, text: str, level: Level, notes: list[Note]) -> None:
    parsed, bad_port = parse_host(text)
    level[option.key] = (parsed.host, option.variable)
    if parsed.names_port:
        level[_port_key(option.key)] = (parsed.port, option.variable)
    if bad_port:
        notes.append(Note("invalid port, using default", {"port": bad_port, "default": parsed.port}))


def _port_key(host_key: str) -> str:
    return host_key.removesuffix("host") + "port"


# --- flags ---------------------------------------------------------------------------------


def _flag_level(flags: Sequence[Flag], places: Places) -> tuple[Level, dict[str, dict[str, str]]]:
    options = {option.key: option for option in OPTIONS}
    level: Level = {}
    of_plugins: dict[str, dict[str, str]] = {}
    for flag in flags:
        parts = flag.key.split(".")
        if flag.key in options:
            level[flag.key] = (_strict_text(flag, options[flag.key], places), flag.name)
        elif len(parts) == 3 and parts[0] == "plugins":
            of_plugins.setdefault(parts[1], {})[parts[2]] = flag.text
        else:
            raise ConfigError(_unknown(flag.key, options), source=flag.name, key=flag.key)
    return _with_port("server.host", level), of_plugins


def _strict_text(flag: Flag, option: Option, places: Places) -> Any:
    try:
        return from_text(option, flag.text, places)
    except ValueError as error:
        raise ConfigError(str(error), source=flag.name, key=flag.key) from None


def _with_port(host_key: str, level: Level) -> Level:
    """Split the text of a host in *level*; the port in it counts unless the level names one itself."""
    if host_key in level:
        text, detail = level[host_key]
        parsed, _ = parse_host(text)
        level[host_key] = (parsed.host if text else "", detail)
        if parsed.names_port:
            level.setdefault(_port_key(host_key), (parsed.port, detail))
    return level


# --- the file ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Tables:
    """The tables whose names the user chose."""

    listeners: tuple[str, ...]
    models: Mapping[str, Mapping[str, Any]]  # name -> parameters
    plugins: Mapping[str, RawTable]


def _table_options(tables: _Tables) -> Iterable[tuple[str, Option]]:
    for name in tables.listeners:
        yield from ((dotted(("listeners", name, option.key)), option) for option in LISTENER)
    for name in tables.models:
        yield from ((dotted(("models", name, option.key)), option) for option in MODEL)


def _file_level(document: Document, places: Places) -> tuple[Level, _Tables]:
    level: Level = {}
    sections = dict.fromkeys(option.key.partition(".")[0] for option in OPTIONS)
    tables = _Tables((), {}, {})
    for name, table in document.values.items():
        if name not in sections and name not in ("listeners", "models"):
            raise document.error(_unknown(name, [*sections, "listeners", "models"]), name)
        if not isinstance(table, dict):
            raise document.error("is a section; write [" + name + "]", name)
    plugins_table = document.values.get("plugins", {})
    of_plugins = {
        name: _raw_table(document, name, table) for name, table in plugins_table.items() if isinstance(table, dict)
    }
    for section in sections:
        options = [option for option in OPTIONS if option.key.startswith(f"{section}.")]
        level |= _section_level(document, section, options, places, of_plugins if section == "plugins" else {})
    listeners = tuple(document.values.get("listeners", {}))
    for name in listeners:
        level |= _table_level(document, ("listeners", name), LISTENER, places)
    models = {}
    for name in document.values.get("models", {}):
        level |= _table_level(document, ("models", name), MODEL, places, besides=("parameters",))
        models[name] = _parameters(document, name)
    tables = _Tables(listeners, models, of_plugins)
    return level, tables


def _section_level(
    document: Document, section: str, options: Sequence[Option], places: Places, besides: Iterable[str]
) -> Level:
    bare = [_bare(option) for option in options]
    return _table_level(document, (section,), bare, places, tuple(besides))


def _bare(option: Option) -> Option:
    return replace(option, key=option.key.partition(".")[2])


def _table_level(
    document: Document, path: tuple[str, ...], options: Sequence[Option], places: Places, besides: Sequence[str] = ()
) -> Level:
    """The values of one table, each checked. Raises: ConfigError."""
    table: Any = document.values
    for part in path:
        table = table.get(part, {}) if isinstance(table, dict) else table
    if not isinstance(table, dict):
        raise document.error("is a table; write [" + dotted(path) + "]", *path)
    by_key = {option.key: option for option in options}
    level: Level = {}
    for key, value in table.items():
        if key in besides:
            continue
        if key not in by_key:
            raise document.error(_unknown(key, [*by_key, *besides]), *path, key)
        try:
            level[dotted((*path, key))] = (from_toml(by_key[key], value, places), document.where(*path, key))
        except ValueError as error:
            raise document.error(str(error), *path, key) from None
    return _with_port(dotted((*path, "host")), level) if "host" in by_key else level


def _raw_table(document: Document, name: str, values: Mapping[str, Any]) -> RawTable:
    depth = ("plugins", name)
    lines = {path[2]: line for path, line in document.lines.items() if path[:2] == depth and len(path) == 3}
    return RawTable(values, lines, document.file)


def _parameters(document: Document, model: str) -> Mapping[str, Any]:
    parameters = document.values["models"][model].get("parameters", {})
    path = ("models", model, "parameters")
    if not isinstance(parameters, dict):
        raise document.error(f"saw {parameters!r}; allowed: a table of parameters as in a Modelfile", *path)
    for key, value in parameters.items():
        texts = isinstance(value, list) and all(isinstance(one, str) for one in value)
        if not texts and not isinstance(value, bool | int | float | str):
            raise document.error(
                f"saw {value!r}; allowed: a number, a text, true, false or a list of texts", *path, key
            )
    return parameters


def _unknown(key: str, known: Iterable[str]) -> str:
    import difflib  # only on the way to an error

    close = difflib.get_close_matches(key, list(known), n=1)
    return f"unknown key; did you mean {close[0]}?" if close else f"unknown key; known: {', '.join(known)}"
