"""How commands of `ollamactl` fail and count arguments: one ``Error:`` line on stderr and status 1.

Source: runtime contract, general rules of the command line.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from difflib import get_close_matches
from typing import Any, ClassVar, NoReturn

import click

from ollamad.cli.client import ClientError
from ollamad.errors import OllamadError


def fail(text: str) -> NoReturn:
    """Print the error and leave with status 1."""
    click.echo(f"Error: {text}", err=True)
    raise SystemExit(1)


class Command(click.Command):
    """A command that counts its arguments as the contract words it.

    ``at_least`` and ``at_most`` bound the number of arguments (None: no bound). An option named in
    ``bare`` may stand without a value, and then never takes the next word (``--think high``).
    """

    def __init__(
        self, *args: Any, at_least: int = 0, at_most: int | None = 0, bare: Sequence[str] = (), **kwargs: Any
    ) -> None:
        super().__init__(*args, **kwargs)
        self._at_least = at_least
        self._at_most = at_most
        self._bare = bare

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        end = args.index("--") if "--" in args else len(args)
        args = [f"{one}=true" if one in self._bare and at < end else one for at, one in enumerate(args)]
        rest = super().parse_args(ctx, args)
        count = len(ctx.params.get("arguments", ()))
        if self._at_least == self._at_most and count != self._at_least:
            raise click.UsageError(f"accepts {self._at_least} arg(s), received {count}")
        if count < self._at_least:
            raise click.UsageError(f"requires at least {self._at_least} arg(s), only received {count}")
        return rest


class Group(click.Group):
    """The program: knows aliases, suggests names, prints every failure once."""

    aliases: ClassVar[dict[str, str]] = {"ls": "list"}

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        return super().get_command(ctx, self.aliases.get(cmd_name, cmd_name))

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        if not name.startswith("-") and self.get_command(ctx, name) is None:
            text = f'unknown command "{name}" for "{ctx.command_path}"'
            known = self.list_commands(ctx)
            near = [one for one in known if one.startswith(name)] or get_close_matches(name, known, 1, 0.6)
            raise click.UsageError(text + ("\n\nDid you mean this?\n\t" + "\n\t".join(near) + "\n" if near else ""))
        return super().resolve_command(ctx, args)

    def main(self, *args: Any, **kwargs: Any) -> Any:
        kwargs["standalone_mode"] = False
        try:
            return super().main(*args, **kwargs)
        except click.exceptions.NoArgsIsHelpError as error:
            click.echo(error.format_message())
        except click.UsageError as error:
            fail(_usage_text(error))
        except click.ClickException as error:
            fail(error.format_message())
        except click.Abort:
            raise SystemExit(130) from None
        except (ClientError, OllamadError) as error:
            fail(str(error))
        except BrokenPipeError:
            sys.stderr.close()  # the reader of our output left; there is nobody to tell
            raise SystemExit(1) from None
        except OSError as error:
            fail(f"{error.filename}: {error.strerror}" if error.filename else str(error))
        return None


def _usage_text(error: click.UsageError) -> str:
    if isinstance(error, click.NoSuchOption):
        name = error.option_name
        return f"unknown flag: {name}" if name.startswith("--") else f"unknown shorthand flag: '{name[1:]}' in {name}"
    if isinstance(error, click.BadOptionUsage) and "requires an argument" in error.message:
        return f"flag needs an argument: {error.option_name}"
    return error.format_message()


def arguments(function: Callable[..., Any]) -> Callable[..., Any]:
    """All positional words of a command as the tuple ``arguments``."""
    return click.argument("arguments", nargs=-1, type=str)(function)
