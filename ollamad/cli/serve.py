"""`ollamad`: the daemon in the foreground, and a first hello from it."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import click

import ollamad

if TYPE_CHECKING:
    from ollamad.config.load import Flag

#: Flag -> key of the option that it sets.
_FLAGS = {"--host": "server.host", "--port": "server.port", "--models": "store.path", "--log-level": "logging.level"}


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(ollamad.__version__, prog_name="ollamad", message="%(prog)s version %(version)s")
def main() -> None:
    """A model server that speaks Ollama's API."""


@main.command("serve")
@click.option("--config", "config_file", metavar="FILE", help="Configuration file to read.")
@click.option("--host", metavar="ADDRESS", help="Address to listen on, with or without a port (server.host).")
@click.option("--port", metavar="PORT", help="Port to listen on; 0 takes a free one (server.port).")
@click.option("--models", metavar="DIRECTORY", help="Where the models lie (store.path).")
@click.option("--log-level", metavar="LEVEL", help="TRACE, DEBUG, INFO, WARN or ERROR (logging.level).")
@click.option("--set", "pairs", metavar="KEY=VALUE", multiple=True, help="Set any option; may be given several times.")
def serve(config_file: str | None, pairs: tuple[str, ...], **given: str | None) -> None:
    """Start the daemon and stay in the foreground."""
    _use_plain_malloc()
    flags = {f"--{name.replace('_', '-')}": text for name, text in given.items() if text is not None}
    sys.exit(_serve(config_file, flags.items(), pairs))


main.add_command(serve, "start")


def _use_plain_malloc() -> None:
    """Start again, as the same process, with the C library's allocator; why stands in `daemon.memory`.

    Without blocks of Python's own allocator it is in use already. ``env`` sets the variable, so that nothing of
    the configuration has to be imported before (25 ms).
    """
    if sys.platform == "linux" and sys.getallocatedblocks() and not sys.flags.ignore_environment:
        variables = ("PYTHONMALLOC=malloc", "MALLOC_ARENA_MAX=1")
        os.execv("/usr/bin/env", ["env", *variables, sys.executable, *sys.orig_argv[1:]])


def _serve(config_file: str | None, given: Iterable[tuple[str, str]], pairs: Iterable[str]) -> int:
    """Run until a signal; 0 after a clean end, 1 with ``Error: …`` when the start fails."""
    from ollamad.errors import OllamadError

    try:
        from ollamad.config.load import load

        config = load(file=config_file, flags=_flags(given, pairs))
        _run(config)
    except OllamadError as error:
        click.echo(f"Error: {error}", err=True)
        return 1
    return 0


def _flags(given: Iterable[tuple[str, str]], pairs: Iterable[str]) -> list[Flag]:
    from ollamad.config.load import Flag
    from ollamad.errors import ConfigError

    flags = []
    for pair in pairs:
        key, found, text = pair.partition("=")
        if not found:
            raise ConfigError(f'saw "{pair}"; allowed: KEY=VALUE', source="--set")
        flags.append(Flag(key.strip(), text, "--set"))
    # The named flags come last: the more special one wins.
    return flags + [Flag(_FLAGS[name], text, name) for name, text in given]


def _run(config: Any) -> None:
    import asyncio

    from ollamad.daemon import app, log
    from ollamad.daemon.lifecycle import Signals, run_until_asked

    log.install(config.logging.level)

    async def serve_until_asked() -> None:
        await run_until_asked(lambda: app.start(config), Signals(), config.server.drain_timeout_s)

    asyncio.run(serve_until_asked())


@main.command("hello")
@click.argument("question", default="Who are you?")
def hello(question: str) -> None:
    """Ask the built-in model one question, with a daemon of its own that ends afterwards."""
    from ollamad.cli.hello import say_hello

    sys.exit(say_hello(question, lambda text: click.echo(text, nl=False), lambda text: click.echo(text, err=True)))


if __name__ == "__main__":
    main(prog_name="ollamad")
