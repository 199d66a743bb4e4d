"""`ollamactl run`: one answer, or the interactive loop. Text appears while it is made."""

from __future__ import annotations

import json
import re
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import click

from ollamad.cli.client import Client, ClientError
from ollamad.cli.wordwrap import WordWrap
from ollamad.config.durations import format_duration, parse_duration

_THINK: dict[str, bool | str] = {"": True, "true": True, "false": False}
_THINK.update({level: level for level in ("high", "medium", "low", "max")})
_GREY, _BOLD, _PLAIN = "\x1b[38;5;245m", "\x1b[1m", "\x1b[0m"


@dataclass
class Session:
    """What a run asks for, and how its answers look."""

    client: Client
    model: str
    keep_alive: Any = None
    think: bool | str | None = None
    format: Any = None
    verbose: bool = False
    wrap: bool = True
    hide_thinking: bool = False
    options: dict[str, Any] = field(default_factory=dict)

    def body(self, **more: Any) -> dict[str, Any]:
        """A request body with everything that was set."""
        values = {"model": self.model, "keep_alive": self.keep_alive, "think": self.think, "format": self.format}
        body = {key: value for key, value in values.items() if value is not None}
        if self.options:
            body["options"] = self.options
        return {**body, **more}


def run_model(
    client: Client,
    model: str,
    words: Sequence[str],
    *,
    keepalive: str | None,
    verbose: bool,
    nowordwrap: bool,
    format_: str | None,
    think: str | None,
    hidethinking: bool,
    truncate: bool | None,
    dimensions: int,
) -> None:
    """Answer a prompt from the arguments or stdin, or start the interactive loop. Raises: ClientError."""
    session = Session(
        client,
        model,
        keep_alive=_keep_alive(keepalive),
        think=_think(think),
        format=_format(format_),
        verbose=verbose,
        wrap=not nowordwrap,
        hide_thinking=hidethinking,
    )
    parts = list(words)
    if not sys.stdin.isatty() and (piped := sys.stdin.read()):
        parts.insert(0, piped)
    shown = client.post("/api/show", {"model": model})
    if "embedding" in (shown.get("capabilities") or ()):
        _embed(session, " ".join(parts), truncate, dimensions)
    elif sys.stdin.isatty() and sys.stdout.isatty() and not parts:
        from ollamad.cli.interactive import Loop

        Loop(session, shown).run()
    else:
        generate(session, " ".join(parts))


def _think(text: str | None) -> bool | str | None:
    """Left to the server when not given: it knows whether the model can."""
    if text is None:
        return None
    if text not in _THINK:
        raise ClientError(f'invalid value for --think: "{text}" (must be true, false, high, medium, low, or max)')
    return _THINK[text]


def _keep_alive(text: str | None) -> str | int | None:
    if text is None:
        return None
    try:
        value = parse_duration(text)
    except ValueError:
        raise ClientError(_duration_error(text)) from None
    return -1 if value < 0 else text


def _duration_error(text: str) -> str:
    """What Go's ``time.ParseDuration`` says of a text that is no duration."""
    if re.fullmatch(r"[-+]?(\d+\.?\d*|\.\d+)", text):
        return f'time: missing unit in duration "{text}"'
    if unit := re.match(r"[-+]?(?:(?:\d+\.?\d*|\.\d+)(?:ns|us|µs|μs|ms|s|m|h))*(?:\d+\.?\d*|\.\d+)([^\d.]+)", text):
        return f'time: unknown unit "{unit[1]}" in duration "{text}"'
    return f'time: invalid duration "{text}"'


def _format(text: str | None) -> Any:
    if not text:
        return None
    if text == "json":
        return "json"
    try:
        return json.loads(text)
    except ValueError as error:
        raise ClientError(f"--format is neither json nor a JSON schema: {error}") from error


def _embed(session: Session, text: str, truncate: bool | None, dimensions: int) -> None:
    if not text:
        usage = f'ollamactl run {session.model} "your text here"'
        raise ClientError(f"embedding models require input text. Usage: {usage}")
    body = {"model": session.model, "input": text, "truncate": truncate, "keep_alive": session.keep_alive}
    body["dimensions"] = dimensions or None
    answer = session.client.post("/api/embed", {key: value for key, value in body.items() if value is not None})
    click.echo(json.dumps(answer["embeddings"][0], separators=(",", ":")))


def generate(session: Session, prompt: str) -> None:
    """One request, its answer on stdout. Ctrl-C ends the request and the command, with status 0."""
    printer = AnswerPrinter(session)
    records = session.client.stream("/api/generate", session.body(prompt=prompt))
    try:
        for record in records:
            printer.show(record.get("thinking", ""), record.get("response", ""))
            if record.get("done"):
                printer.end(record)
    except KeyboardInterrupt:
        close(records)
        return
    printer.check_complete()
    if prompt:
        click.echo("\n")
        printer.statistics()


def close(records: Iterator[Any]) -> None:
    """Close the connection under a stream, which frees its slot."""
    records.close()  # type: ignore[attr-defined]


class AnswerPrinter:
    """Prints one answer as it comes: thinking in grey, text wrapped at words on a terminal."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._terminal = sys.stdout.isatty()
        self._thinking = False
        self._newline = True
        self._last: Mapping[str, Any] = {}
        self.content = ""
        self._fresh()

    def _fresh(self) -> None:
        width = shutil.get_terminal_size((80, 24)).columns if self._terminal and self._session.wrap else 0
        self._wrap = WordWrap(self._write, width)

    def _write(self, text: str) -> None:
        sys.stdout.write(text)
        sys.stdout.flush()

    def show(self, thinking: str, content: str) -> None:
        """Print the next piece of thinking or text."""
        if thinking and not self._session.hide_thinking:
            if not self._thinking:
                self._thinking = True
                self._write(self._grey("Thinking...") + "\n" + (_GREY if self._terminal else ""))
            self._wrap.feed(thinking)
            self._newline = thinking.endswith("\n")
        if content:
            if self._thinking:
                self._close_thinking()
            self.content += content
            self._wrap.feed(content)

    def _close_thinking(self) -> None:
        self._thinking = False
        self._write(("" if self._newline else "\n") + self._grey("...done thinking.") + "\n\n")
        self._fresh()

    def _grey(self, text: str) -> str:
        return f"{_GREY}{_BOLD}{text}{_PLAIN}" if self._terminal else text

    def check_complete(self) -> None:
        """Raise `ClientError` if the answer broke off before its last record."""
        if not self._last:
            raise ClientError("unexpected EOF: the server closed the connection in the middle of its answer")

    def end(self, record: Mapping[str, Any]) -> None:
        """Keep the last record for `statistics`."""
        self._last = record

    def statistics(self) -> None:
        """Print the timings on stderr if the session is verbose."""
        if self._session.verbose:
            click.echo(statistics(self._last), err=True, nl=False)


def statistics(record: Mapping[str, Any]) -> str:
    """The timings of a last record as lines; a value of 0 has no line."""
    lines = []
    for name in ("total", "load"):
        if value := record.get(f"{name}_duration"):
            lines.append((f"{name} duration:", format_duration(value)))
    for name, key in (("prompt eval", "prompt_eval"), ("eval", "eval")):
        count, spent = record.get(f"{key}_count", 0), record.get(f"{key}_duration", 0)
        if count:
            lines.append((f"{name} count:", f"{count} token(s)"))
        if spent:
            lines.append((f"{name} duration:", format_duration(spent)))
            lines.append((f"{name} rate:", f"{count / (spent / 1e9):.2f} tokens/s"))
    return "".join(f"{title:<21} {value}\n" for title, value in lines)
