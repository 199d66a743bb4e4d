"""Heads of requests."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollamad.http.parse import Head, HeadError, head_end, parse_head


def head(*lines: str, host: str = "Host: h") -> Head:
    return parse_head("\r\n".join([lines[0], host, *lines[1:], "", ""]).encode("latin-1"))


def test_a_request_is_read() -> None:
    """Path and query are split, the path is decoded, header names are lower-cased and values joined."""
    got = head("GET /a%20b/%C3%BC?x=%20 HTTP/1.1", "Accept: a", "ACCEPT:  b ", "X:")
    assert (got.method, got.path, got.query, got.version) == ("GET", "/a b/ü", "x=%20", (1, 1))
    assert got.headers == {"host": "h", "accept": "a, b", "x": ""}
    assert (got.length, got.keep_alive, got.expects_continue) == (0, True, False)


def test_a_target_may_be_absolute() -> None:
    """The host of an absolute target wins over the header."""
    got = head("GET http://other:1/x?y HTTP/1.1")
    assert (got.host, got.path, got.query) == ("other:1", "/x", "y")
    assert head("GET http://other HTTP/1.1").path == "/"


def test_chunked_wins_over_a_length() -> None:
    """As recorded, a length beside chunked framing is ignored."""
    assert head("POST / HTTP/1.1", "Content-Length: 4", "Transfer-Encoding: Chunked").length is None


def test_http_1_0_closes_and_needs_no_host() -> None:
    """HTTP/1.0 has no chunked bodies, no duty of a Host, and keeps a connection only when asked."""
    got = parse_head(b"GET / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n")
    assert (got.host, got.keep_alive, got.length) == ("", False, 0)
    assert parse_head(b"GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n").keep_alive


def test_lines_may_end_with_a_bare_newline_and_go_on() -> None:
    """Bare newlines are taken, and a folded value becomes one line."""
    got = parse_head(b"GET / HTTP/1.1\nHost: h\nX: a\n\t b\n\n")
    assert got.headers["x"] == "a b"


@pytest.mark.parametrize(
    ("lines", "status", "text"),
    [
        (["hello there"], 400, ""),
        (["GET /"], 400, ""),
        (["GET / HTTP/x"], 400, ""),
        (["G@T / HTTP/1.1"], 400, ""),
        (["GET /a b HTTP/1.1"], 400, ""),
        (["GET x HTTP/1.1"], 400, ""),
        (["GET /%zz HTTP/1.1"], 400, ""),
        (["GET / HTTP/2.0"], 505, "unsupported protocol version"),
        (["GET / HTTP/1.1", "X-Odd : 1"], 400, "invalid header name"),
        (["GET / HTTP/1.1", "no colon"], 400, ""),
        (["GET / HTTP/1.1", "X: a\x01b"], 400, "invalid header value"),
        (["GET / HTTP/1.1", "Host: again"], 400, ""),
        (["GET / HTTP/1.1", "Content-Length: +5"], 400, ""),
        (["GET / HTTP/1.1", "Content-Length: 1", "Content-Length: 2"], 400, ""),
        (["GET / HTTP/1.1", "Transfer-Encoding: gzip"], 501, "Unsupported transfer encoding"),
        (["GET / HTTP/1.1", "Expect: 200-ok"], 417, ""),
    ],
)
def test_what_cannot_be_answered(lines: list[str], status: int, text: str) -> None:
    """A head that is none has the status and text of Go's server."""
    with pytest.raises(HeadError) as caught:
        head(*lines)
    assert (caught.value.status, caught.value.text) == (status, text)


def test_a_missing_host_is_told() -> None:
    """HTTP/1.1 needs a Host, which may be empty."""
    with pytest.raises(HeadError, match="missing required Host header"):
        parse_head(b"GET / HTTP/1.1\r\n\r\n")
    assert head("GET / HTTP/1.1", host="Host:").host == ""


@given(st.binary(max_size=200))
def test_no_bytes_break_the_parser(data: bytes) -> None:
    """Whatever comes is a head or a refusal."""
    page = b"HTTP/1.1 "
    try:
        parse_head(data + b"\r\n\r\n")
    except HeadError as error:
        page = error.page()
    assert page.startswith(b"HTTP/1.1 ")


def test_the_end_is_found_across_pieces() -> None:
    """The search goes on where it stopped, also inside of the empty line."""
    whole = b"GET / HTTP/1.1\r\nHost: h\r\n\r\nrest"
    end = whole.index(b"rest")
    for cut in range(end):
        assert head_end(bytearray(whole[:cut]), 0) == -1
        assert head_end(bytearray(whole), cut) == end
