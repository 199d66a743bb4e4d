"""The Unix socket of the daemon and the admin routes that `ollamactl` speaks to."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ollamad.plugin import Frontend, Listener, Option, Route, Services, hookimpl
from ollamad_unix_socket.routes import admin_routes


def _octal(text: str) -> str | None:
    if text == "auto" or (len(text) in (3, 4) and all(sign in "01234567" for sign in text)):
        return None
    return f'saw "{text}"; allowed: three or four octal digits such as "0660", or "auto"'


OPTIONS = (
    Option(
        "path",
        "path",
        "ollamad.sock in $RUNTIME_DIRECTORY, /run/ollamad (root), $XDG_RUNTIME_DIR/ollamad or the state directory",
        "Path of the socket.",
        variable="OLLAMAD_SOCKET",
        default_from=lambda places: places.runtime / "ollamad.sock",
    ),
    Option(
        "mode",
        "string",
        "auto",
        "Permissions of the socket; 'auto' is 0660 with a group and 0600 without.",
        check=_octal,
    ),
    Option(
        "group",
        "string",
        "",
        "Group that gets the socket and whose members may use the admin routes; '' is nobody but root and the "
        "daemon's own user.",
        variable="OLLAMAD_SOCKET_GROUP",
    ),
)


class UnixSocket(Frontend):
    """One listener of profile admin, and the routes below ``/ollamad/``."""

    name = "unix-socket"

    def routes(self, services: Services) -> Sequence[Route]:
        return admin_routes(services)

    def listeners(self, options: Mapping[str, Any]) -> Sequence[Listener]:
        group = options["group"]
        mode = options["mode"]
        permissions = (0o660 if group else 0o600) if mode == "auto" else int(mode, 8)
        listener = Listener("unix", "admin", unix=str(options["path"]), unix_mode=permissions, unix_group=group)
        return (listener,)


@hookimpl
def ollamad_options() -> Sequence[Option]:
    """Where the socket lies and who may use it."""
    return OPTIONS


@hookimpl
def ollamad_register_frontends(register: Callable[[Frontend], None]) -> None:
    """Register the one frontend."""
    register(UnixSocket())
