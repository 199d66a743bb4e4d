"""Messages leave in order, and the one that puts them never waits."""

from __future__ import annotations

import socket

from ollamad.errors import WireError
from ollamad.runner_child.outbox import Outbox
from ollamad.wire.codec import decode
from ollamad.wire.framing import FrameDecoder
from ollamad.wire.messages import Delta, Done, Failed, Up
from ollamad.wire.socket_channel import SocketChannel


def received(sock: socket.socket, count: int) -> list[Up]:
    decoder = FrameDecoder()
    messages: list[Up] = []
    while len(messages) < count:
        messages += [decode(payload, down=False) for payload in decoder.feed(sock.recv(65536))]  # type: ignore[misc]
    return messages


def test_messages_keep_their_order() -> None:
    """What was put first leaves first, and close writes what is left."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        outbox = Outbox(SocketChannel(theirs))
        sent: list[Up] = [Delta("a", str(number)) for number in range(100)]
        sent.append(Done("a"))
        for message in sent:
            outbox.put(message)
        outbox.close()
        assert received(ours, len(sent)) == sent


def test_putting_never_waits() -> None:
    """Megabytes can be put although nobody reads, and arrive when somebody does."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        outbox = Outbox(SocketChannel(theirs))
        text = "x" * 50_000
        for _ in range(400):
            outbox.put(Delta("a", text))
        assert len(received(ours, 400)) == 400
        outbox.close()


class SmallChannel(SocketChannel):
    """A channel that takes no vectors."""

    def send(self, message: Up) -> None:
        if isinstance(message, Done) and message.vectors:
            raise WireError("over the limit")
        super().send(message)


def test_an_answer_over_the_limit_fails_alone() -> None:
    """Its request gets a failure, the next message goes through."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        outbox = Outbox(SmallChannel(theirs))
        outbox.put(Done("big", vectors=(b"x",)))
        outbox.put(Done("small"))
        assert received(ours, 2) == [Failed("big", "internal", "over the limit"), Done("small")]
        outbox.close()
