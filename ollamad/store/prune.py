"""What a start does to an old store: repair the names of blobs, remove what nothing refers to."""

from __future__ import annotations

import os
from collections.abc import Set
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from ollamad.store.blobs import Blobs
from ollamad.store.paths import digest_of_file_name, disk_errors, is_digest

_OLD_PREFIX = "sha256:"


@dataclass(frozen=True, slots=True)
class Pruned:
    """What a prune did. ``skipped`` says why it did nothing, "" if it ran."""

    blobs: int = 0
    temporary: int = 0
    skipped: str = ""


def repair_names(directory: Path) -> int:
    """Rename files called ``sha256:…`` to ``sha256-…``, also in directories below; return how many."""
    renamed = 0
    with disk_errors("blob names"):
        for folder, _, files in os.walk(directory):
            for file in files:
                if file.startswith(_OLD_PREFIX):
                    target = file.replace(":", "-", 1)
                    os.replace(os.path.join(folder, file), os.path.join(folder, target))
                    renamed += 1
    return renamed


def prune_blobs(blobs: Blobs, referenced: Set[str], older_than: float) -> Pruned:
    """Remove files of before *older_than* (Unix time) that are no blobs, and blobs not in *referenced* (file names)."""
    removed = temporary = 0
    with disk_errors("blobs"):
        for name in _old_files(blobs.directory, older_than):
            digest = digest_of_file_name(name)
            if digest is None:
                (blobs.directory / name).unlink(missing_ok=True)
                temporary += 1
            elif name not in referenced and blobs.remove(digest):
                removed += 1
    return Pruned(removed, temporary)


def _old_files(directory: Path, older_than: float) -> list[str]:
    old = []
    # Another server may remove files, or the whole directory, while we look.
    with suppress(FileNotFoundError), os.scandir(directory) as entries:
        for entry in entries:
            with suppress(FileNotFoundError):
                if not entry.is_dir() and entry.stat(follow_symlinks=False).st_mtime < older_than:
                    old.append(entry.name)
    return old


def file_names(digests: Set[str]) -> set[str]:
    """The names of the files that *digests* keep alive; what is no digest keeps none."""
    return {digest.replace(":", "-") for digest in digests if is_digest(digest)}
