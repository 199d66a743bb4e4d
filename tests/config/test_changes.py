"""What a new configuration needs."""

from pathlib import Path

import pytest

from ollamad.config.changes import Applied, NeedsReload, NeedsRestart, Outcome, apply
from ollamad.config.load import load
from ollamad.config.sections import Config


def config(tmp_path: Path, text: str) -> Config:
    path = tmp_path / "f.toml"
    path.write_text(text)
    return load(file=path, environ={"HOME": "/h"})


@pytest.mark.parametrize(
    ("text", "outcome"),
    [
        ("", Applied()),
        ("[scheduler]\nkeep_alive = '5m'\n", Applied()),
        ("[scheduler]\nkeep_alive = 1\n", Applied(("scheduler.keep_alive",))),
        ("[scheduler]\nkeep_alive = 1\n[runner]\nstep_ms = 9\n", NeedsReload(("runner.step_ms",))),
        ("[runner]\nstep_ms = 9\n[server]\nport = 9\n", NeedsRestart(("server.port",))),
        ("[models.a]\nkeep_alive = 1\n", NeedsReload(("models.a",), ("a",))),
        ("[models.a.parameters]\nnum_ctx = 1\n", NeedsReload(("models.a",), ("a",))),
        ("[plugins.mine]\nx = 1\n", NeedsRestart(("plugins.mine",))),
        ("[listeners.b]\nport = 1\n", NeedsRestart(("listeners.b.host", "listeners.b.port", "listeners.b.profile"))),
    ],
)
def test_the_strongest_need_is_told(tmp_path: Path, text: str, outcome: Outcome) -> None:
    """Equal values change nothing; else the strongest need and its keys come back, in both directions."""
    old, new = config(tmp_path, ""), config(tmp_path, text)
    assert apply(old, new) == outcome
    assert apply(new, old) == outcome
