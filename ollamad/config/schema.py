"""Every option of the core, declared once: name, type, default, unit, limits, variable, help, and when a change acts.

`etc/ollamad.toml`, the environment table, `ollamactl config` and the docs come from here or are
tested against it. Plugins declare theirs with the same `Option`, under ``[plugins.NAME]``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

#: When a changed value acts: at once, on the next load of a model, or after a restart.
Applies: TypeAlias = Literal["at once", "next load", "restart"]

#: ``duration`` is nanoseconds, written as Go duration text or as seconds; ``size`` is bytes.
OptionType: TypeAlias = Literal[
    "bool", "tristate", "int", "float", "string", "strings", "duration", "host", "path", "choice", "level"
]


@dataclass(frozen=True, slots=True)
class Places:
    """Directories that this process may use, worked out once from the environment by `config.load`.

    ``state`` is what the daemon remembers, ``runtime`` what lives as long as the daemon (sockets).
    Nothing here exists before somebody makes it.
    """

    home: Path
    state: Path
    runtime: Path


@dataclass(frozen=True, slots=True)
class Option:
    """One option.

    ``key`` is dotted (``server.port``); for a plugin's option it is the bare name. ``minimum`` and
    ``maximum`` are inclusive. ``choices`` are the allowed texts of a ``choice``. ``variable`` is the
    environment variable, "" for none. A default of None means automatic and is written ``auto``;
    ``default_from`` works a default out from the places, and ``default`` then is its text for people.
    ``zero_forever``: a duration of 0 means for ever, as every negative one does.
    """

    key: str
    type: OptionType
    default: Any
    help: str
    applies: Applies = "restart"
    variable: str = ""
    unit: str = ""
    minimum: float | None = None
    maximum: float | None = None
    choices: tuple[str, ...] = ()
    check: Callable[[Any], str | None] | None = None
    default_from: Callable[[Places], Any] | None = None
    zero_forever: bool = False


MINUTE_NS = 60_000_000_000

#: ``server.host`` also names the port when its text does (``0.0.0.0:8080``): `config.load` handles the pair.
SERVER = (
    Option(
        "server.host",
        "host",
        "127.0.0.1",
        "Address of the listener 'default': a name or IP address, with or without a port; '' is every interface.",
        variable="OLLAMA_HOST",
    ),
    Option(
        "server.port",
        "int",
        11434,
        "Port of the listener 'default'; 0 takes a free one. Wins over a port in server.host of the same source.",
        variable="OLLAMA_PORT",
        minimum=0,
        maximum=65535,
    ),
    Option(
        "server.profile",
        "choice",
        "manage",
        "What the listener 'default' offers: answers only, also changes of the store, or also the admin routes.",
        choices=("inference", "manage", "admin"),
    ),
    Option(
        "server.origins",
        "strings",
        (),
        "Web origins allowed besides those of this machine; '*' is a wildcard.",
        variable="OLLAMA_ORIGINS",
    ),
    Option(
        "server.max_connections",
        "int",
        16384,
        "Open connections of each listener; at the limit the one idle longest gives way, else a new one is refused.",
        unit="connections",
        minimum=1,
        maximum=1_000_000,
    ),
    Option(
        "server.max_header_bytes",
        "int",
        1 << 20,
        "Size of a request's line and headers; more is answered 431.",
        unit="bytes",
        minimum=1024,
        maximum=1 << 24,
    ),
    Option(
        "server.max_body_bytes",
        "int",
        128 << 20,
        "Size of a request's body, uploads of blobs excepted; more is answered 413.",
        unit="bytes",
        minimum=1024,
        maximum=1 << 32,
    ),
    Option(
        "server.header_timeout_s",
        "float",
        30.0,
        "Time for a new connection to send its headers.",
        unit="seconds",
        minimum=0.1,
        maximum=3600,
    ),
    Option(
        "server.body_timeout_s",
        "float",
        120.0,
        "Longest silence while a body is read.",
        unit="seconds",
        minimum=0.1,
        maximum=3600,
    ),
    Option(
        "server.idle_timeout_s",
        "float",
        300.0,
        "Time that a connection without a request stays open.",
        unit="seconds",
        minimum=0.1,
        maximum=86400,
    ),
    Option(
        "server.write_timeout_s",
        "float",
        30.0,
        "Time that an answer waits for a client that has stopped reading.",
        unit="seconds",
        minimum=0.1,
        maximum=3600,
    ),
    Option(
        "server.drain_timeout_s",
        "float",
        30.0,
        "Time for running answers to end when the daemon stops.",
        applies="at once",
        unit="seconds",
        minimum=0,
        maximum=3600,
    ),
)

STORE = (
    Option(
        "store.path",
        "path",
        "$HOME/.ollama/models",
        "Directory of the models, laid out as Ollama's.",
        variable="OLLAMA_MODELS",
        default_from=lambda places: places.home / ".ollama" / "models",
    ),
    Option("store.demo", "bool", True, "Offer the built-in model 'demo'.", variable="OLLAMAD_DEMO"),
    Option(
        "store.noprune",
        "bool",
        False,
        "Keep blobs that no model uses, at start and after create.",
        variable="OLLAMA_NOPRUNE",
    ),
)

SCHEDULER = (
    Option(
        "scheduler.keep_alive",
        "duration",
        5 * MINUTE_NS,
        "Time that an idle model stays loaded; negative is for ever, 0 unloads at once.",
        applies="at once",
        variable="OLLAMA_KEEP_ALIVE",
    ),
    Option(
        "scheduler.load_timeout",
        "duration",
        5 * MINUTE_NS,
        "Time without progress after which a load is given up; 0 or negative is for ever.",
        applies="next load",
        variable="OLLAMA_LOAD_TIMEOUT",
        zero_forever=True,
    ),
    Option(
        "scheduler.max_queue",
        "int",
        512,
        "Requests without a slot, over all models; further ones are refused. 0 refuses unless a slot is free.",
        applies="at once",
        variable="OLLAMA_MAX_QUEUE",
        unit="requests",
        minimum=0,
        maximum=1_000_000,
    ),
    Option(
        "scheduler.max_loaded_models",
        "int",
        0,
        "Models loaded at the same time; 0 is automatic (three for each device).",
        applies="at once",
        variable="OLLAMA_MAX_LOADED_MODELS",
        unit="models",
        minimum=0,
        maximum=10_000,
    ),
    Option(
        "scheduler.num_parallel",
        "int",
        None,
        "Slots of a model; 'auto' is as many, 1 to 8, as fit beside the weights. 0 is taken as 1.",
        applies="next load",
        variable="OLLAMA_NUM_PARALLEL",
        unit="slots",
        minimum=0,
        maximum=256,
    ),
    Option(
        "scheduler.max_loading",
        "int",
        1,
        "Loads that may run at the same time.",
        applies="at once",
        unit="models",
        minimum=1,
        maximum=64,
    ),
    Option(
        "scheduler.memory_budget_bytes",
        "int",
        0,
        "Memory of this machine that models may take together; 0 is automatic, four fifths of what is free.",
        applies="next load",
        unit="bytes",
        minimum=0,
        maximum=1 << 50,
    ),
    Option(
        "scheduler.gpu_overhead_bytes",
        "int",
        0,
        "Memory taken off each GPU when the default context length is chosen.",
        applies="next load",
        variable="OLLAMA_GPU_OVERHEAD",
        unit="bytes",
        minimum=0,
        maximum=1 << 50,
    ),
    Option(
        "scheduler.spread",
        "bool",
        False,
        "Spread a model over all GPUs instead of packing it onto one.",
        applies="next load",
        variable="OLLAMA_SCHED_SPREAD",
    ),
)

RUNNER = (
    Option(
        "runner.context_length",
        "int",
        0,
        "Tokens of a slot when neither request nor model says; 0 is automatic.",
        applies="next load",
        variable="OLLAMA_CONTEXT_LENGTH",
        unit="tokens",
        minimum=0,
        maximum=2**31 - 1,
    ),
    Option(
        "runner.flash_attention",
        "tristate",
        None,
        "Flash attention; 'auto' lets the backend choose.",
        applies="next load",
        variable="OLLAMA_FLASH_ATTENTION",
    ),
    Option(
        "runner.kv_cache_type",
        "choice",
        "f16",
        "Number format of the KV cache.",
        applies="next load",
        variable="OLLAMA_KV_CACHE_TYPE",
        choices=("f16", "q8_0", "q4_0"),
    ),
    Option(
        "runner.go_template",
        "tristate",
        None,
        "Prefer a model's Go template over its own Jinja template; 'auto' decides per model.",
        applies="restart",
        variable="OLLAMA_GO_TEMPLATE",
    ),
    Option(
        "runner.step_ms",
        "int",
        200,
        "Time that one step may take while others decode; bounds their stall during a long prefill.",
        applies="next load",
        unit="milliseconds",
        minimum=1,
        maximum=10_000,
    ),
    Option(
        "runner.threads",
        "int",
        0,
        "Most threads of a decoding step; 0 is automatic: one per physical core that the process may use.",
        applies="next load",
        unit="threads",
        minimum=0,
        maximum=1024,
    ),
    Option(
        "runner.threads_batch",
        "int",
        0,
        "Most threads of a step with prompt tokens; 0 is automatic: as many as runner.threads.",
        applies="next load",
        unit="threads",
        minimum=0,
        maximum=1024,
    ),
    Option(
        "runner.adapt_threads",
        "bool",
        True,
        "Use fewer threads where that is faster: while others need the cores, and for very small models. "
        "Beyond 512 tokens the last bits of a result depend on the number; requests that draw with a seed keep it.",
        applies="next load",
    ),
    Option(
        "runner.speculation",
        "bool",
        True,
        "Guess ahead where text repeats itself and that is faster; the sampler still chooses every token.",
        applies="next load",
    ),
)

PLUGINS = (
    Option("plugins.disabled", "strings", (), "Names of plugins that are not loaded."),
    Option(
        "plugins.extra",
        "strings",
        (),
        "Plugins without an entry point, each as module:attribute.",
        check=lambda value: next((f"{text!r} is not module:attribute" for text in value if ":" not in text), None),
    ),
    Option(
        "plugins.load_timeout_s",
        "float",
        2.0,
        "Time that one plugin may take to load.",
        unit="seconds",
        minimum=0.1,
        maximum=60,
    ),
)

LOGGING = (
    Option(
        "logging.level",
        "level",
        "INFO",
        "Least level that is logged: TRACE, DEBUG, INFO, WARN or ERROR.",
        applies="at once",
        variable="OLLAMA_DEBUG",
    ),
    Option("logging.requests", "bool", True, "Print one line for each request on standard output.", applies="at once"),
)

#: Every option of the core in the order of the example file.
OPTIONS: tuple[Option, ...] = SERVER + STORE + SCHEDULER + RUNNER + PLUGINS + LOGGING

#: ``[listeners.NAME]``: further TCP listeners.
LISTENER = (
    Option("host", "host", "127.0.0.1", "Address, with or without a port; '' is every interface."),
    Option("port", "int", 11435, "Port; 0 takes a free one.", minimum=0, maximum=65535),
    Option("profile", "choice", "manage", "What it offers.", choices=("inference", "manage", "admin")),
)

#: ``[models."NAME"]``: what holds for one model. ``parameters`` is a table of its own beside these.
MODEL = (
    Option(
        "keep_alive",
        "duration",
        None,
        "Time that this model stays loaded when idle; 'auto' is scheduler.keep_alive.",
        applies="next load",
    ),
)
