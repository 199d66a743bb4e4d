"""`ollamactl`: the user and admin command line. Every command is a few requests to the running daemon."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import click

from ollamad import __version__
from ollamad.cli.client import Client, ClientError
from ollamad.cli.command import Command, Group, arguments
from ollamad.cli.connect import user_client
from ollamad.cli.format import human_bytes, human_time, parse_time, processor
from ollamad.cli.table import render


def _version(ctx: click.Context, _parameter: click.Parameter, wanted: bool) -> None:
    if not wanted:
        return
    try:
        server = user_client(ctx.params.get("socket")).get("/api/version")["version"]
        click.echo(f"server version is {server}")
    except ClientError:
        click.echo("Warning: could not connect to a running ollamad")
    click.echo(f"ollamactl version is {__version__}")
    ctx.exit()


@click.group(cls=Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--socket", help="Unix socket of the daemon to talk to.", is_eager=True)
@click.option("-v", "--version", is_flag=True, callback=_version, expose_value=False, help="Show versions.")
@click.pass_context
def main(ctx: click.Context, socket: str | None) -> None:
    """Run and manage models of an ollamad server."""
    ctx.obj = socket


def _client(ctx: click.Context) -> Client:
    return user_client(ctx.obj)


@main.command("list", cls=Command, at_most=None)
@arguments
@click.pass_context
def list_models(ctx: click.Context, arguments: tuple[str, ...]) -> None:
    """List models."""
    prefix = arguments[0].lower() if arguments else ""
    models = [one for one in _client(ctx).get("/api/tags")["models"] if one["name"].lower().startswith(prefix)]
    click.echo(_model_table(models), nl=False)


def _model_table(models: list[dict[str, Any]]) -> str:
    now = datetime.now(UTC)
    rows = [
        [
            one["name"],
            one.get("digest", "")[:12],
            "-" if one.get("remote_model") else human_bytes(one["size"]),
            human_time(parse_time(one["modified_at"]), now),
        ]
        for one in models
    ]
    return render(["name", "id", "size", "modified"], rows)


@main.command(cls=Command, at_most=None)
@arguments
@click.pass_context
def ps(ctx: click.Context, arguments: tuple[str, ...]) -> None:
    """List running models."""
    prefix = arguments[0] if arguments else ""
    now = datetime.now(UTC)
    rows = []
    for one in _client(ctx).get("/api/ps")["models"]:
        if not one["name"].startswith(prefix):
            continue
        until = parse_time(one["expires_at"])
        gone = until is not None and until < now
        rows.append(
            [
                one["name"],
                one.get("digest", "")[:12],
                human_bytes(one["size"]),
                processor(one["size"], one["size_vram"]),
                str(one.get("context_length", "")),
                "Stopping..." if gone else human_time(until, now),
            ]
        )
    click.echo(render(["name", "id", "size", "processor", "context", "until"], rows), nl=False)


@main.command(cls=Command, at_least=1, at_most=1)
@arguments
@click.option("--license", "selected", flag_value="license", multiple=True, help="Show the licence.")
@click.option("--modelfile", "selected", flag_value="modelfile", multiple=True, help="Show the Modelfile.")
@click.option("--parameters", "selected", flag_value="parameters", multiple=True, help="Show the parameters.")
@click.option("--template", "selected", flag_value="template", multiple=True, help="Show the template.")
@click.option("--system", "selected", flag_value="system", multiple=True, help="Show the system message.")
@click.option("-v", "--verbose", is_flag=True, help="Show metadata and tensors.")
@click.pass_context
def show(ctx: click.Context, arguments: tuple[str, ...], selected: tuple[str, ...], verbose: bool) -> None:
    """Show information for a model."""
    from ollamad.cli.show import sections

    if len(set(selected)) > 1:
        raise click.UsageError(
            "only one of '--license', '--modelfile', '--parameters', '--system', or '--template' can be specified"
        )
    answer = _client(ctx).post("/api/show", {"name": arguments[0], "verbose": verbose})
    if not selected:
        click.echo(sections(answer, verbose=verbose), nl=False)
        return
    click.echo(answer.get(selected[0], ""), nl=selected[0] not in ("system", "template"))


@main.command(cls=Command, at_least=2, at_most=2)
@arguments
@click.pass_context
def cp(ctx: click.Context, arguments: tuple[str, ...]) -> None:
    """Copy a model."""
    source, destination = arguments
    _client(ctx).post("/api/copy", {"source": source, "destination": destination})
    click.echo(f"copied '{source}' to '{destination}'")


def _unload(client: Client, name: str) -> None:
    client.post("/api/show", {"model": name})
    client.post("/api/generate", {"model": name, "keep_alive": 0, "stream": False})


@main.command(cls=Command, at_least=1, at_most=None)
@arguments
@click.pass_context
def rm(ctx: click.Context, arguments: tuple[str, ...]) -> None:
    """Remove a model."""
    client = _client(ctx)
    for name in arguments:
        try:
            _unload(client, name)
        except ClientError as error:
            if error.status == 0:
                raise
            if "not found" not in str(error) and "does not support generate" not in str(error):
                click.echo(f"Warning: unable to stop model '{name}'", err=True)
        client.call("DELETE", "/api/delete", {"name": name})
        click.echo(f"deleted '{name}'")


@main.command(cls=Command, at_least=1, at_most=1)
@arguments
@click.pass_context
def stop(ctx: click.Context, arguments: tuple[str, ...]) -> None:
    """Stop a running model."""
    try:
        _unload(_client(ctx), arguments[0])
    except ClientError as error:
        if "not found" in str(error):
            raise ClientError(f'couldn\'t find model "{arguments[0]}" to stop', error.status) from error
        raise


@main.command(cls=Command, at_least=1, at_most=1)
@arguments
@click.option("-f", "--file", "modelfile", metavar="FILE", help="The Modelfile (default: Modelfile in this folder).")
@click.option("-q", "--quantize", metavar="LEVEL", default="", help="Quantize the model to this level.")
@click.pass_context
def create(ctx: click.Context, arguments: tuple[str, ...], modelfile: str | None, quantize: str) -> None:
    """Create a model."""
    from ollamad.cli.create import create_model

    create_model(_client(ctx), arguments[0], modelfile, quantize)


@main.command(cls=Command, at_least=1, at_most=None, bare=("--think",))
@arguments
@click.option("--keepalive", metavar="DURATION", help="How long the model stays loaded, such as 5m.")
@click.option("--verbose", is_flag=True, help="Show timings after the answer.")
@click.option("--nowordwrap", is_flag=True, help="Do not break lines at words.")
@click.option("--format", "format_", metavar="FORMAT", help="Answer format: json, or a JSON schema.")
@click.option("--think", metavar="VALUE", help="Thinking: true, false, high, medium, low or max (after '=').")
@click.option("--hidethinking", is_flag=True, help="Do not show thinking.")
@click.option("--truncate", type=bool, metavar="BOOL", help="For embedding models: cut inputs that are too long.")
@click.option("--dimensions", type=int, default=0, help="For embedding models: length of the vector.")
@click.option("--insecure", is_flag=True, hidden=True)
@click.pass_context
def run(ctx: click.Context, /, arguments: tuple[str, ...], insecure: bool, **settings: Any) -> None:
    """Run a model."""
    from ollamad.cli.run import run_model

    run_model(_client(ctx), arguments[0], arguments[1:], **settings)


@main.group(cls=Group)
def config() -> None:
    """Look at the configuration."""


@config.command("show", cls=Command)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_context
def config_show(ctx: click.Context, as_json: bool) -> None:
    """Show every option, its value, and where the value came from."""
    from ollamad.cli.admin import show_config

    show_config(ctx.find_root().obj, as_json=as_json)


@main.command(cls=Command)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("-v", "--verbose", is_flag=True, help="Show tracebacks of failed plugins.")
@click.pass_context
def plugins(ctx: click.Context, as_json: bool, verbose: bool) -> None:
    """List plugins and what became of them."""
    from ollamad.cli.admin import show_plugins

    show_plugins(ctx.obj, as_json=as_json, verbose=verbose)


@main.command(cls=Command)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_context
def status(ctx: click.Context, as_json: bool) -> None:
    """Show what the daemon is doing."""
    from ollamad.cli.admin import show_status

    show_status(ctx.obj, as_json=as_json)


if __name__ == "__main__":
    main()
