"""Finds plugins and loads them one by one; a broken one becomes a line in a list.

Private. Every plugin gets a pluggy manager of its own, so that an exception in one
implementation of a hook cannot end the call for the others. All of a plugin's code that runs at
start (import, hooks, `routes`, `listeners`) runs in a thread of its own against a time limit; what it
registers counts only if it comes back in time.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import re
import sys
import threading
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib import metadata
from typing import Any, Literal, TypeVar

import pluggy

from ollamad.config.schema import Option
from ollamad.errors import PluginError
from ollamad.plugin import hookspecs
from ollamad.plugin.backend import Backend
from ollamad.plugin.frontend import PROFILES, Frontend, Listener, Route, Services

Status = Literal["loaded", "failed", "disabled"]
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Candidate:
    """A plugin that could be loaded. ``load`` imports it and returns the object with the hooks."""

    name: str
    load: Callable[[], Any]
    distribution: str = ""
    version: str = ""


@dataclass(frozen=True, slots=True)
class Record:
    """What became of one plugin; ``reason`` says why it failed, in one line, ``details`` in more."""

    name: str
    status: Status
    reason: str = ""
    details: str = ""
    distribution: str = ""
    version: str = ""
    backends: tuple[Backend, ...] = ()
    frontends: tuple[Frontend, ...] = ()
    options: tuple[Option, ...] = ()


@dataclass(frozen=True, slots=True)
class Attached:
    """A frontend with what it contributes."""

    plugin: str
    frontend: Frontend
    routes: tuple[Route, ...]
    listeners: tuple[Listener, ...]


class _ThreadOutput(io.TextIOBase):
    """Stands in for `sys.stdout`: keeps what one thread writes and passes on everything else."""

    def __init__(self, thread: threading.Thread, original: Any) -> None:
        self._thread = thread
        self._original = original
        self.kept = ""

    def write(self, text: str) -> int:
        if threading.current_thread() is self._thread:
            self.kept += text[: 200 - len(self.kept)] if len(self.kept) < 200 else ""
            return len(text)
        return int(self._original.write(text))

    def flush(self) -> None:
        self._original.flush()


def _cut_traceback(error: BaseException) -> str:
    """The traceback of *error* without our own frames: it starts where the plugin's code starts."""
    frames = traceback.extract_tb(error.__traceback__)
    kept = [frame for frame in frames if frame.filename != __file__ and "importlib" not in frame.filename]
    lines = traceback.format_list(kept) + traceback.format_exception_only(error)
    return "".join(lines).rstrip()


def guarded(name: str, work: Callable[[], T], timeout_s: float, *, quiet: bool = False) -> T:
    """Run *work*, a plugin's code, in a thread of its own.

    Args:
        name: The plugin, for the error.
        quiet: What it prints is an error too.

    Raises:
        PluginError: It raised (also `SystemExit`), printed, or took longer than *timeout_s*; the thread is
            left behind and its result dropped. ``__cause__`` is what it raised.
    """
    results: list[T] = []
    errors: list[BaseException] = []

    def body() -> None:
        try:
            results.append(work())
        except BaseException as error:  # sys.exit and the like must not pass for a normal end
            errors.append(error)

    thread = threading.Thread(target=body, name=f"plugin-{name}", daemon=True)
    output = _ThreadOutput(thread, sys.stdout)
    with contextlib.redirect_stdout(output):
        thread.start()
        thread.join(timeout_s)
    if thread.is_alive():
        raise PluginError(name, f"took longer than plugins.load_timeout_s ({timeout_s:g} s)")
    if errors:
        error = errors[0]
        text = (
            f"called sys.exit({error.code!r})" if isinstance(error, SystemExit) else f"{type(error).__name__}: {error}"
        )
        raise PluginError(name, text) from error
    if quiet and output.kept:
        raise PluginError(name, f"printed at import: {output.kept.splitlines()[0][:80]!r}; use logging")
    return results[0]


def entry_point_candidates() -> list[Candidate]:
    """Plugins of installed distributions, ours first, then by distribution and name."""
    found = []
    for entry in metadata.entry_points(group=hookspecs.PROJECT):
        dist = entry.dist
        distribution = dist.name if dist is not None else ""
        version = dist.version if dist is not None else ""
        found.append(Candidate(entry.name, entry.load, distribution, version))
    return sorted(found, key=lambda one: (one.distribution != hookspecs.PROJECT, one.distribution, one.name))


def extra_candidates(extra: Iterable[str]) -> list[Candidate]:
    """Plugins named in ``plugins.extra`` as ``module:attribute``; the text is also their name."""

    def loader(text: str) -> Callable[[], Any]:
        def load() -> Any:
            module, _, attribute = text.partition(":")
            value: Any = importlib.import_module(module)
            for part in attribute.split(".") if attribute else ():
                value = getattr(value, part)
            return value

        return load

    return [Candidate(text, loader(text), "plugins.extra") for text in extra]


def _register(candidate: Candidate, *, daemon: bool) -> Record:
    """Import one plugin and call its hooks. Raises whatever the plugin raises."""
    plugin = candidate.load()
    manager = pluggy.PluginManager(hookspecs.PROJECT)
    manager.add_hookspecs(hookspecs)
    manager.register(plugin, candidate.name)
    manager.check_pending()
    if not manager.get_hookcallers(plugin):
        raise LookupError("no hook implementation found: mark functions with ollamad.plugin.hookimpl")
    backends: list[Backend] = []
    frontends: list[Frontend] = []
    options: list[Option] = []
    if daemon:
        for declared in manager.hook.ollamad_options():
            options.extend(declared or ())
    manager.hook.ollamad_register_backends(register=backends.append)
    if daemon:
        manager.hook.ollamad_register_frontends(register=frontends.append)
    for item, kind in [(one, Backend) for one in backends] + [(one, Frontend) for one in frontends]:
        if not isinstance(item, kind) or not isinstance(getattr(item, "name", None), str):
            raise TypeError(f"registered {item!r}, which is no {kind.__name__} with a name")
    for option in options:
        if not isinstance(option, Option):
            raise TypeError(f"declared {option!r}, which is no Option")
    return Record(
        candidate.name,
        "loaded",
        distribution=candidate.distribution,
        version=candidate.version,
        backends=tuple(backends),
        frontends=tuple(frontends),
        options=tuple(options),
    )


@dataclass(slots=True)
class PluginManager:
    """Loads all plugins once and remembers what became of each."""

    disabled: Sequence[str] = ()
    extra: Sequence[str] = ()
    load_timeout_s: float = 2.0
    records: list[Record] = field(default_factory=list)

    @property
    def backends(self) -> list[Backend]:
        """Backends of the loaded plugins, in loading order."""
        return [one for record in self.records for one in record.backends if record.status == "loaded"]

    @property
    def frontends(self) -> list[tuple[str, Frontend]]:
        """``(plugin name, frontend)`` of the loaded plugins, in loading order."""
        return [(record.name, one) for record in self.records for one in record.frontends if record.status == "loaded"]

    def load(self) -> None:
        """Load every plugin that is not disabled. Never raises for a plugin's fault."""
        for candidate in entry_point_candidates() + extra_candidates(self.extra):
            self.records.append(self._load_one(candidate))

    def fail(self, name: str, reason: str, details: str = "") -> None:
        """Mark a plugin as failed after all (a bad section, a bad route); what it registered is dropped."""
        self.records = [
            replace(record, status="failed", reason=reason, details=details, backends=(), frontends=())
            if record.name == name and record.status == "loaded"
            else record
            for record in self.records
        ]

    def attach(self, services: Services, sections: Mapping[str, Mapping[str, Any]]) -> list[Attached]:
        """Ask every frontend for routes and listeners.

        A frontend that raises, is too slow, or claims a route or listener name that is taken fails with
        its plugin, and nothing of that plugin is attached. *sections* maps a plugin's name to its options.
        """
        attached: list[Attached] = []
        taken: dict[str, str] = {}
        for record in [one for one in self.records if one.status == "loaded" and one.frontends]:
            try:
                parts = [self._attach_one(record.name, one, services, sections) for one in record.frontends]
                claims = [claim for part in parts for claim in _claims(part)]
                for claim in claims:
                    if claim in taken or claims.count(claim) > 1:
                        raise PluginError(record.name, f"{claim} is taken by {taken.get(claim, record.name)}")
            except PluginError as error:
                self._note(error)
                continue
            taken.update(dict.fromkeys(claims, record.name))
            attached.extend(parts)
        return attached

    def _attach_one(
        self, plugin: str, frontend: Frontend, services: Services, sections: Mapping[str, Mapping[str, Any]]
    ) -> Attached:
        def work() -> Attached:
            routes = tuple(frontend.routes(services))
            listeners = tuple(frontend.listeners(sections.get(plugin, {})))
            for profile in [one.profile for one in routes] + [one.profile for one in listeners]:
                if profile not in PROFILES:
                    raise ValueError(f"unknown profile {profile!r}; allowed: {', '.join(PROFILES)}")
            return Attached(plugin, frontend, routes, listeners)

        return guarded(plugin, work, self.load_timeout_s)

    def _load_one(self, candidate: Candidate) -> Record:
        blank = Record(
            candidate.name, "disabled", "disabled by plugins.disabled", "", candidate.distribution, candidate.version
        )
        if candidate.name in self.disabled:
            return blank
        try:
            record = guarded(candidate.name, lambda: _register(candidate, daemon=True), self.load_timeout_s, quiet=True)
            self._refuse_taken_names(record)
        except PluginError as error:
            return replace(blank, status="failed", reason=_reason(error), details=_details(error))
        return record

    def _refuse_taken_names(self, new: Record) -> None:
        for old in self.records:
            if old.status != "loaded":
                continue
            if old.name == new.name:
                raise PluginError(new.name, f"the plugin name is taken by {old.distribution}")
            for kind, before, now in (
                ("backend", old.backends, new.backends),
                ("frontend", old.frontends, new.frontends),
            ):
                both = {one.name for one in before} & {one.name for one in now}
                if both:
                    raise PluginError(new.name, f"the {kind} name {sorted(both)[0]!r} is taken by plugin {old.name!r}")

    def _note(self, error: PluginError) -> None:
        self.fail(error.plugin, _reason(error), _details(error))


def _claims(part: Attached) -> list[str]:
    """What no other plugin may claim as well. Two paths that differ in a variable's name only are the same."""
    routes = [f"route {one.method} {re.sub(r'{[^}]*}', '{}', one.path)}" for one in part.routes]
    return routes + [f"listener {one.name}" for one in part.listeners]


def _reason(error: PluginError) -> str:
    return str(error).removeprefix(f"{error.plugin}: ")


def _details(error: PluginError) -> str:
    return _cut_traceback(error.__cause__) if error.__cause__ is not None else ""


def load_backends(extra: Sequence[str] = (), disabled: Sequence[str] = ()) -> list[Backend]:
    """All backends, for a job that probes devices; a broken plugin is passed over (the daemon lists it).

    Runs in: a job, main thread.
    """
    found: dict[str, Backend] = {}
    for candidate in entry_point_candidates() + extra_candidates(extra):
        if candidate.name in disabled:
            continue
        with contextlib.suppress(Exception, SystemExit):
            for backend in _register(candidate, daemon=False).backends:
                found.setdefault(backend.name, backend)
    return list(found.values())


def load_backend(name: str, extra: Sequence[str] = ()) -> Backend:
    """The backend called *name*, importing as few plugins as possible.

    Raises:
        PluginError: No plugin offers it, or the one that should could not be loaded.

    Runs in: a runner, main thread.
    """
    candidates = entry_point_candidates() + extra_candidates(extra)
    failure: Exception | SystemExit | None = None
    for candidate in sorted(candidates, key=lambda one: one.name != name):
        try:
            for backend in _register(candidate, daemon=False).backends:
                if backend.name == name:
                    return backend
        except (Exception, SystemExit) as error:
            failure = failure or error
    raise PluginError(
        name, f"no plugin offers this backend ({failure})" if failure else "no plugin offers this backend"
    )
