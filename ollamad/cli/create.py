"""`ollamactl create`: reads a Modelfile, uploads its files by digest, and shows how the creation goes."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import click

from ollamad.cli.client import Client, ClientError
from ollamad.modelfile import ModelRequest, parse, read_request
from ollamad.names import is_valid, parse_name

_CHUNK_BYTES = 1 << 20


class StatusLine:
    """One line on stderr that is rewritten on a terminal; elsewhere each new text is a line."""

    def __init__(self) -> None:
        self._terminal = sys.stderr.isatty()
        self._last = ""

    def show(self, text: str, *, passing: bool = False) -> None:
        """Show *text*; a *passing* one (a percentage) is left out where lines cannot be rewritten."""
        if text == self._last or (passing and not self._terminal):
            return
        if self._terminal:
            same = self._last.rpartition(" ")[0] == text.rpartition(" ")[0] and passing
            sys.stderr.write(("\r\x1b[K" if same or not self._last else "\n") + text)
        else:
            sys.stderr.write(text + "\n")
        sys.stderr.flush()
        self._last = text

    def end(self) -> None:
        """Leave the last line standing."""
        if self._terminal and self._last:
            sys.stderr.write("\n")


def create_model(client: Client, name: str, modelfile: str | None, quantize: str) -> None:
    """Create *name* from a Modelfile. Raises: ClientError, InvalidRequest, OSError."""
    if not is_valid(parse_name(name)):
        raise ClientError(f"invalid model name: {name}")
    path = Path(modelfile or "Modelfile")
    if modelfile is not None and not path.is_file():
        raise ClientError(f"{modelfile}: no such Modelfile; name an existing file with -f")
    content = path.read_bytes() if path.is_file() else b"FROM ."
    request = read_request(parse(content), path.absolute().parent)
    for warning in request.warnings:
        click.echo(f"warning: {warning}", err=True)
    line = StatusLine()
    line.show("gathering model components")
    try:
        body = _body(client, name, request, line)
        if quantize:
            body["quantize"] = quantize
        for record in client.stream("/api/create", body):
            line.show(str(record.get("status", "")))
    finally:
        line.end()


def _body(client: Client, name: str, request: ModelRequest, line: StatusLine) -> dict[str, Any]:
    body: dict[str, Any] = {"model": name, "stream": True}
    simple = {
        "from": request.from_name,
        "template": request.template,
        "system": request.system,
        "renderer": request.renderer,
        "parser": request.parser,
        "requires": request.requires,
        "license": list(request.licenses),
        "parameters": dict(request.parameters),
        "messages": [{"role": one.role, "content": one.content} for one in request.messages],
    }
    body.update({key: value for key, value in simple.items() if value})
    groups: dict[str, Mapping[str, Path]] = {
        "files": request.files,
        "adapters": request.adapters,
        "draft_files": request.draft_files,
    }
    for key, files in groups.items():
        if files:
            body[key] = {file_name: _upload(client, path, line) for file_name, path in files.items()}
    return body


def _upload(client: Client, path: Path, line: StatusLine) -> str:
    """Send a file unless the server has it; returns its digest."""
    line.show(f"hashing {path.name}")
    with path.open("rb") as file:
        digest = f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"
    label = f"copying file {digest}"
    try:
        client.call("HEAD", f"/api/blobs/{digest}")
        line.show(f"{label} 100%")
        return digest
    except ClientError as error:
        if error.status != 404:
            raise
    size = path.stat().st_size

    def chunks() -> Iterator[bytes]:
        sent = 0
        with path.open("rb") as source:
            while chunk := source.read(_CHUNK_BYTES):
                yield chunk
                sent += len(chunk)
                line.show(f"{label} {sent * 100 // max(size, 1)}%", passing=True)

    client.upload(f"/api/blobs/{digest}", chunks(), size)
    line.show(f"{label} 100%")
    return digest
