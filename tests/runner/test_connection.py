"""Requests to a runner: their events, their end, and the runner's."""

import asyncio
import contextlib
import logging
import os
import signal
import time
from typing import Any

import pytest

from ollamad.errors import RunnerDied, RunnerFailed, WireError
from ollamad.runner.stream import Limits
from ollamad.wire.messages import Delta, Done, Generate

SMALL = Limits(merge_bytes=16 * 1024, pause_bytes=64 * 1024, give_up_bytes=1024 * 1024, patience_s=0.6)


async def events_of(stream: Any) -> list[Delta | Done]:
    return [event async for event in stream]


def text_of(events: list[Delta | Done]) -> str:
    return "".join(event.text for event in events if isinstance(event, Delta))


def expected(request_id: str, count: int) -> str:
    return "".join(f"{request_id}/{number} " for number in range(count))


async def test_a_request_gets_its_deltas_and_one_done(hosts: Any, submit: Any) -> None:
    """A stream yields what the runner sent, in order, then Done, then ends."""
    connection = await hosts.start()
    events = await events_of(submit(connection, "count:3"))
    assert events[:3] == [Delta("r1", f"r1/{number} ") for number in range(3)]
    assert isinstance(events[3], Done)
    assert connection.running == 0


async def test_a_thousand_requests_never_mix(hosts: Any, submit: Any) -> None:
    """A thousand requests at once each get their own text."""
    connection = await hosts.start()
    streams = [submit(connection, "count:5", f"r{number}") for number in range(1000)]
    for number, stream in enumerate(streams):
        assert text_of(await events_of(stream)) == expected(f"r{number}", 5)
    assert connection.running == 0


async def test_a_failed_request_harms_no_other(hosts: Any, submit: Any) -> None:
    """A task that the runner refuses raises its kind and text; the connection goes on."""
    connection = await hosts.start()
    with pytest.raises(RunnerFailed, match=r"^the prompt is long$") as caught:
        await events_of(submit(connection, "fail:the prompt is long"))
    assert caught.value.kind == "too_long"
    assert text_of(await events_of(submit(connection, "count:1"))) == "r1/0 "


async def test_closing_a_stream_cancels_and_drops_what_is_late(hosts: Any, submit: Any) -> None:
    """After aclose the runner is told, nothing more is delivered, and a second aclose does nothing."""
    connection = await hosts.start()
    stream = submit(connection, "hang")
    await stream.aclose()
    await stream.aclose()
    assert connection.running == 0
    await hosts_until_cancelled(connection, 1)
    assert await events_of(stream) == []


async def hosts_until_cancelled(connection: Any, count: int) -> None:
    async with asyncio.timeout(5):
        while (await connection.ping()).waiting < count:
            pass


async def test_closing_wakes_the_reader(hosts: Any, submit: Any) -> None:
    """A reader that waits while its stream is closed ends without an error."""
    connection = await hosts.start()
    stream = submit(connection, "hang")
    reader = asyncio.get_running_loop().create_task(events_of(stream))
    await connection.ping()
    await stream.aclose()
    assert await reader == []


async def test_closing_an_ended_stream_sends_nothing(hosts: Any, submit: Any) -> None:
    """A request that is done is not cancelled."""
    connection = await hosts.start()
    stream = submit(connection, "count:1")
    await events_of(stream)
    await stream.aclose()
    assert (await connection.ping()).waiting == 0


async def test_a_submit_over_the_size_limit_is_refused(
    hosts: Any, submit: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A task that no reader would take raises and leaves no stream behind."""
    connection = await hosts.start()
    monkeypatch.setattr(connection.wire._queue, "_max_bytes", 1000)
    with pytest.raises(WireError, match="over the limit"):
        submit(connection, "x" * 2000)
    assert connection.running == 0


async def test_large_prompts_arrive(hosts: Any) -> None:
    """A prompt of many pieces is one task on the other side."""
    connection = await hosts.start()
    stream = connection.submit("big", Generate("fail:" + "p" * 300_000))
    with pytest.raises(RunnerFailed) as caught:
        await events_of(stream)
    assert str(caught.value) == "p" * 300_000


@pytest.mark.parametrize(
    ("prompt", "detail"),
    [
        ("exit:9", "exit status 9: GGML_ASSERT(ggml.c:77: x > 0) failed"),
        ("exit", "OK"),
        ("kill", "signal: killed"),
        ("garbage", "no frame of ours: length 4294967295, flags 255"),
    ],
)
async def test_a_dying_runner_fails_its_own_requests(
    hosts: Any, submit: Any, caplog: pytest.LogCaptureFixture, prompt: str, detail: str
) -> None:
    """Every open stream gets what was sent, then RunnerDied with how it ended; the child is reaped and logged."""
    connection, neighbour = await hosts.start(), await hosts.start()
    other = submit(neighbour, "hang", "other")
    waiting = submit(connection, "hang", "waiting")
    stream = submit(connection, prompt)
    assert await anext(stream) == Delta("r1", "last")
    for one in (stream, waiting):
        with pytest.raises(RunnerDied, match=r"^model runner has unexpectedly stopped") as caught:
            await anext(one)
        assert caught.value.detail == detail
    assert connection.closed.is_set()
    assert connection.reason == detail
    assert len(hosts.children()) == 1
    with pytest.raises(RunnerDied):
        submit(connection, "count:1", "late")
    with pytest.raises(RunnerDied):
        await connection.ping()
    record = next(record for record in caplog.records if record.message == "llama-server terminated")
    assert (record.levelno, record.error) == (logging.ERROR, detail)
    assert neighbour.running == 1
    await other.aclose()


async def test_a_stopped_runner_is_taken_for_hung(hosts: Any, submit: Any) -> None:
    """SIGSTOP of a runner with requests ends in RunnerDied once its silent times are used up."""
    connection = await hosts.start(beat_s=0.15)
    stream = submit(connection, "stop")
    assert await anext(stream) == Delta("r1", "last")
    with pytest.raises(RunnerDied, match=r"it gave no sign of life$"):
        await anext(stream)
    assert hosts.children() == []


async def test_a_long_silence_with_pongs_is_no_hang(hosts: Any, submit: Any) -> None:
    """A runner that answers pings may take as long as it likes over a prompt."""
    connection = await hosts.start(beat_s=0.1)
    stream = submit(connection, "hang")
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.9):
            await anext(stream)
    assert not connection.closed.is_set()
    await stream.aclose()
    await hosts.until(lambda: connection._beat is None)


async def test_a_ping_to_a_stopped_runner_times_out(hosts: Any) -> None:
    """A ping has a time limit of its own."""
    connection = await hosts.start()
    (pid,) = hosts.children()
    os.kill(pid, signal.SIGSTOP)
    with pytest.raises(TimeoutError):
        await connection.ping(0.05)
    os.kill(pid, signal.SIGCONT)
    await connection.ping()


async def test_a_waiting_ping_learns_of_the_end(hosts: Any) -> None:
    """A ping that waits while the runner dies raises RunnerDied."""
    connection = await hosts.start()
    (pid,) = hosts.children()
    os.kill(pid, signal.SIGSTOP)
    ping = asyncio.get_running_loop().create_task(connection.ping())
    await asyncio.to_thread(os.sched_yield)
    os.kill(pid, signal.SIGKILL)
    with pytest.raises(RunnerDied, match="signal: killed"):
        await ping


async def test_stop_lets_a_runner_go(hosts: Any, submit: Any, caplog: pytest.LogCaptureFixture) -> None:
    """A graceful stop ends the child with its own exit; open streams fail; nothing is logged as a death."""
    connection = await hosts.start()
    stream = submit(connection, "hang")
    await connection.stop(5.0)
    await connection.stop()
    with pytest.raises(RunnerDied):
        await anext(stream)
    assert connection.reason == "stopped"
    assert hosts.children() == []
    assert not caplog.records


@pytest.mark.parametrize("grace_s", [0.0, 0.1])
async def test_stop_kills_a_runner_that_does_not_listen(hosts: Any, grace_s: float) -> None:
    """A stopped process is killed when the grace is over."""
    connection = await hosts.start()
    (pid,) = hosts.children()
    os.kill(pid, signal.SIGSTOP)
    started = time.monotonic()
    await connection.stop(grace_s)
    assert time.monotonic() - started < grace_s + 1
    assert hosts.children() == []


async def test_a_cancelled_stop_goes_on(hosts: Any) -> None:
    """The child is killed after the grace even if nobody waits any more."""
    connection = await hosts.start()
    (pid,) = hosts.children()
    os.kill(pid, signal.SIGSTOP)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await connection.stop(0.1)
    async with asyncio.timeout(2):
        await connection.closed.wait()
    assert hosts.children() == []


async def test_a_slow_reader_gets_every_character(hosts: Any, submit: Any) -> None:
    """Deltas are merged and the runner paused while nobody reads; then all of the text is there, and Done."""
    connection = await hosts.start(limits=SMALL)
    stream = submit(connection, "flood:300")
    await hosts.until(lambda: stream.paused)
    while (await connection.ping()).running != 1:
        pass
    assert stream.pending_bytes < SMALL.give_up_bytes
    events = await events_of(stream)
    assert text_of(events) == "f" * 1024 * 300
    assert isinstance(events[-1], Done)
    assert len(events) < 290
    async with asyncio.timeout(10):  # the last `Pause` may still be on its way when `Done` is here
        while (await connection.ping()).running != 0:
            pass
    assert stream.pending_bytes == 0


async def test_a_reader_that_stops_loses_its_request(hosts: Any, submit: Any, caplog: pytest.LogCaptureFixture) -> None:
    """Paused without progress for the whole patience: cancelled, logged, and the reader is told; others go on."""
    connection = await hosts.start(limits=SMALL)
    stream = submit(connection, "flood")
    await hosts.until(lambda: bool(caplog.records))
    assert caplog.records[0].message == "request cancelled: its client does not read"
    assert stream.pending_bytes == 0
    with pytest.raises(RunnerFailed) as caught:
        await anext(stream)
    assert caught.value.kind == "slow_reader"
    await hosts_until_cancelled(connection, 1)
    assert text_of(await events_of(submit(connection, "count:2", "r2"))) == expected("r2", 2)


async def test_a_slow_reader_that_reads_keeps_its_request(hosts: Any, submit: Any) -> None:
    """A reader that takes something now and then is slow, not gone."""
    connection = await hosts.start(limits=SMALL)
    stream = submit(connection, "flood")
    await hosts.until(lambda: stream.paused)
    deadline = time.monotonic() + 2 * SMALL.patience_s
    while time.monotonic() < deadline:
        assert isinstance(await anext(stream), Delta)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0.1):
                await connection.closed.wait()
    await stream.aclose()


async def test_a_runner_that_ignores_a_pause_cannot_fill_the_daemon(
    hosts: Any, submit: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """Pending bytes have a hard limit whatever the runner does."""
    connection = await hosts.start(limits=Limits(16 * 1024, 64 * 1024, 256 * 1024, 30.0))
    stream = submit(connection, "deaf")
    await hosts.until(lambda: bool(caplog.records))
    with pytest.raises(RunnerFailed):
        await anext(stream)
    assert text_of(await events_of(submit(connection, "count:2", "r2"))) == expected("r2", 2)
