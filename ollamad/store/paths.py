"""Where things lie below the store's root, and how disk errors are told without a path."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ollamad.errors import InvalidRequest, StoreError

DIGEST = re.compile(r"sha256[:-][0-9a-fA-F]{64}")
FILE_MODE = 0o644
DIRECTORY_MODE = 0o755

#: Ollama deletes foreign names from ``blobs/`` after an hour, so a temporary file needs no other mark.
TEMPORARY_PREFIX = "sha256-"


def is_digest(text: str) -> bool:
    """Tell whether *text* is ``sha256:`` or ``sha256-`` and 64 hex digits."""
    return DIGEST.fullmatch(text) is not None


def blob_file_name(digest: str) -> str:
    """Return the file's name of a blob; letter case is kept.

    Raises:
        InvalidRequest: ``invalid digest format``.
    """
    if not is_digest(digest):
        raise InvalidRequest("invalid digest format", field="digest")
    return digest.replace(":", "-")


def digest_of_file_name(file_name: str) -> str | None:
    """Return the digest that a file of ``blobs/`` is named after, None for temporary and foreign files."""
    return file_name.replace("-", ":", 1) if is_digest(file_name) else None


@contextmanager
def disk_errors(action: str) -> Iterator[None]:
    """Turn an `OSError` inside into a `StoreError` that says what failed and why, but not where."""
    try:
        yield
    except OSError as error:
        raise StoreError(f"{action}: {reason(error)}") from error


def reason(error: OSError) -> str:
    """Return the system's words for *error*, in lower case like Ollama's."""
    return os.strerror(error.errno).lower() if error.errno else "input/output error"


def make_directory(path: Path) -> None:
    """Create *path* and its parents.

    Raises:
        StoreError: The system's words and ``ensure path elements are traversable``.
    """
    try:
        path.mkdir(mode=DIRECTORY_MODE, parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(f"{reason(error)}: ensure path elements are traversable") from error


def sync_directory(path: Path) -> None:
    """Make a rename inside *path* survive a power cut, where the file system can."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        # Some network and overlay file systems refuse to sync a directory; the rename itself holds.
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(descriptor)
