"""From errors to answers."""

import pytest
from ollamad_ollama_api.errors import Missing, Words, status_of, text_of, translate

from ollamad.plugin import (
    BlobNotFound,
    BodyTooLarge,
    CapabilityMissing,
    CloudDisabled,
    CreateFailed,
    DigestMismatch,
    ModelNotFound,
    RunnerFailed,
    StoreError,
    Unsupported,
)

FULL = "registry.ollama.ai/library/m:latest"


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (BodyTooLarge(), 413),
        (BlobNotFound("sha256:1"), 404),
        (CloudDisabled(), 403),
        (DigestMismatch("a", "b"), 400),
        (Unsupported("x"), 400),
        (CapabilityMissing(FULL, "m", ("tools",)), 400),
        (RunnerFailed("x", "invalid"), 400),
        (RunnerFailed("x", "internal"), 500),
        (CreateFailed("x"), 500),
        (StoreError("x"), 500),
    ],
)
def test_statuses(error: Exception, status: int) -> None:
    """Who is at fault decides the status."""
    assert status_of(error) == status


def test_our_own_mistakes_are_raised() -> None:
    """What no room raises on purpose is no answer."""
    with pytest.raises(KeyError):
        translate(KeyError("x"))


@pytest.mark.parametrize(
    ("missing", "text"),
    [
        ("requested", "model 'A' not found"),
        ("short", "model 'a:latest' not found"),
        ("pull", 'model "A" not found, try pulling it first'),
        ("copy", 'model "A" not found'),
    ],
)
def test_names_that_are_not_there(missing: Missing, text: str) -> None:
    """Each route has its own words for a model that is not there."""
    assert text_of(ModelNotFound("A", "a:latest"), Words(missing=missing)) == text


def test_missing_capabilities() -> None:
    """Several are told line by line; a missing completion is told with the route's verb."""
    assert text_of(CapabilityMissing(FULL, "m", ("tools", "insert"))) == (
        f"{FULL} does not support tools\n{FULL} does not support insert"
    )
    assert text_of(CapabilityMissing(FULL, "m", ("completion",)), Words(verb="chat")) == '"m" does not support chat'
