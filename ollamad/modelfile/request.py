"""Commands to what `create` is asked for. Files stay paths: who sends the request hashes and uploads them.

Source: models contract 4.2, 4.5.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ollamad.modelfile.files import expand_path, model_files
from ollamad.modelfile.parameters import IGNORED, convert_parameters
from ollamad.modelfile.text import Command, ModelfileError
from ollamad.types import Message

_KNOWN = frozenset(
    ["model", "draft", "adapter", "template", "system", "renderer", "parser", "license", "requires", "message"],
)
_VERSION = re.compile(r"v?(\d+(?:\.\d+){0,2}(?:-[0-9A-Za-z.-]+)?(?:\+[0-9A-Za-z.-]+)?)")


@dataclass(frozen=True, slots=True)
class ModelRequest:
    """A create request before its files are uploaded; ``files`` and its like map request names to local paths."""

    from_name: str = ""
    files: Mapping[str, Path] = field(default_factory=dict)
    adapters: Mapping[str, Path] = field(default_factory=dict)
    draft_files: Mapping[str, Path] = field(default_factory=dict)
    template: str = ""
    system: str = ""
    renderer: str = ""
    parser: str = ""
    requires: str = ""
    licenses: tuple[str, ...] = ()
    parameters: Mapping[str, Any] = field(default_factory=dict)
    messages: tuple[Message, ...] = ()
    warnings: tuple[str, ...] = ()


def read_request(commands: Sequence[Command], directory: Path) -> ModelRequest:
    """Turn *commands* into a request; relative paths start at *directory*, the Modelfile's own.

    Raises:
        InvalidRequest: An unknown parameter, a value of the wrong type, or files that are no model.
    """
    arguments: dict[str, list[str]] = {}
    for command in commands:
        arguments.setdefault(command.name, []).append(command.argument)
    sources = [_local(text, directory) for text in arguments.get("model", [])]
    local = [path for path in sources if path is not None]
    remote = [text for text, path in zip(arguments.get("model", []), sources, strict=True) if path is None]
    drafts = [_existing(text, directory) for text in arguments.get("draft", [])]
    for draft in drafts:
        if draft in local:
            raise ModelfileError(f"DRAFT must not reference the same local path as FROM: {draft}")
    parameters = [(command.name, command.argument) for command in commands if command.name not in _KNOWN]
    return ModelRequest(
        from_name=remote[-1] if remote else "",
        files=_named(local),
        adapters=_named([_existing(text, directory) for text in arguments.get("adapter", [])[-1:]]),
        draft_files=_named(drafts),
        template=_last(arguments, "template"),
        system=_last(arguments, "system"),
        renderer=_last(arguments, "renderer"),
        parser=_last(arguments, "parser"),
        requires=_version(_last(arguments, "requires")),
        licenses=tuple(arguments.get("license", ())),
        parameters=convert_parameters(parameters),
        messages=tuple(_message(text) for text in arguments.get("message", ())),
        warnings=tuple(f"parameter '{name}' has no effect" for name, _ in parameters if name in IGNORED),
    )


def _last(arguments: Mapping[str, list[str]], name: str) -> str:
    return arguments[name][-1] if name in arguments else ""


def _message(text: str) -> Message:
    role, _, content = text.partition(": ")
    return Message(role, content)


def _version(text: str) -> str:
    if not text:
        return ""
    match = _VERSION.fullmatch(text)
    if match is None:
        raise ModelfileError("requires must be a valid semver (e.g. 0.14.0)")
    return match[1]


def _local(text: str, directory: Path) -> Path | None:
    path = expand_path(text, directory)
    return path if path.exists() else None


def _existing(text: str, directory: Path) -> Path:
    path = expand_path(text, directory)
    if not path.exists():
        raise ModelfileError(f"no such file or directory: {path}")
    return path


def _named(paths: Sequence[Path]) -> dict[str, Path]:
    """Files by their name in the request: relative to the folder that holds all of them, with slashes."""
    files = [file for path in paths for file in model_files(path)]
    if not files:
        return {}
    folder = os.path.commonpath([os.path.dirname(file) for file in files])
    return {Path(os.path.relpath(file, folder)).as_posix(): file for file in files}
