"""What a test needs of the machine stands in a mark; a test whose need is not met is deselected and counted."""

import os
import shutil

import pytest


def unmet(item: pytest.Item) -> bool:
    """Whether *item* needs root, or a program of a Debian package (``apt("curl")``), that is missing here."""
    if item.get_closest_marker("root") and os.geteuid() != 0:
        return True
    return any(shutil.which(str(mark.args[0])) is None for mark in item.iter_markers("apt"))


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Deselect what cannot run here: pytest's last line says how many."""
    left_out = [item for item in items if unmet(item)]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]
