"""Bodies: framing, holding the sender back, ends that come early."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollamad.errors import InvalidRequest
from ollamad.http.body import Body, ChunkedDecoder, PlainDecoder
from ollamad.plugin import BodyTooLarge


def body_of(decoder: PlainDecoder | ChunkedDecoder, held: list[bool] | None = None) -> Body:
    return Body(decoder, (held if held is not None else []).append, lambda: None, lambda waiting: None)


@given(st.lists(st.binary(min_size=1, max_size=30), max_size=5), st.integers(1, 7))
def test_chunked_is_read_in_any_pieces(parts: list[bytes], step: int) -> None:
    """However the bytes come, the content is the same and what follows stays."""
    wire = b"".join(b"%x;ext=1\r\n%b\r\n" % (len(part), part) for part in parts) + b"0\r\nTrailer: x\r\n\r\nNEXT"
    decoder, buffer, got = ChunkedDecoder(), bytearray(), b""
    for at in range(0, len(wire), step):
        buffer += wire[at : at + step]
        got += decoder.feed(buffer)
    assert (got, decoder.done, bytes(buffer)) == (b"".join(parts), True, b"NEXT")


@pytest.mark.parametrize(
    "wire", [b"x\r\n", b"\r\n", b"1\r\nabc\r\n", b"ffffffffffffffffff\r\n", b"1" * 5000, b"-1\r\n"]
)
def test_broken_chunks_are_refused(wire: bytes) -> None:
    """Framing that is wrong is an error of the request."""
    with pytest.raises(InvalidRequest):
        ChunkedDecoder().feed(bytearray(wire))


async def test_a_body_past_the_limit_is_refused_before_it_is_read() -> None:
    """A length that is too large is told at once; a chunked body as soon as it is over."""
    with pytest.raises(BodyTooLarge):
        await body_of(PlainDecoder(11)).whole(10)
    chunked = body_of(ChunkedDecoder())
    chunked.feed(bytearray(b"b\r\nhello world\r\n"))
    with pytest.raises(BodyTooLarge):
        await chunked.whole(10)


async def test_a_slow_reader_holds_the_sender_back() -> None:
    """Beyond the high mark the sender is held; it goes on when half of that is read."""
    held: list[bool] = []
    body = body_of(PlainDecoder(1_000_000), held)
    for _ in range(5):
        body.feed(bytearray(100_000))
    assert held == [True]
    for _ in range(5):
        await body.next()
    assert held == [True, False]


async def test_a_cut_body_fails_its_reader() -> None:
    """A reader that waits for a body that was cut gets Go's text."""
    body = body_of(PlainDecoder(5))
    reading = asyncio.get_running_loop().create_task(body.whole(10))
    await asyncio.sleep(0)
    body.feed(bytearray(b"abc"))
    body.cut()
    with pytest.raises(InvalidRequest, match=r"^unexpected EOF$"):
        await reading
