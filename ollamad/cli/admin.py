"""`ollamactl config show`, `plugins` and `status`: what the running daemon says of itself.

They ask through the admin socket. Without a daemon they say so and print the local view, marked as such.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import click

from ollamad.cli.client import NotRunning
from ollamad.cli.connect import admin_client
from ollamad.cli.format import human_bytes, human_duration
from ollamad.cli.table import render

LOCAL = "no running daemon was asked ({reason}); this is the local view"


def show_config(socket: str | None, *, as_json: bool) -> None:
    """Print every option with its source."""
    try:
        options = admin_client(socket).get("/ollamad/config")["options"]
    except NotRunning as error:
        options = _local_config(str(error))
    if as_json:
        click.echo(json.dumps(options, indent=1, ensure_ascii=False))
        return
    rows = [
        [one["key"], one["text"], one["source"] + (f" ({one['detail']})" if one.get("detail") else "")]
        for one in options
    ]
    click.echo(render(["key", "value", "source"], rows, 100), nl=False)


def _local_config(reason: str) -> list[Mapping[str, Any]]:
    from ollamad.config.load import load

    click.echo(LOCAL.format(reason=reason), err=True)
    return [asdict(one) for one in load().explain()]


def show_plugins(socket: str | None, *, as_json: bool, verbose: bool) -> None:
    """Print every plugin and what became of it."""
    try:
        plugins = admin_client(socket).get("/ollamad/plugins")["plugins"]
    except NotRunning as error:
        plugins = _local_plugins(str(error))
    if as_json:
        click.echo(json.dumps(plugins, indent=1, ensure_ascii=False))
        return
    rows = [
        [
            one["name"],
            one["status"],
            ", ".join([*one.get("backends", ()), *one.get("frontends", ())]) or "-",
            " ".join(part for part in (one.get("distribution", ""), one.get("version", "")) if part),
            one.get("reason", ""),
        ]
        for one in plugins
    ]
    click.echo(render(["name", "status", "offers", "from", "reason"], rows, 60), nl=False)
    for one in plugins if verbose else ():
        if one.get("details"):
            click.echo(f"\n{one['name']}:\n{one['details']}")


def _local_plugins(reason: str) -> Sequence[Mapping[str, Any]]:
    from ollamad.config.load import load
    from ollamad.plugin._manager import PluginManager

    click.echo(LOCAL.format(reason=reason), err=True)
    section = load().plugins
    manager = PluginManager(section.disabled, section.extra, section.load_timeout_s)
    manager.load()
    return [
        {
            "name": one.name,
            "status": one.status,
            "reason": one.reason,
            "details": one.details,
            "distribution": one.distribution,
            "version": one.version,
            "backends": [backend.name for backend in one.backends],
            "frontends": [frontend.name for frontend in one.frontends],
        }
        for one in manager.records
    ]


def show_status(socket: str | None, *, as_json: bool) -> None:
    """Print what the daemon is doing. Raises: NotRunning."""
    status = admin_client(socket).get("/ollamad/status")
    if as_json:
        click.echo(json.dumps(status, indent=1, ensure_ascii=False))
        return
    rows = [[key.replace("_", " "), _status_value(key, value)] for key, value in status.items()]
    click.echo(render([], rows, 100), nl=False)


def _status_value(key: str, value: Any) -> str:
    if key.endswith("_bytes") and isinstance(value, int):
        return human_bytes(value)
    if key.endswith("_s") and isinstance(value, int | float):
        return human_duration(value).lower()
    if isinstance(value, list):
        return "; ".join(_status_value("", one) for one in value) or "none"
    if isinstance(value, dict):
        return ", ".join(f"{name} {_status_value(name, one)}" for name, one in value.items())
    return "-" if value is None else str(value)
