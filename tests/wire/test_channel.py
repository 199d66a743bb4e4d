"""Messages over real sockets."""

import asyncio
import os
import socket
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator

import pytest

from ollamad.errors import VersionMismatch, WireError
from ollamad.wire.channel import MessageStream
from ollamad.wire.codec import encode
from ollamad.wire.framing import HEADER, LAST
from ollamad.wire.messages import (
    PROTOCOL_VERSION,
    Cancel,
    Delta,
    Done,
    Down,
    Generate,
    Hello,
    Ping,
    Pong,
    Submit,
    Up,
)
from ollamad.wire.socket_channel import SocketChannel


class Daemon:
    """The daemon's end with everything that it heard."""

    def __init__(self) -> None:
        self.batches: list[list[Up]] = []
        self.closed: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.stream = MessageStream(self._on_messages, self.closed.set_result)
        self._news = asyncio.Event()

    def _on_messages(self, messages: list[Up]) -> None:
        self.batches.append(messages)
        self._news.set()

    async def until(self, holds: Callable[[list[Up]], bool]) -> list[Up]:
        async with asyncio.timeout(5):
            while not holds(messages := [one for batch in self.batches for one in batch]):
                self._news.clear()
                await self._news.wait()
        return messages


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    yield ours, theirs
    ours.close()
    theirs.close()


@pytest.fixture
async def daemon(pair: tuple[socket.socket, socket.socket]) -> AsyncIterator[Daemon]:
    end = Daemon()
    await asyncio.get_running_loop().create_connection(lambda: end.stream, sock=pair[0])
    yield end
    end.stream.close()
    async with asyncio.timeout(5):
        await end.closed


@pytest.fixture
def child(pair: tuple[socket.socket, socket.socket]) -> Iterator[SocketChannel]:
    channel = SocketChannel(pair[1])
    yield channel
    channel.close()


def until(holds: Callable[[], bool]) -> None:
    """Wait in this thread, five seconds at most."""
    deadline = time.monotonic() + 5
    while not holds():
        assert time.monotonic() < deadline
        os.sched_yield()


def raw(message: Up | Down) -> bytes:
    payload = encode(message)
    return HEADER.pack(len(payload), LAST, 0) + payload


async def test_both_ends_greet_and_speak(daemon: Daemon, child: SocketChannel) -> None:
    """After the handshake messages go both ways; the child sees None when the daemon closes."""
    assert await asyncio.to_thread(child.handshake, 42) == Hello(PROTOCOL_VERSION)
    daemon.stream.send(Ping(7))
    assert await asyncio.to_thread(child.receive) == Ping(7)
    child.send_all([Pong(7), Delta("a", "x")])
    assert await daemon.until(lambda heard: len(heard) == 2) == [Pong(7), Delta("a", "x")]
    daemon.stream.close()
    assert await asyncio.to_thread(child.receive) is None


async def test_messages_of_one_write_come_in_one_call(daemon: Daemon, child: SocketChannel) -> None:
    """The deltas of a step wake the daemon once."""
    child.send_all([Hello(PROTOCOL_VERSION), *(Delta(str(number), "x") for number in range(8))])
    await daemon.until(lambda heard: len(heard) == 8)
    assert len(daemon.batches) == 1


async def test_a_cancel_overtakes_a_large_submit(daemon: Daemon, child: SocketChannel) -> None:
    """While a prompt of many pieces is written, a cancel of another request goes in front."""
    daemon.stream.send(Submit("large", Generate("x" * (8 * 1024 * 1024))))
    daemon.stream.send(Cancel("other"))
    assert daemon.stream.unsent_bytes > 0
    received = await asyncio.to_thread(lambda: [child.receive() for _ in range(3)])
    assert [type(one) for one in received] == [Hello, Cancel, Submit]


async def test_a_submit_that_has_not_left_is_taken_back(daemon: Daemon, child: SocketChannel) -> None:
    """A cancel of a request whose prompt is still being written drops the prompt instead."""
    daemon.stream.send(Submit("large", Generate("x" * (8 * 1024 * 1024))))
    daemon.stream.send(Cancel("large"))
    daemon.stream.send(Ping(1))
    received = await asyncio.to_thread(lambda: [child.receive() for _ in range(2)])
    assert received == [Hello(PROTOCOL_VERSION), Ping(1)]
    assert daemon.stream.unsent_bytes == 0


async def test_a_pong_overtakes_large_vectors(daemon: Daemon, child: SocketChannel) -> None:
    """A child that sends a large answer still shows that it lives."""
    child.send(Hello(PROTOCOL_VERSION))
    large = Done("a", vectors=(os.urandom(6 * 1024 * 1024),))
    writer = threading.Thread(target=child.send, args=(large,))
    writer.start()
    until(lambda: bool(child._queue))  # the loop is held, so nobody reads meanwhile
    child.send(Pong(1))
    heard = await daemon.until(lambda heard: len(heard) == 2)
    writer.join(5)
    assert heard == [Pong(1), large]


async def test_threads_may_send_at_once(daemon: Daemon, child: SocketChannel) -> None:
    """What several threads send arrives whole, each thread's in its order."""
    child.send(Hello(PROTOCOL_VERSION))

    def send(lane: str) -> None:
        for number in range(200):
            child.send(Delta(lane, str(number)))

    threads = [threading.Thread(target=send, args=(lane,)) for lane in "abcd"]
    for thread in threads:
        thread.start()
    heard = await daemon.until(lambda heard: len(heard) == 800)
    for thread in threads:
        thread.join(5)
    for lane in "abcd":
        texts = [one.text for one in heard if isinstance(one, Delta) and one.request_id == lane]
        assert texts == [str(number) for number in range(200)]


async def test_the_daemon_refuses_another_version(daemon: Daemon, pair: tuple[socket.socket, socket.socket]) -> None:
    """A child of another release ends the connection with both versions in the reason."""
    pair[1].sendall(raw(Hello(PROTOCOL_VERSION + 1)))
    async with asyncio.timeout(5):
        assert f"version {PROTOCOL_VERSION + 1} " in await asyncio.shield(daemon.closed)


async def test_the_daemon_refuses_a_child_that_does_not_greet(
    daemon: Daemon, pair: tuple[socket.socket, socket.socket]
) -> None:
    """A first message that is no Hello ends the connection."""
    pair[1].sendall(raw(Pong(1)))
    async with asyncio.timeout(5):
        assert "did not begin with Hello" in await asyncio.shield(daemon.closed)


@pytest.mark.parametrize("garbage", [b"\xff" * 64, b"GET / HTTP/1.1\r\n\r\n", raw(Ping(1))], ids=["ff", "http", "down"])
async def test_garbage_ends_the_connection(
    daemon: Daemon, pair: tuple[socket.socket, socket.socket], garbage: bytes
) -> None:
    """Bytes that are no messages close the connection with a reason; what came before was heard."""
    pair[1].sendall(raw(Hello(PROTOCOL_VERSION)) + raw(Pong(1)))
    await daemon.until(lambda heard: len(heard) == 1)
    pair[1].sendall(garbage)
    async with asyncio.timeout(5):
        assert "of ours" in await asyncio.shield(daemon.closed) or "unknown name" in daemon.closed.result()
    daemon.stream.send(Ping(2))


async def test_a_closed_child_is_no_error(daemon: Daemon, child: SocketChannel) -> None:
    """A child that closes leaves the reason empty."""
    child.close()
    async with asyncio.timeout(5):
        assert await asyncio.shield(daemon.closed) == ""


def test_a_child_refuses_another_version(pair: tuple[socket.socket, socket.socket]) -> None:
    """The child's handshake raises for another version, and for a daemon that closes."""
    pair[0].sendall(raw(Hello(PROTOCOL_VERSION + 1)))
    with pytest.raises(VersionMismatch):
        SocketChannel(pair[1]).handshake()
    pair[0].close()
    with pytest.raises(WireError, match="closed before"):
        SocketChannel(pair[1]).handshake()


def test_a_child_refuses_garbage(pair: tuple[socket.socket, socket.socket]) -> None:
    """The child's receive raises for bytes that are no message down."""
    pair[0].sendall(raw(Pong(1)))
    with pytest.raises(WireError):
        SocketChannel(pair[1]).receive()


def test_a_send_to_nobody_is_told(pair: tuple[socket.socket, socket.socket]) -> None:
    """When the daemon is gone, every send raises ConnectionError."""
    channel = SocketChannel(pair[1])
    pair[0].close()
    for _ in range(3):
        with pytest.raises(ConnectionError):
            channel.send(Pong(1))
    assert channel.receive() is None


async def test_messages_go_together_or_not_at_all(
    daemon: Daemon, child: SocketChannel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One message over the size limit keeps those beside it from being sent, so that a caller may send them again."""
    monkeypatch.setattr(child._queue, "_max_bytes", 1000)
    child.send(Hello(PROTOCOL_VERSION))
    with pytest.raises(WireError, match="over the limit"):
        child.send_all([Pong(1), Done("a", text="x" * 1000), Pong(2)])
    child.send_all([Pong(1), Pong(2)])
    assert await daemon.until(lambda heard: len(heard) >= 2) == [Pong(1), Pong(2)]


def test_a_sender_waits_for_a_stopped_daemon(pair: tuple[socket.socket, socket.socket]) -> None:
    """More than the limit of unsent bytes holds a sender back, until the daemon reads again or is gone."""
    channel = SocketChannel(pair[1])
    large = Done("a", text="x" * (5 * 1024 * 1024))
    ended: list[ConnectionError] = []

    def send() -> None:
        try:
            while True:
                channel.send(large)
        except ConnectionError as error:
            ended.append(error)

    threads = [threading.Thread(target=send) for _ in range(2)]
    for thread in threads:
        thread.start()
    until(lambda: channel._queue.size_bytes >= 8 * 1024 * 1024)
    assert channel._queue.size_bytes < 16 * 1024 * 1024
    pair[0].close()
    for thread in threads:
        thread.join(5)
    assert len(ended) == 2
