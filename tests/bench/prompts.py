"""Prompts of an exact length in tokens: each word with its leading space is one token of Qwen2's vocabulary."""

from __future__ import annotations

import random

_WORDS = (
    "time year people way day man thing woman life child world school state family student group country problem",
    "hand part place case week company system program question work government number night point home water room",
    "mother area money story fact month lot right study book eye job word business issue side kind head house",
    "service friend father power hour game line end member law car city community name president team minute idea",
    "kid body information back parent face others level office door health person art war history party result",
    "change morning reason research girl guy moment air teacher force education",
)


def prompt(tokens: int, seed: object) -> str:
    """Return *tokens* words; another *seed* differs from the first word on (nearly always)."""
    chosen = random.Random(repr(seed)).choices(" ".join(_WORDS).split(), k=tokens)
    return "".join(f" {word}" for word in chosen)
