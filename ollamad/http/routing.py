"""The route table: all routes of all frontends, looked up as Ollama's router does it (http-api contract 2.5)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from ollamad.errors import PluginError
from ollamad.plugin.frontend import PROFILES, Profile, Route

#: The order of methods in an `Allow` header, as recorded (`HEAD, GET`; `HEAD, POST`).
_METHODS = ("HEAD", "GET", "POST", "DELETE", "PUT", "PATCH", "OPTIONS")


@dataclass(frozen=True, slots=True)
class Found:
    """A route and the decoded values of its ``{name}`` segments."""

    route: Route
    params: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Redirect:
    """The path is known with (or without) a slash at its end."""

    path: str


@dataclass(frozen=True, slots=True)
class Missing:
    """No such path, or, with ``allow``, only for other methods."""

    allow: tuple[str, ...] = ()


Lookup: TypeAlias = Found | Redirect | Missing


@dataclass(slots=True)
class _Place:
    """One pattern: its segments (None: any) and, by method, who owns the route."""

    segments: tuple[str | None, ...]
    routes: dict[str, tuple[str, Route]] = field(default_factory=dict)

    def match(self, segments: Sequence[str]) -> bool:
        if len(segments) != len(self.segments):
            return False
        return all(s == want if want is not None else bool(s) for s, want in zip(segments, self.segments, strict=True))

    def params(self, segments: Sequence[str], route: Route) -> dict[str, str]:
        values = (s for s, want in zip(segments, self.segments, strict=True) if want is None)
        return dict(zip(_names(route.path), values, strict=True))


def _names(path: str) -> tuple[str, ...]:
    return tuple(part[1:-1] for part in path.split("/") if part.startswith("{") and part.endswith("}"))


def _segments(path: str) -> tuple[str | None, ...]:
    return tuple(None if part.startswith("{") and part.endswith("}") else part for part in path.split("/"))


class RouteTable:
    """Routes by path. Fixed paths win over patterns; patterns are tried in the order they came."""

    def __init__(self) -> None:
        self._fixed: dict[str, _Place] = {}
        self._patterns: list[_Place] = []

    def add(self, frontend: str, routes: Sequence[Route]) -> None:
        """Take all routes of one frontend, or none.

        Raises:
            PluginError: A path without a leading slash, or a route that is taken; the table is unchanged.
        """
        new: set[tuple[str, tuple[str | None, ...]]] = set()
        for route in routes:
            self._check(frontend, route)
            key = (route.method, _segments(route.path))
            if key in new:
                raise PluginError(frontend, f"route {route.method} {route.path} is there twice")
            new.add(key)
        for route in routes:
            place = self._place(route.path) or self._new_place(route.path)
            place.routes[route.method] = (frontend, route)

    def _check(self, frontend: str, route: Route) -> None:
        if not route.path.startswith("/"):
            raise PluginError(frontend, f"route {route.method} {route.path!r} does not start with a slash")
        if route.profile not in PROFILES:
            raise PluginError(frontend, f"route {route.method} {route.path} has the unknown profile {route.profile!r}")
        place = self._place(route.path)
        if place is not None and route.method in place.routes:
            owner = place.routes[route.method][0]
            raise PluginError(frontend, f"route {route.method} {route.path} is taken by {owner}")

    def _place(self, path: str) -> _Place | None:
        segments = _segments(path)
        if None not in segments:
            return self._fixed.get(path)
        return next((place for place in self._patterns if place.segments == segments), None)

    def _new_place(self, path: str) -> _Place:
        place = _Place(_segments(path))
        if None in place.segments:
            self._patterns.append(place)
        else:
            self._fixed[path] = place
        return place

    def find(self, method: str, path: str, profile: Profile) -> Lookup:
        """Look *path* (decoded) up among the routes that a listener of *profile* admits."""
        level = PROFILES.index(profile)
        places = self._matching(path)
        for place in places:
            if (route := _admitted(place, method, level)) is not None:
                return Found(route, place.params(path.split("/"), route))
        if path != "/":
            other = path[:-1] if path.endswith("/") else path + "/"
            if other and any(_admitted(place, method, level) for place in self._matching(other)):
                return Redirect(other)
        return Missing(tuple(m for m in _METHODS if any(_admitted(place, m, level) for place in places)))

    def _matching(self, path: str) -> list[_Place]:
        fixed = self._fixed.get(path)
        segments = path.split("/")
        found = [] if fixed is None else [fixed]
        return found + [place for place in self._patterns if place.match(segments)]


def _admitted(place: _Place, method: str, level: int) -> Route | None:
    owned = place.routes.get(method)
    if owned is None or PROFILES.index(owned[1].profile) > level:
        return None
    return owned[1]
