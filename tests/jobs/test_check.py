"""Whether a file opens."""

import os
from pathlib import Path

import pytest

from ollamad.errors import JobFailed
from ollamad.jobs.check import Checked, check
from ollamad.jobs.job import Jobs

HERE = Path(__file__).parent


@pytest.fixture
def jobs() -> Jobs:
    return Jobs({"PATH": os.environ["PATH"], "PYTHONPATH": str(HERE)})


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "model.gguf"
    path.write_bytes(b"GGUF")
    return path


@pytest.mark.parametrize(
    ("backend", "expected"),
    [
        ("good", Checked(True)),
        ("rejecting", Checked(False, "bad magic in model.gguf")),
        ("crashing", Checked(False, "GGML_ASSERT(n_tensors > 0) failed")),
        ("segfaulting", Checked(False, "signal: segmentation fault")),
        ("hanging", Checked(False, "not opened within 1.5 s")),
    ],
)
async def test_a_file_is_opened_or_rejected(jobs: Jobs, model: Path, backend: str, expected: Checked) -> None:
    """A file that the backend refuses, or that ends or holds up its process, is rejected with the reason."""
    extra = [f"probe_backends:{backend}"]
    assert await check(jobs, [model], backend=backend, extra=extra, timeout_s=1.5) == expected


async def test_a_check_that_cannot_be_made_is_no_verdict(jobs: Jobs, model: Path) -> None:
    """No memory, or no such backend, is a failure of the check and says nothing about the file."""
    with pytest.raises(JobFailed, match="needs 9 GiB"):
        await check(jobs, [model], backend="raising", extra=["probe_backends:raising"])
    with pytest.raises(JobFailed, match="no plugin offers this backend"):
        await check(jobs, [model], backend="nobody")
