"""Removing what nothing refers to any more."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Pruned:
    """What a prune did. ``skipped`` says why it did nothing, "" if it ran."""

    blobs: int = 0
    temporary: int = 0
    skipped: str = ""
