"""The plugin manager: a broken plugin is a line in a list, and the others work."""

import sys
import textwrap
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ollamad.plugin import Services, _manager
from ollamad.plugin._manager import PluginManager, Record, guarded

GATE = threading.Event()

GOOD = """
from ollamad.plugin import Frontend, Reply, Route, hookimpl

class Hello(Frontend):
    name = {frontend!r}
    def routes(self, services):
        async def answer(request):
            return Reply(200, b"hello")
        return [Route("GET", {path!r}, answer)]

@hookimpl
def ollamad_register_frontends(register):
    register(Hello())
"""


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str, str], str]]:
    """Write a module that `plugins.extra` can name; built-in plugins are left out."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(_manager, "entry_point_candidates", list)
    names = []

    def write_module(name: str, text: str) -> str:
        (tmp_path / f"{name}.py").write_text(textwrap.dedent(text))
        names.append(name)
        return name

    GATE.clear()
    yield write_module
    GATE.set()
    for name in names:
        sys.modules.pop(name, None)


def load(*extra: str, timeout_s: float = 5.0, disabled: tuple[str, ...] = ()) -> PluginManager:
    manager = PluginManager(disabled=disabled, extra=extra, load_timeout_s=timeout_s)
    manager.load()
    return manager


def by_name(manager: PluginManager) -> dict[str, Record]:
    return {record.name: record for record in manager.records}


def attach(manager: PluginManager) -> list[str]:
    services: Any = Services(None, None, None, "1", "1")  # type: ignore[arg-type]
    return [one.frontend.name for one in manager.attach(services, {})]


BROKEN = {
    "import_error": ("raise ValueError('broken on purpose')", "ValueError: broken on purpose"),
    "missing_module": ("import no_such_module_anywhere", "No module named 'no_such_module_anywhere'"),
    "syntax": ("def (:", "SyntaxError"),
    "sys_exit": ("import sys; sys.exit(3)", "called sys.exit(3)"),
    "keyboard": ("raise KeyboardInterrupt", "KeyboardInterrupt"),
    "prints": ("print('hello world')\n" + GOOD.format(frontend="p", path="/p"), "printed at import: 'hello world'"),
    "no_hooks": ("x = 1", "no hook implementation found"),
    "misspelt_hook": (
        "from ollamad.plugin import hookimpl\n@hookimpl\ndef ollamad_register_backend(register): ...",
        "unknown hook 'ollamad_register_backend'",
    ),
    "hook_raises": (
        "from ollamad.plugin import hookimpl\n@hookimpl\ndef ollamad_register_backends(register): 1 / 0",
        "ZeroDivisionError",
    ),
    "options_raise": (
        "from ollamad.plugin import hookimpl\n@hookimpl\ndef ollamad_options(): 1 / 0",
        "ZeroDivisionError",
    ),
    "bad_option": (
        "from ollamad.plugin import hookimpl\n@hookimpl\ndef ollamad_options(): return ['x']",
        "declared 'x', which is no Option",
    ),
    "no_backend": (
        "from ollamad.plugin import hookimpl\n@hookimpl\ndef ollamad_register_backends(register): register(42)",
        "registered 42, which is no Backend",
    ),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_plugin_is_listed_and_the_next_one_loads(kind: str, write: Callable[[str, str], str]) -> None:
    """A plugin that breaks a rule at import or in a hook is failed with its reason; its neighbour works."""
    text, reason = BROKEN[kind]
    manager = load(write(f"broken_{kind}", text), write("fine", GOOD.format(frontend="fine", path="/fine")))
    records = by_name(manager)
    assert records[f"broken_{kind}"].status == "failed"
    assert reason in records[f"broken_{kind}"].reason
    assert "\n" not in records[f"broken_{kind}"].reason or kind == "syntax"
    assert records["fine"].status == "loaded"
    assert attach(manager) == ["fine"]


@pytest.mark.parametrize("where", ["import", "hook", "routes"])
def test_a_slow_plugin_is_left_behind(where: str, write: Callable[[str, str], str]) -> None:
    """A plugin that does not come back in time is failed, and what it registers later does not count."""
    wait = f"from {__name__.rpartition('.')[2]}_gate import GATE; GATE.wait(10)"
    write(f"{__name__.rpartition('.')[2]}_gate", "")
    gate_module = __import__(f"{__name__.rpartition('.')[2]}_gate")
    gate_module.GATE = GATE
    text = GOOD.format(frontend="slow", path="/slow")
    if where == "import":
        text = wait + "\n" + text
    elif where == "hook":
        text = text.replace("    register(Hello())", f"    {wait}\n    register(Hello())")
    else:
        text = text.replace("        async def", f"        {wait}\n        async def")
    manager = load(write(f"slow_{where}", text), timeout_s=0.2)
    assert attach(manager) == []
    GATE.set()
    record = by_name(manager)[f"slow_{where}"]
    assert record.status == "failed"
    assert "took longer than plugins.load_timeout_s (0.2 s)" in record.reason
    assert manager.frontends == []


def test_a_taken_name_fails_the_later_plugin(write: Callable[[str, str], str]) -> None:
    """Of two plugins with one frontend name the later fails, by name."""
    manager = load(
        write("first", GOOD.format(frontend="same", path="/a")),
        write("second", GOOD.format(frontend="same", path="/b")),
    )
    assert by_name(manager)["second"].reason == "the frontend name 'same' is taken by plugin 'first'"
    assert attach(manager) == ["same"]


@pytest.mark.parametrize(("one", "two"), [("/a", "/a"), ("/x/{name}", "/x/{other}")])
def test_a_taken_route_fails_the_later_plugin(one: str, two: str, write: Callable[[str, str], str]) -> None:
    """Of two plugins with one route the later fails; another name of the variable makes no other route."""
    manager = load(
        write("left", GOOD.format(frontend="left", path=one)), write("right", GOOD.format(frontend="right", path=two))
    )
    assert attach(manager) == ["left"]
    record = by_name(manager)["right"]
    assert (record.status, record.frontends) == ("failed", ())
    assert record.reason == f"route GET {two.replace('other', '')} is taken by left"


def test_routes_that_raise_fail_only_that_plugin(write: Callable[[str, str], str]) -> None:
    """An exception in `routes` fails the plugin; its details hold its own frames and none of ours."""
    bad = GOOD.format(frontend="bad", path="/bad").replace(
        "        async def answer", "        1 / 0\n        async def answer"
    )
    manager = load(write("bad_routes", bad), write("good", GOOD.format(frontend="good", path="/good")))
    assert attach(manager) == ["good"]
    record = by_name(manager)["bad_routes"]
    assert record.reason == "ZeroDivisionError: division by zero"
    assert "bad_routes.py" in record.details
    assert "_manager.py" not in record.details


def test_an_unknown_profile_is_refused(write: Callable[[str, str], str]) -> None:
    """A route of an unknown profile fails the plugin and names what is allowed."""
    text = GOOD.format(frontend="odd", path="/odd").replace("answer)]", "answer, 'root')]")
    manager = load(write("odd", text))
    assert attach(manager) == []
    assert "unknown profile 'root'; allowed: inference, manage, admin" in by_name(manager)["odd"].reason


def test_a_disabled_plugin_is_not_even_imported(write: Callable[[str, str], str]) -> None:
    """`plugins.disabled` keeps a plugin's code from running."""
    name = write("unwanted", "raise AssertionError('imported')")
    manager = load(name, disabled=(name,))
    assert by_name(manager)[name].status == "disabled"


def test_an_attribute_can_be_named(write: Callable[[str, str], str]) -> None:
    """`module:attribute` loads an object instead of a module."""
    text = """
    from ollamad.plugin import Frontend, hookimpl
    class F(Frontend):
        name = "held"
        def routes(self, services):
            return []
    class Plugin:
        @hookimpl
        def ollamad_register_frontends(self, register):
            register(F())
    class holder:
        plugin = Plugin()
    """
    assert attach(load(write("with_object", text) + ":holder.plugin")) == ["held"]


def test_output_of_other_threads_passes(capsys: pytest.CaptureFixture[str]) -> None:
    """While a plugin loads, only its own thread's output is held against it."""
    started, go_on = threading.Event(), threading.Event()

    def work() -> int:
        started.set()
        go_on.wait(10)
        return 7

    def other() -> None:
        started.wait(10)
        print("from elsewhere")
        go_on.set()

    thread = threading.Thread(target=other)
    thread.start()
    assert guarded("p", work, 10, quiet=True) == 7
    thread.join()
    assert capsys.readouterr().out == "from elsewhere\n"


def test_the_built_in_plugins_come_in_by_entry_point() -> None:
    """What ships is found like a stranger's plugin, and ours come first."""
    ours = [one.name for one in _manager.entry_point_candidates() if one.distribution == "ollamad"]
    assert set(ours) >= {"llama-cpu", "llama-cuda", "llama-metal", "ollama-api", "unix-socket"}
    assert [one.name for one in _manager.entry_point_candidates()][: len(ours)] == ours
