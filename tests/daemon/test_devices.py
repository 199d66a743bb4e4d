"""The devices in the log."""

import logging

import pytest

from ollamad.daemon import devices
from ollamad.daemon.devices import binary_size, device_finder
from ollamad.jobs.job import Jobs
from ollamad.jobs.probe import Probed
from ollamad.types import Device


async def test_devices_know_their_backend(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """Every device names its backend; each is logged once; a backend that fails is told and passed over."""

    async def answer(*_: object, **__: object) -> tuple[Probed, ...]:
        cpu = Device("CPU", "cpu", "a processor", 3 << 30, 1 << 30)
        return Probed("one", (cpu,)), Probed("two", (), "no driver")

    monkeypatch.setattr(devices, "probe", answer)
    find = device_finder(Jobs({}), extra=(), disabled=(), gpu_overhead_bytes=0)
    with caplog.at_level(logging.INFO):
        (device,) = await find()
        await find()
    assert device.backend == "one"
    told = [record for record in caplog.records if record.message == "inference compute"]
    assert [record.total for record in told] == ["3.0 GiB"]  # type: ignore[attr-defined]
    (line,) = [record for record in caplog.records if record.message == "vram-based default context"]
    assert line.default_num_ctx == 4096  # type: ignore[attr-defined]
    assert any(getattr(record, "error", "") == "no driver" for record in caplog.records)


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 B"),
        (1, "1 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (1536, "1.5 KiB"),
        (1048575, "1024.0 KiB"),
        (1048576, "1.0 MiB"),
        (1572864, "1.5 MiB"),
        (1073741823, "1024.0 MiB"),
        (1073741824, "1.0 GiB"),
        (1610612736, "1.5 GiB"),
        (2147483648, "2.0 GiB"),
    ],
)
def test_sizes(size: int, text: str) -> None:
    """HC-01 to HC-12."""
    assert binary_size(size) == text
