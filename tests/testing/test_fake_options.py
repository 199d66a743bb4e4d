"""Where a fake's options come from."""

from __future__ import annotations

from typing import Any

import pytest

from ollamad.testing.fake_options import FakeOptions


@pytest.mark.parametrize(
    ("values", "prefix"),
    [
        ({"fake.wide": True, "fake.n_ctx": 5, "fake.gate_dir": "/x"}, "fake."),
        ({"FAKE_WIDE": "true", "FAKE_N_CTX": "5", "FAKE_GATE_DIR": "/x", "OTHER": "1"}, "FAKE_"),
    ],
)
def test_each_field_has_a_key(values: dict[str, Any], prefix: str) -> None:
    """Metadata and environment name the same fields, and what they do not name stays."""
    expected = FakeOptions(wide=True, n_ctx=5, gate_dir="/x", seed=3)
    assert FakeOptions(seed=3).with_values(values, prefix) == expected
