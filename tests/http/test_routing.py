"""The route table."""

import pytest

from ollamad.errors import PluginError
from ollamad.http.routing import Found, Lookup, Missing, Redirect, RouteTable
from ollamad.plugin import HttpRequest, Reply, Route


async def handler(request: HttpRequest) -> Reply:
    return Reply()


@pytest.fixture
def table() -> RouteTable:
    table = RouteTable()
    table.add("web", [Route(method, "/", handler) for method in ("HEAD", "GET")])
    table.add(
        "api",
        [
            Route("GET", "/api/tags", handler),
            Route("HEAD", "/api/tags", handler),
            Route("POST", "/api/chat", handler),
            Route("HEAD", "/api/blobs/{digest}", handler, "manage"),
            Route("POST", "/api/blobs/{digest}", handler, "manage"),
            Route("GET", "/status", handler, "admin"),
        ],
    )
    return table


@pytest.mark.parametrize(
    ("method", "path", "expected"),
    [
        ("POST", "/api/tags", Missing(("HEAD", "GET"))),
        ("GET", "/api/chat", Missing(("POST",))),
        ("PUT", "/api/blobs/x", Missing(("HEAD", "POST"))),
        ("GET", "/nope", Missing()),
        ("GET", "/API/TAGS", Missing()),
        ("GET", "/api/tags/x", Missing()),
        ("GET", "/api/blobs", Missing()),
        ("HEAD", "/api/blobs/", Missing()),
        ("POST", "/api/blobs/a/b", Missing()),
        ("GET", "/api/tags/", Redirect("/api/tags")),
        ("POST", "/api/chat/", Redirect("/api/chat")),
        ("POST", "/api/blobs/x/", Redirect("/api/blobs/x")),
        ("PUT", "/api/tags/", Missing()),
        ("GET", "//", Redirect("/")),
    ],
)
def test_paths_and_methods(table: RouteTable, method: str, path: str, expected: Lookup) -> None:
    """Unknown paths, wrong methods and slashes at the end are told apart as Ollama does it."""
    assert table.find(method, path, "admin") == expected


def test_parameters_are_one_segment(table: RouteTable) -> None:
    """A variable of a path takes exactly one segment, as decoded."""
    found = table.find("POST", "/api/blobs/sha256:ab c", "manage")
    assert isinstance(found, Found)
    assert found.params == {"digest": "sha256:ab c"}


def test_profiles_hide_routes(table: RouteTable) -> None:
    """A listener sees the routes of its profile and of those below it; the rest is not there."""
    assert table.find("GET", "/status", "manage") == Missing()
    assert isinstance(table.find("GET", "/status", "admin"), Found)
    assert table.find("POST", "/api/blobs/x", "inference") == Missing()
    assert isinstance(table.find("GET", "/api/tags", "inference"), Found)


def test_a_taken_route_fails_the_later_frontend_whole(table: RouteTable) -> None:
    """A frontend with a route that is taken, under whatever variable's name, adds none of its routes."""
    with pytest.raises(PluginError, match=r"route POST /api/blobs/\{other\} is taken by api"):
        table.add("late", [Route("GET", "/mine", handler), Route("POST", "/api/blobs/{other}", handler)])
    assert table.find("GET", "/mine", "admin") == Missing()


@pytest.mark.parametrize(
    ("routes", "reason"),
    [
        ([Route("GET", "x", handler)], "does not start with a slash"),
        ([Route("GET", "/x", handler), Route("GET", "/x", handler)], "is there twice"),
        ([Route("GET", "/x", handler, "other")], "unknown profile"),  # type: ignore[arg-type]
    ],
)
def test_bad_routes_are_refused(table: RouteTable, routes: list[Route], reason: str) -> None:
    """Routes that could never work are an error of their frontend."""
    with pytest.raises(PluginError, match=reason):
        table.add("bad", routes)
