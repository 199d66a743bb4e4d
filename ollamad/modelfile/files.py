"""Which files of a path belong to a model, told by name pattern and first bytes.

Source: models contract 4.5, appendix E9 and E10.
"""

from __future__ import annotations

import os
import pwd
from collections.abc import Iterable
from pathlib import Path

from ollamad.modelfile.text import ModelfileError

#: The first group that matches anything is the model; the type is what its files must sniff as.
_WEIGHTS: tuple[tuple[tuple[str, ...], str], ...] = (
    (("model*.safetensors", "*/model*.safetensors"), ""),
    (("consolidated*.safetensors",), ""),
    (("pytorch_model*.bin",), "application/zip"),
    (("consolidated*.pth",), "application/zip"),
    (("*.gguf",), "application/octet-stream"),
    (("*.bin",), "application/octet-stream"),
)
_BINARY = frozenset([*range(0x09), 0x0B, *range(0x0E, 0x1B), *range(0x1C, 0x20)])


def expand_path(text: str, directory: Path) -> Path:
    """An absolute, clean path: ``~`` and ``~user`` are homes, all else starts at *directory*.

    Raises:
        ModelfileError: No such user.
    """
    if text.startswith("~"):
        user, _, rest = text[1:].partition("/")
        text = os.path.join(_home(user), rest)
    return Path(os.path.abspath(os.path.join(directory, text)))


def model_files(path: Path) -> list[Path]:
    """The files that *path* stands for: itself, or the parts of the model in a folder.

    Raises:
        ModelfileError: No model here, a file of another type than its name says, or a link that leaves the folder.
    """
    if not path.is_dir():
        return [path]
    found = _weights(path)
    found += _matches(path, ("*.json", "*/*.json", "chat_template.jinja"), "text/plain")
    tokenizer = _matches(path, ("tokenizer.model",), "application/octet-stream")
    found += tokenizer or _matches(path, ("*/tokenizer.model",), "application/octet-stream")
    return list(dict.fromkeys(found))


def sniff(head: bytes) -> str:
    """The type of a file by its first 512 bytes, as far as models need it. Source: WHATWG MIME Sniffing, 7.1."""
    if head.startswith(b"PK\x03\x04"):
        return "application/zip"
    for mark, found in ((b"\x1f\x8b\x08", "application/x-gzip"), (b"%PDF-", "application/pdf")):
        if head.startswith(mark):
            return found
    if head.startswith((b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff")) or not _BINARY.intersection(head[:512]):
        return "text/plain"
    return "application/octet-stream"


def _home(user: str) -> str:
    if not user:
        return os.path.expanduser("~")
    try:
        return pwd.getpwnam(user).pw_dir
    except KeyError:
        raise ModelfileError(f"failed to find user '{user}': user: unknown user {user}") from None


def _weights(folder: Path) -> list[Path]:
    for patterns, kind in _WEIGHTS:
        if found := _matches(folder, patterns, kind):
            return found
    raise ModelfileError("no Modelfile or safetensors files found")


def _matches(folder: Path, patterns: Iterable[str], kind: str) -> list[Path]:
    found = [file for pattern in patterns for file in sorted(folder.glob(pattern)) if file.is_file()]
    for file in found:
        _check_inside(file, folder)
        with file.open("rb") as opened:
            seen = sniff(opened.read(512))
        if kind and seen != kind:
            raise ModelfileError(f"invalid content type: expected {seen} for {file}")
    return found


def _check_inside(file: Path, folder: Path) -> None:
    target = file.resolve()
    if not target.is_relative_to(folder.resolve()):
        hint = (
            ": this model may be in a cache folder of links; copy it with links followed"
            if ".cache" in str(target)
            else ""
        )
        raise ModelfileError(f"insecure path: {os.path.relpath(target, folder)}{hint}")
