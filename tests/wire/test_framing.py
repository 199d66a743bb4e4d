"""Frames, pieces and lanes."""

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ollamad.errors import WireError
from ollamad.wire.framing import ABORT, HEADER, LAST, PIECE_BYTES, FrameDecoder, PieceQueue


def drain(queue: PieceQueue) -> list[bytes]:
    frames = []
    while (data := queue.pop()) is not None:
        frames.append(data)
    assert queue.size_bytes == 0
    return frames


def feed(decoder: FrameDecoder, data: bytes) -> list[bytes]:
    return list(decoder.feed(data))


def payloads_of(frames: list[bytes]) -> list[bytes]:
    return feed(FrameDecoder(), b"".join(frames))


@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.integers(1, 3 * PIECE_BYTES)), max_size=6),
    st.lists(st.integers(0, 1_000_000), max_size=12),
)
@settings(max_examples=60, deadline=None)
def test_payloads_arrive_whole_and_in_order_of_their_lane(sent: list[tuple[str, int]], cuts: list[int]) -> None:
    """However the stream is cut, each lane's payloads arrive whole and in order."""
    queue = PieceQueue()
    expected: dict[str, list[bytes]] = {}
    for number, (lane, size) in enumerate(sent):
        payload = (f"{lane}{number}".encode() * size)[:size] or b"x"
        expected.setdefault(lane, []).append(payload)
        queue.put(payload, lane)
    stream = b"".join(drain(queue))
    edges = [0, *sorted(cut % (len(stream) + 1) for cut in cuts), len(stream)]
    decoder = FrameDecoder()
    received = [payload for start, end in pairwise(edges) for payload in decoder.feed(stream[start:end])]
    for lane, payloads in expected.items():
        assert [payload for payload in received if payload[:1] == lane.encode()] == payloads
    assert len(received) == len(sent)


@given(st.lists(st.binary(max_size=64), max_size=20))
@settings(max_examples=200, deadline=None)
def test_garbage_ends_in_an_error_or_in_waiting(chunks: list[bytes]) -> None:
    """Random bytes never give anything but payloads and WireError."""
    decoder = FrameDecoder()
    try:
        for chunk in chunks:
            feed(decoder, chunk)
    except WireError:
        return


def test_an_urgent_payload_overtakes_a_large_one() -> None:
    """What is urgent goes out after the piece that is being written, not after the payload."""
    queue = PieceQueue()
    queue.put(b"L" * (10 * PIECE_BYTES), "a")
    first = queue.pop()
    queue.put(b"now", "", urgent=True)
    assert first is not None
    decoder = FrameDecoder()
    assert feed(decoder, first) == []
    assert feed(decoder, queue.pop() or b"") == [b"now"]
    assert feed(decoder, b"".join(drain(queue))) == [b"L" * (10 * PIECE_BYTES)]


def test_lanes_take_turns() -> None:
    """A small payload of another lane waits for one piece of a large one."""
    queue = PieceQueue()
    queue.put(b"L" * (10 * PIECE_BYTES), "large")
    queue.put(b"s", "small")
    queue.put(b"t", "small")
    assert payloads_of(drain(queue))[:2] == [b"s", b"t"]


def test_within_a_lane_order_is_kept() -> None:
    """A short payload never overtakes a long one of its own lane."""
    queue = PieceQueue()
    queue.put(b"L" * (2 * PIECE_BYTES), "a")
    queue.put(b"s", "a")
    assert [len(payload) for payload in payloads_of(drain(queue))] == [2 * PIECE_BYTES, 1]


def test_a_withdrawn_payload_leaves_nothing_with_the_reader() -> None:
    """What is taken back half sent is dropped on the other side too."""
    queue = PieceQueue()
    queue.put(b"L" * (3 * PIECE_BYTES), "a")
    queue.put(b"after", "a")
    queue.put(b"other", "b")
    decoder = FrameDecoder(max_message_bytes=2 * PIECE_BYTES)
    assert feed(decoder, queue.pop() or b"") == []
    assert queue.withdraw("a")
    assert not queue.withdraw("a")
    assert feed(decoder, b"".join(drain(queue))) == [b"other"]
    again = PieceQueue()
    again.put(b"M" * (2 * PIECE_BYTES), "a")
    assert feed(decoder, b"".join(drain(again))) == [b"M" * (2 * PIECE_BYTES)]


def test_a_payload_over_the_limit_is_refused() -> None:
    """The writer refuses what the reader would refuse."""
    queue = PieceQueue(max_message_bytes=10)
    queue.check(b"x" * 10)
    with pytest.raises(WireError, match="11 bytes"):
        queue.check(b"x" * 11)


def test_a_reader_bounds_what_it_holds() -> None:
    """Pieces of many messages together stay under the limit."""
    decoder = FrameDecoder(max_message_bytes=3 * PIECE_BYTES)
    piece = b"x" * PIECE_BYTES
    for number in (1, 2, 3):
        feed(decoder, HEADER.pack(PIECE_BYTES, 0, number) + piece)
    with pytest.raises(WireError, match="in pieces"):
        feed(decoder, HEADER.pack(PIECE_BYTES, 0, 4) + piece)


def test_a_reader_bounds_how_many_it_holds() -> None:
    """Many messages of one byte so far are too many."""
    decoder = FrameDecoder()
    with pytest.raises(WireError, match="in pieces"):
        feed(decoder, b"".join(HEADER.pack(1, 0, number) + b"x" for number in range(1, 5000)))


@pytest.mark.parametrize(
    "header",
    [
        (PIECE_BYTES + 1, LAST, 0),
        (0xFFFFFFFF, LAST, 0),
        (1, 0, 0),
        (1, ABORT, 0),
        (1, ABORT, 1),
        (0, 0, 1),
        (0, LAST, 1),
        (0, LAST, 0),
        (1, 3, 1),
        (1, 255, 1),
    ],
)
def test_a_header_that_nobody_writes_is_refused(header: tuple[int, int, int]) -> None:
    """A frame that no writer of ours makes is a WireError at once, before its bytes arrive."""
    with pytest.raises(WireError, match="no frame of ours"):
        feed(FrameDecoder(), HEADER.pack(*header))


def test_an_abort_of_nothing_is_harmless() -> None:
    """An abort for a number that is not in part changes nothing."""
    assert feed(FrameDecoder(), HEADER.pack(0, ABORT, 9)) == []
