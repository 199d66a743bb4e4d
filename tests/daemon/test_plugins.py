"""Plugins and their sections."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from ollamad.config.load import Flag, load
from ollamad.config.sections import Config
from ollamad.daemon.plugins import Plugins, load_plugins
from ollamad.errors import ConfigError
from ollamad.http.routing import RouteTable
from ollamad.plugin import Frontend, HttpRequest, Option, Reply, Route, Services, hookimpl
from ollamad.plugin import _manager as manager
from ollamad.plugin.frontend import Listener


def raises(_: Any) -> Any:
    raise RuntimeError("broken default")


class Front(Frontend):
    name = "front"

    def routes(self, services: Services) -> Sequence[Route]:
        async def handler(request: HttpRequest) -> Reply:
            return Reply()

        return [Route("GET", "/metrics", handler, "admin")]

    def listeners(self, options: Mapping[str, Any]) -> Sequence[Listener]:
        return ()


def plugin(*options: Option) -> Any:
    @hookimpl
    def ollamad_options() -> Sequence[Option]:
        return options

    @hookimpl
    def ollamad_register_frontends(register: Any) -> None:
        register(Front())

    return SimpleNamespace(
        ollamad_options=ollamad_options, ollamad_register_frontends=ollamad_register_frontends, __name__="mine"
    )


@pytest.fixture
def only(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Makes the given plugin the only one there is, under the name ``mine``."""

    def install(what: Any) -> None:
        monkeypatch.setattr(
            manager, "entry_point_candidates", lambda: [manager.Candidate("mine", lambda: what, "test", "1")]
        )

    return install


def config(tmp_path: Path, text: str = "", *flags: Flag) -> Config:
    path = tmp_path / "f.toml"
    path.write_text(text)
    return load(file=path, environ={"HOME": "/h"}, flags=flags)


def test_sections_are_checked_after_loading(only: Any, tmp_path: Path) -> None:
    """The values of a plugin's section reach it, and are explained."""
    only(plugin(Option("size", "int", 1, "Size.", minimum=1)))
    configuration = config(tmp_path, "[plugins.mine]\nsize = 2\n")
    plugins = load_plugins(configuration)
    assert plugins.sections == {"mine": {"size": 2}}
    (row,) = plugins.explain(configuration)
    assert (row.key, row.value, row.source) == ("plugins.mine.size", 2, "file")
    with pytest.raises(ConfigError, match=r"f\.toml:2: plugins\.mine\.size: saw 0; allowed: a whole number of at"):
        load_plugins(config(tmp_path, "[plugins.mine]\nsize = 0\n"))


def test_a_default_that_raises_fails_its_plugin(only: Any, tmp_path: Path) -> None:
    """A fault in a plugin's own option ends the plugin, not the start."""
    only(plugin(Option("size", "int", 1, "Size.", default_from=raises)))
    (record,) = load_plugins(config(tmp_path)).manager.records
    assert (record.status, record.reason) == ("failed", "options: RuntimeError: broken default")


@pytest.mark.parametrize("text", ["[plugins]\ndisabled = ['mine']\n[plugins.mine]\nwhat = 1\n", "[plugins.other]\n"])
def test_sections_without_a_plugin(only: Any, tmp_path: Path, text: str) -> None:
    """The section of a plugin that is not loaded is told, not checked."""
    only(plugin())
    (note,) = load_plugins(config(tmp_path, text)).notes
    assert note.message == "options of a plugin that is not loaded"


def test_a_flag_without_its_plugin(only: Any, tmp_path: Path) -> None:
    """So is a flag."""
    only(plugin())
    (note,) = load_plugins(config(tmp_path, "", Flag("plugins.other.x", "1", "--set"))).notes
    assert note.attributes == {"plugin": "other"}


def test_a_route_of_the_core_is_taken(only: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A plugin that claims a route of the core fails, and the log says so."""
    only(plugin())
    plugins: Plugins = load_plugins(config(tmp_path))
    attached = plugins.manager.attach(cast(Services, None), plugins.sections)
    table = RouteTable()
    table.add("metrics", attached[0].routes)
    plugins.join_routes(attached, table)
    assert plugins.manager.records[0].status == "failed"
    plugins.tell()
    assert caplog.records[-1].reason.endswith("route GET /metrics is taken by metrics")  # type: ignore[attr-defined]
