"""Devices of all backends."""

import os
from pathlib import Path

import pytest

from ollamad.errors import JobFailed, JobTimedOut
from ollamad.jobs.job import Jobs
from ollamad.jobs.probe import Probed, probe
from ollamad.types import Device

HERE = Path(__file__).parent


@pytest.fixture
def jobs() -> Jobs:
    return Jobs({"PATH": os.environ["PATH"], "PYTHONPATH": str(HERE)})


def found(probed: tuple[Probed, ...], name: str) -> Probed:
    return next(one for one in probed if one.backend == name)


async def test_every_backend_is_asked(jobs: Jobs) -> None:
    """Devices come back typed; a backend that raises is listed with its error and stops no other."""
    probed = await probe(jobs, extra=["probe_backends:good", "probe_backends:raising", "probe_backends:broken"])
    assert found(probed, "good").devices == (Device("G0", "fake", "a good device", 10, 5),)
    assert found(probed, "raising") == Probed("raising", (), "RuntimeError: no driver")
    assert "broken" not in [one.backend for one in probed]


async def test_a_crash_while_probing_is_a_failure(jobs: Jobs) -> None:
    """A native library that ends the process costs the probe, nothing else."""
    with pytest.raises(JobFailed) as caught:
        await probe(jobs, extra=["probe_backends:crashing"])
    assert caught.value.crashed


async def test_a_hanging_driver_is_given_up(jobs: Jobs) -> None:
    """A probe has a time limit."""
    with pytest.raises(JobTimedOut):
        await probe(jobs, extra=["probe_backends:hanging"], timeout_s=2.0)
