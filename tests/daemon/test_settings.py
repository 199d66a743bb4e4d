"""Sections in the words of the rooms."""

from pathlib import Path

import pytest

from ollamad.config.load import load
from ollamad.config.sections import Config
from ollamad.daemon.backends import Backends
from ollamad.daemon.settings import http_settings, model_settings, scheduler_settings, tcp_listeners
from ollamad.errors import ConfigError
from ollamad.http.limits import Limits
from ollamad.names import parse_name
from ollamad.plugin.frontend import Listener
from ollamad.scheduler.settings import SchedulerSettings
from ollamad.types import ResolvedModel

NO_BACKENDS = Backends(())


def config(tmp_path: Path, text: str = "", **environ: str) -> Config:
    path = tmp_path / "f.toml"
    path.write_text(text)
    return load(file=path, environ={"HOME": "/h", **environ})


def test_defaults_agree(tmp_path: Path) -> None:
    """With nothing configured the rooms get their own defaults: no number is written twice with two values."""
    plain = config(tmp_path)
    assert http_settings(plain.server, 1 << 20).limits == Limits()
    assert scheduler_settings(plain, NO_BACKENDS) == SchedulerSettings(backend="")


def test_connections_have_descriptors(tmp_path: Path) -> None:
    """There are never more connections than descriptors."""
    assert http_settings(config(tmp_path).server, 1024).limits.connections == 512


@pytest.mark.parametrize(("text", "slots"), [("", None), ("0", 1), ("1", 1), ("4", 4)])
def test_slots(tmp_path: Path, text: str, slots: int | None) -> None:
    """No number of slots stays automatic, and 0 is one."""
    assert scheduler_settings(config(tmp_path, OLLAMA_NUM_PARALLEL=text), NO_BACKENDS).num_parallel == slots


def test_no_limit_of_load_time(tmp_path: Path) -> None:
    """A load time-out that is for ever is the scheduler's 0."""
    assert scheduler_settings(config(tmp_path, OLLAMA_LOAD_TIMEOUT="0"), NO_BACKENDS).load_timeout_ns == 0


def test_listeners(tmp_path: Path) -> None:
    """``[server]`` is the listener ``default``; others follow."""
    found = tcp_listeners(config(tmp_path, "[server]\nport = 1\n[listeners.x]\nport = 2\nprofile = 'admin'\n"))
    assert found == [
        Listener("default", "manage", tcp=("127.0.0.1", 1)),
        Listener("x", "admin", tcp=("127.0.0.1", 2)),
    ]


def test_settings_of_a_model(tmp_path: Path) -> None:
    """The section is found however the name is written; other models have none; a bad name is refused."""
    text = "[models.Demo]\nkeep_alive = 1\n[models.Demo.parameters]\nnum_ctx = 9\n"
    look_up = model_settings(config(tmp_path, text))

    def model(name: str) -> ResolvedModel:
        return ResolvedModel(name, parse_name(name), name, "", ())

    found = look_up(model("demo:latest"))
    assert (found.keep_alive_ns, found.parameters) == (1_000_000_000, {"num_ctx": 9})
    assert look_up(model("other")).keep_alive_ns is None
    with pytest.raises(ConfigError, match=r'models\."a b": is no model name'):
        model_settings(config(tmp_path, '[models."a b"]\n'))
