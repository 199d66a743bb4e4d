"""Base64 with Go's offsets."""

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ollamad_ollama_api.base64go import Corrupt, decode


@pytest.mark.parametrize(
    ("text", "offset"),
    [
        ("!", 0),
        ("data:image/png;base64,iVBORw0=", 4),
        ("QUJD!", 4),
        ("QUI", 0),
        ("QUJDQ", 4),
        ("QUJDQQ", 4),
        ("QQ=", 3),
        ("QQ=Q", 2),
        ("Q===", 1),
        ("=", 0),
        ("QQ==QQ==", 4),
        ("QUI=x", 4),
        ("QU\nI", 1),
        ("QUé", 2),
    ],
)
def test_the_first_wrong_byte_is_named(text: str, offset: int) -> None:
    """The offset is the one of Go's decoder."""
    with pytest.raises(Corrupt, match=f"^illegal base64 data at input byte {offset}$"):
        decode(text)


@given(st.binary(max_size=40), st.integers(1, 9))
def test_line_ends_are_skipped(data: bytes, width: int) -> None:
    """CR and LF may stand anywhere."""
    text = base64.b64encode(data).decode()
    broken = "\r\n".join(text[at : at + width] for at in range(0, len(text), width))
    assert decode(broken) == data


@given(st.text("ABCD+/=!\n", max_size=12))
def test_any_text_decodes_or_is_refused(text: str) -> None:
    """The fast check and the slow walk agree about what is right."""
    try:
        decode(text)
    except Corrupt as error:
        assert 0 <= error.offset <= len(text)  # noqa: PT017 - the point is that nothing else is raised
