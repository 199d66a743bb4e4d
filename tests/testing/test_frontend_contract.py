"""The frontend contract finds each broken rule, and nothing else."""

from __future__ import annotations

import os
from collections import defaultdict
from pathlib import Path

import pytest

from ollamad.testing.frontend_contract import FrontendContract

BROKEN = Path(__file__).with_name("broken_frontends.py")


class Collector:
    """A pytest plugin that remembers what each class ran and what failed."""

    def __init__(self) -> None:
        self.ran: dict[str, set[str]] = defaultdict(set)
        self.failed: dict[str, set[str]] = defaultdict(set)
        self.breaks: dict[str, str] = {}

    def pytest_collection_modifyitems(self, items: list[pytest.Function]) -> None:
        for item in items:
            assert item.cls is not None
            self.breaks[item.cls.__name__] = item.cls.breaks

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        name, test = report.nodeid.split("::")[-2:]
        self.ran[name].add(test)
        if report.failed:
            self.failed[name].add(test if report.when == "call" else f"{report.when} of {test}")


@pytest.fixture(scope="module")
def results() -> Collector:
    collector = Collector()
    arguments = [str(BROKEN), "-c", os.devnull, "--rootdir", str(BROKEN.parent), "--import-mode=importlib", "-q"]
    pytest.main([*arguments, "--tb=short", "-p", "no:cacheprovider", "-p", "no:asyncio"], plugins=[collector])
    return collector


def rules(contract: type) -> set[str]:
    return {name for name in vars(contract) if name.startswith("test_")}


def test_exactly_the_broken_rule_fails(results: Collector) -> None:
    """A fake that breaks one rule fails in that rule's test and in no other."""
    expected = {name: {rule} if rule else set() for name, rule in results.breaks.items()}
    assert {name: results.failed[name] for name in expected} == expected


def test_every_rule_has_a_fake_that_breaks_it(results: Collector) -> None:
    """No rule stands in the contract that was never seen to fail."""
    assert rules(FrontendContract) <= set(results.breaks.values())
