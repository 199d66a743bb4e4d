"""The sections of the configuration in the words of the rooms that take them."""

from __future__ import annotations

from collections.abc import Callable

from ollamad.config.document import dotted
from ollamad.config.sections import Config, ServerConfig
from ollamad.daemon.backends import Backends
from ollamad.errors import ConfigError
from ollamad.http.limits import Limits
from ollamad.http.server import HttpSettings
from ollamad.names import fold, is_valid, parse_name
from ollamad.plugin.frontend import Listener
from ollamad.scheduler.settings import SchedulerSettings
from ollamad.service.inference import ModelSettings
from ollamad.types import FOREVER_NS, ResolvedModel

#: Descriptors for everything that is no connection: runners, files of the store, pipes.
OTHER_DESCRIPTORS = 512


def http_settings(server: ServerConfig, descriptors: int) -> HttpSettings:
    """What all listeners share; no more connections than the process has *descriptors* for."""
    limits = Limits(
        connections=max(1, min(server.max_connections, descriptors - OTHER_DESCRIPTORS)),
        header_bytes=server.max_header_bytes,
        body_bytes=server.max_body_bytes,
        header_s=server.header_timeout_s,
        idle_s=server.idle_timeout_s,
        body_s=server.body_timeout_s,
        write_s=server.write_timeout_s,
    )
    return HttpSettings(origins=server.origins, limits=limits)


def tcp_listeners(config: Config) -> list[Listener]:
    """``default`` from ``[server]``, then those of ``[listeners]``."""
    server = config.server
    default = Listener("default", server.profile, tcp=(server.host, server.port))
    more = [Listener(name, one.profile, tcp=(one.host, one.port)) for name, one in config.listeners.items()]
    return [default, *more]


def scheduler_settings(config: Config, backends: Backends) -> SchedulerSettings:
    """The scheduler's view of ``[scheduler]`` and ``[runner]``."""
    scheduler, runner = config.scheduler, config.runner
    parallel = scheduler.num_parallel
    return SchedulerSettings(
        max_queue=scheduler.max_queue,
        max_loaded_models=scheduler.max_loaded_models,
        num_parallel=None if parallel is None else max(1, parallel),
        keep_alive_ns=scheduler.keep_alive_ns,
        load_timeout_ns=0 if scheduler.load_timeout_ns == FOREVER_NS else scheduler.load_timeout_ns,
        max_loading=scheduler.max_loading,
        memory_budget_bytes=scheduler.memory_budget_bytes,
        gpu_overhead_bytes=scheduler.gpu_overhead_bytes,
        spread=scheduler.spread,
        flash_attention=runner.flash_attention,
        kv_type=runner.kv_cache_type,
        step_ms=runner.step_ms,
        threads=runner.threads,
        threads_batch=runner.threads_batch,
        adapt_threads=runner.adapt_threads,
        speculate=runner.speculation,
        architectures=backends.architectures,
        backend=backends.general,
    )


def model_settings(config: Config) -> Callable[[ResolvedModel], ModelSettings]:
    """A look-up of ``[models."NAME"]`` that does not mind how the name is written. Raises: ConfigError."""
    by_name = {}
    for text, section in config.models.items():
        name = parse_name(text)
        if not is_valid(name):
            raise ConfigError("is no model name", source=str(config.file or ""), key=dotted(("models", text)))
        by_name[fold(name)] = ModelSettings(section.keep_alive_ns, section.parameters)
    none = ModelSettings()
    return lambda model: by_name.get(fold(model.name), none)
