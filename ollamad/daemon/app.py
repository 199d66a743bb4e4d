"""The one place that builds everything. `start` gives a running `Daemon`; `lifecycle.stop` takes it apart in order."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import ollamad
from ollamad.config.announce import environment_line
from ollamad.config.sections import Config, Explained
from ollamad.daemon.backends import Backends
from ollamad.daemon.devices import device_finder
from ollamad.daemon.listening import CannotListen, bound_text, listen
from ollamad.daemon.memory import give_back, resident_bytes, settle
from ollamad.daemon.notify import Notify
from ollamad.daemon.plugins import Plugins, load_plugins, tell_failed
from ollamad.daemon.request_line import RequestLines
from ollamad.daemon.settings import http_settings, model_settings, scheduler_settings, tcp_listeners
from ollamad.daemon.supervisor import Supervisor
from ollamad.daemon.upkeep import remembering, tidy
from ollamad.http.limits import raise_descriptor_limit
from ollamad.http.listener import Bound
from ollamad.http.origins import Origins
from ollamad.http.routing import RouteTable
from ollamad.http.server import HttpServer
from ollamad.jobs.job import Jobs
from ollamad.metrics import REGISTRY
from ollamad.plugin._manager import Attached
from ollamad.plugin.frontend import Services
from ollamad.runner.host import RunnerHost
from ollamad.scheduler.loop import Scheduler
from ollamad.service.admin import AdminService
from ollamad.service.create import Creator
from ollamad.service.demo import DemoLayer
from ollamad.service.inference import InferenceService
from ollamad.service.library import ModelLibrary
from ollamad.service.resolve import Resolver
from ollamad.state import LearnedMemory, State
from ollamad.store import FileLock, Store

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Daemon:
    """All parts of a running daemon. Fulfils `lifecycle.Stoppable`."""

    config: Config
    supervisor: Supervisor
    notify: Notify
    plugins: Plugins
    store: Store
    scheduler: Scheduler
    http: HttpServer
    bound: list[Bound] = field(default_factory=list)
    started_at: float = field(default_factory=time.monotonic)

    def explain(self) -> Sequence[Explained]:
        """Every option of core and plugins with its source."""
        return [*self.config.explain(), *self.plugins.explain(self.config)]

    def status(self) -> Mapping[str, Any]:
        """How it goes, as JSON can hold it."""
        return {
            "version": ollamad.__version__,
            "ollama_version": ollamad.OLLAMA_VERSION,
            "pid": os.getpid(),
            "uptime_s": round(time.monotonic() - self.started_at, 3),
            "rss_bytes": resident_bytes(),
            "listeners": [
                {"name": one.listener.name, "profile": one.listener.profile, "address": bound_text(one)}
                for one in self.bound
            ],
            "connections": self.http.connections,
            "config_file": str(self.config.file) if self.config.file else None,
            "store": str(self.config.store.path),
            "state_directory": str(self.config.places.state),
            **self.scheduler.status(),
            "failed_plugins": [one.name for one in self.plugins.manager.records if one.status == "failed"],
            "failed_tasks": [f"{one.name}: {one.error}" for one in self.supervisor.failures],
        }

    # --- the end, step by step ---------------------------------------------------------------

    def stopping(self) -> None:
        self.notify.stopping()

    def stop_accepting(self) -> None:
        self.http.stop_accepting()

    async def drain(self, timeout_s: float) -> bool:
        return await self.scheduler.drain(timeout_s)

    async def end_requests(self, timeout_s: float) -> None:
        await self.http.stop(timeout_s)

    async def stop_runners(self) -> None:
        await self.scheduler.close()

    async def end_tasks(self) -> None:
        await self.supervisor.close()


async def start(config: Config) -> Daemon:
    """Build everything and accept connections.

    Raises:
        ConfigError: A plugin's section or an origin is wrong.
        CannotListen: A listener of the configuration cannot be opened. Nothing was logged before.
    """
    descriptors = raise_descriptor_limit()
    plugins = load_plugins(config)
    extra = plugins.offering_backends(config.plugins.extra)
    supervisor = Supervisor()
    jobs = Jobs(config.environment)
    backends = Backends(plugins.manager.backends)
    state = State(config.places.state)
    store = Store(config.store.path, lock=FileLock(state.lock_path(config.store.path)), noprune=config.store.noprune)
    host = RunnerHost(
        supervisor.spawn,
        config.store.path,
        extra,
        environment=config.environment,
        interpreters=backends.interpreters,
    )
    devices = device_finder(
        jobs,
        extra=extra,
        disabled=(*config.plugins.disabled, *plugins.failed),
        gpu_overhead_bytes=config.scheduler.gpu_overhead_bytes,
    )
    learned = LearnedMemory(state)
    scheduler = Scheduler(
        host,
        supervisor.spawn,
        scheduler_settings(config, backends),
        devices,
        learned=learned.known(),
        remember=remembering(learned, supervisor.spawn),
    )

    demo = DemoLayer(state, enabled=config.store.demo)
    resolver = Resolver(store, demo, use_go_template=config.runner.go_template)
    creator = Creator(store, demo, resolver, backends.checker(jobs, extra))
    admin = AdminService(
        config=lambda: daemon.explain(),
        plugins=lambda: plugins.manager.records,
        status=lambda: daemon.status(),
        runners=scheduler.counters,
    )
    services = Services(
        inference=InferenceService(
            resolver,
            scheduler,
            settings_of=model_settings(config),
            context_length=lambda: config.runner.context_length,
        ),
        library=ModelLibrary(store, demo, resolver, creator),
        admin=admin,
        version=ollamad.__version__,
        ollama_version=ollamad.OLLAMA_VERSION,
    )
    attached = plugins.manager.attach(services, plugins.sections)
    table = RouteTable()
    http = HttpServer(
        table,
        http_settings(config.server, descriptors),
        access_log=RequestLines(enabled=config.logging.requests),
        spawn=supervisor.spawn,
        metrics=REGISTRY.render,
    )
    plugins.join_routes(attached, table)
    daemon = Daemon(config, supervisor, Notify(config.environment), plugins, store, scheduler, http)
    await _open(daemon, attached)
    return daemon


async def _open(daemon: Daemon, attached: Sequence[Attached]) -> None:
    """Listen, begin what runs beside, and say so."""
    for listener in tcp_listeners(daemon.config):
        daemon.bound += await listen(daemon.http, listener)
    daemon.scheduler.start()
    settle()
    daemon.supervisor.spawn(give_back(), "give-back-memory")
    daemon.supervisor.spawn(tidy(daemon.store, prune=not daemon.config.store.noprune), "tidy-store")
    _tell_configuration(daemon)
    await _open_plugin_listeners(daemon, attached)
    for bound in daemon.bound:
        log.info("Listening on %s (version %s)", bound_text(bound), ollamad.__version__)
    daemon.notify.ready(f"Listening on {', '.join(map(bound_text, daemon.bound))}")


def _tell_configuration(daemon: Daemon) -> None:
    config = daemon.config
    origins = Origins(config.server.origins).entries
    log.info("server config", extra={"env": environment_line(config, origins)})
    for note in config.notes:
        log.warning(note.message, extra={"attributes": note.attributes})
    daemon.plugins.tell()


async def _open_plugin_listeners(daemon: Daemon, attached: Sequence[Attached]) -> None:
    """A listener of a plugin that cannot be opened fails its plugin; the daemon serves on."""
    for part in attached:
        for listener in part.listeners:
            try:
                daemon.bound += await listen(daemon.http, listener)
            except CannotListen as error:
                daemon.plugins.manager.fail(part.plugin, str(error))
                tell_failed(part.plugin, str(error))
