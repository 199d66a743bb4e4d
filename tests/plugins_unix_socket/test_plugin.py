"""The listener of the Unix socket plugin and its options."""

from pathlib import Path

import ollamad_unix_socket as plugin
import pytest

from ollamad.config.load import Flag, load, plugin_settings
from ollamad.errors import ConfigError
from ollamad.plugin import Frontend, Listener


def listener(environ: dict[str, str], **flags: str) -> Listener:
    given = [Flag(f"plugins.unix-socket.{key}", text, "--set") for key, text in flags.items()]
    config = load(environ={"HOME": "/h"} | environ, flags=given, default_file=Path("/nonexistent"))
    settings, _ = plugin_settings(config, "unix-socket", plugin.ollamad_options())
    (found,) = frontend().listeners({key: one.value for key, one in settings.items()})
    return found


def frontend() -> Frontend:
    found: list[Frontend] = []
    plugin.ollamad_register_frontends(found.append)
    return found[0]


def test_default_listener() -> None:
    """The socket lies in the runtime directory, has profile admin and is for its owner alone."""
    expected = Listener("unix", "admin", unix="/run/x/ollamad.sock", unix_mode=0o600)
    assert listener({"RUNTIME_DIRECTORY": "/run/x"}) == expected


def test_a_group_opens_it() -> None:
    """With a group the socket is for its members too."""
    found = listener({"OLLAMAD_SOCKET": "/x/s", "OLLAMAD_SOCKET_GROUP": "people"})
    assert found == Listener("unix", "admin", unix="/x/s", unix_mode=0o660, unix_group="people")


def test_the_mode_may_be_said() -> None:
    """A mode is octal digits; anything else is refused."""
    assert listener({}, mode="0666").unix_mode == 0o666
    with pytest.raises(ConfigError, match=r'plugins\.unix-socket\.mode: saw "rw"; allowed: three or four octal'):
        listener({}, mode="rw")
