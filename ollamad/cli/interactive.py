"""The interactive loop of `ollamactl run`: a plain prompt with line editing by readline.

Source: runtime contract, interactive prompt; the commands of this version are those in `HELP`.
"""

from __future__ import annotations

import readline  # noqa: F401 - importing it gives input() line editing and history
from collections.abc import Mapping
from typing import Any

import click

from ollamad.cli.client import ClientError
from ollamad.cli.ctl import _model_table
from ollamad.cli.run import AnswerPrinter, Session, close
from ollamad.cli.show import sections
from ollamad.errors import InvalidRequest
from ollamad.modelfile import convert_parameters

HELP = '''Available Commands:
  /set            Set session variables
  /show           Show model information
  /list           List models
  /load <model>   Load a session or model
  /clear          Clear session context
  /bye            Exit
  /?, /help       Help for a command

Use """ to begin a multi-line message.
'''
SET_HELP = """Available Commands:
  /set parameter ...     Set a parameter
  /set system <string>   Set system message
  /set wordwrap          Enable wordwrap
  /set nowordwrap        Disable wordwrap
  /set verbose           Show LLM stats
  /set quiet             Disable LLM stats
"""
SHOW_HELP = """Available Commands:
  /show info         Show details for this model
  /show license      Show model license
  /show modelfile    Show Modelfile for this model
  /show parameters   Show parameters for this model
  /show system       Show system message
  /show template     Show prompt template
"""
_TOGGLES = {"verbose": ("verbose", True), "quiet": ("verbose", False), "wordwrap": ("wrap", True)}
_TOGGLES["nowordwrap"] = ("wrap", False)


class Loop:
    """One conversation at a terminal."""

    def __init__(self, session: Session, shown: Mapping[str, Any]) -> None:
        self._session = session
        self._shown = shown
        self._messages: list[dict[str, str]] = []

    def run(self) -> None:
        """Read lines until /bye or end of input. Raises: ClientError."""
        self._load()
        for message in self._shown.get("messages") or ():
            if message["role"] == "user":
                click.echo(f">>> {message['content']}")
            elif message["role"] == "assistant":
                click.echo(f"{message['content']}\n")
        while True:
            try:
                line = self._read()
            except EOFError:
                click.echo()
                return
            except KeyboardInterrupt:
                click.echo("\nUse Ctrl + d or /bye to exit.")
                continue
            if line.startswith(("/bye", "/exit")):
                return
            if line.startswith("/"):
                self._command(line)
            elif line:
                self._answer(line)

    def _load(self) -> None:
        self._session.client.post("/api/generate", self._session.body(prompt="", stream=False))

    def _read(self) -> str:
        line = input(">>> ").strip()
        if not line.startswith('"""'):
            return line
        parts = [line[3:]]
        while not parts[-1].endswith('"""'):
            parts.append(input("... "))
        parts[-1] = parts[-1][:-3]
        return "\n".join(parts)

    def _answer(self, text: str) -> None:
        self._messages.append({"role": "user", "content": text})
        printer = AnswerPrinter(self._session)
        records = self._session.client.stream("/api/chat", self._session.body(messages=self._messages))
        try:
            for record in records:
                message = record.get("message", {})
                printer.show(message.get("thinking", ""), message.get("content", ""))
                if record.get("done"):
                    printer.end(record)
        except KeyboardInterrupt:
            close(records)
            click.echo()
            return
        except ClientError as error:
            if "think" not in str(error):
                raise
            click.echo(f"error: {error}")
            return
        printer.check_complete()
        click.echo("\n")
        printer.statistics()
        self._messages.append({"role": "assistant", "content": printer.content})

    # --- commands ----------------------------------------------------------------------------

    def _command(self, line: str) -> None:
        word, *arguments = line.split()
        for name, action in (
            ("/list", self._list),
            ("/load", self._load_other),
            ("/clear", self._clear),
            ("/set", self._set),
            ("/show", self._show),
            ("/help", self._help),
            ("/?", self._help),
        ):
            if word.startswith(name):
                action(arguments)
                return
        click.echo(f"Unknown command '{word}'. Type /? for help")

    def _list(self, arguments: list[str]) -> None:
        prefix = arguments[0].lower() if arguments else ""
        models = self._session.client.get("/api/tags")["models"]
        click.echo(_model_table([one for one in models if one["name"].lower().startswith(prefix)]), nl=False)

    def _load_other(self, arguments: list[str]) -> None:
        if len(arguments) != 1:
            click.echo("Usage:\n  /load <modelname>")
            return
        click.echo(f"Loading model '{arguments[0]}'")
        try:
            self._shown = self._session.client.post("/api/show", {"model": arguments[0]})
        except ClientError as error:
            if "not found" not in str(error):
                raise
            click.echo(f"Couldn't find model '{arguments[0]}'")
            return
        self._session.model = arguments[0]
        self._messages = []
        self._load()

    def _clear(self, _arguments: list[str]) -> None:
        self._messages = [one for one in self._messages if one["role"] == "system"][-1:]
        click.echo("Cleared session context")

    def _help(self, arguments: list[str]) -> None:
        topic = arguments[0].lstrip("/") if arguments else ""
        click.echo({"": HELP, "set": SET_HELP, "show": SHOW_HELP}.get(topic, ""), err=True)

    def _set(self, arguments: list[str]) -> None:
        what = arguments[0] if arguments else ""
        if what == "parameter" and len(arguments) >= 3:
            self._set_parameter(arguments[1], arguments[2:])
        elif what == "system" and len(arguments) > 1:
            message = {"role": "system", "content": " ".join(arguments[1:]).strip('"')}
            if self._messages and self._messages[-1]["role"] == "system":
                self._messages.pop()
            self._messages.append(message)
            click.echo("Set system message.")
        elif what in _TOGGLES:
            setattr(self._session, *_TOGGLES[what])
            click.echo(f"Set '{what}' mode.")
        elif what in ("", "parameter", "system"):
            click.echo(SET_HELP, err=True)
        else:
            click.echo(f"Unknown command '/set {what}'. Type /? for help")

    def _set_parameter(self, name: str, values: list[str]) -> None:
        kept = values if name == "stop" else values[:1]
        try:
            self._session.options.update(convert_parameters([(name, value) for value in kept]))
        except InvalidRequest as error:
            click.echo(f'Couldn\'t set parameter: "{error}"')
            return
        click.echo(f"Set parameter '{name}' to '{', '.join(values)}'")

    def _show(self, arguments: list[str]) -> None:
        what = arguments[0] if arguments else ""
        if what == "info":
            click.echo(sections(self._shown), nl=False, err=True)
        elif what in ("license", "modelfile", "parameters", "system", "template"):
            click.echo(self._shown.get(what) or f"No {what} was specified for this model.")
        elif not what:
            click.echo(SHOW_HELP, err=True)
        else:
            click.echo(f"Unknown command '/show {what}'. Type /? for help")
