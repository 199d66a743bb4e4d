"""The hooks of ollamad, in the order they are called. All are synchronous and called once, at start."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pluggy

from ollamad.config.schema import Option
from ollamad.plugin.backend import Backend
from ollamad.plugin.frontend import Frontend

#: The name of the pluggy project and of the entry-point group.
PROJECT = "ollamad"

hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


@hookspec
def ollamad_options() -> Sequence[Option]:  # type: ignore[empty-body]
    """Declare options of this plugin; they live under ``[plugins.NAME]``.

    Called: first, in the daemon only, right after the plugin was imported. None means no options; an
    exception fails this plugin and no other.
    """


@hookspec
def ollamad_register_backends(register: Callable[[Backend], None]) -> None:
    """Call *register* with each backend.

    Called: after `ollamad_options`, in the daemon, in probe jobs and in runners. A name that is taken
    fails the later plugin. Must not import a native library.
    """


@hookspec
def ollamad_register_frontends(register: Callable[[Frontend], None]) -> None:
    """Call *register* with each frontend.

    Called: after `ollamad_register_backends`, in the daemon only. A name or a route that is taken
    fails the later plugin.
    """
