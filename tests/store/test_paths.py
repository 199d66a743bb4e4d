"""Names of files, and disk errors without paths."""

import errno
from pathlib import Path

import pytest

from ollamad.errors import InvalidRequest, StoreError
from ollamad.store import paths

HEX = "0123456789abcdef" * 4


@pytest.mark.parametrize(
    ("digest", "file_name"),
    [
        (f"sha256:{HEX}", f"sha256-{HEX}"),
        (f"sha256-{HEX}", f"sha256-{HEX}"),
        (f"sha256:{HEX.upper()}", f"sha256-{HEX.upper()}"),
    ],
)
def test_digests(digest: str, file_name: str) -> None:
    """C4: both separators and both letter cases are digests; the case stays in the file's name."""
    assert paths.blob_file_name(digest) == file_name


@pytest.mark.parametrize(
    "digest",
    [
        *("", "abc", "sha256:", f"sha256:{HEX[:-1]}", f"sha256:{HEX}0", f"sha512:{HEX}", f"SHA256:{HEX}"),
        *(f"sha256_{HEX}", f"sha256:{HEX[:-1]}g", f"sha256:{HEX}\n", f"sha256:../{HEX[3:]}"),
    ],
)
def test_what_is_no_digest(digest: str) -> None:
    """C4: anything else is refused with the contract's words."""
    with pytest.raises(InvalidRequest) as caught:
        paths.blob_file_name(digest)
    assert str(caught.value) == "invalid digest format"


@pytest.mark.parametrize(
    ("file_name", "digest"),
    [
        (f"sha256-{HEX}", f"sha256:{HEX}"),
        (f"sha256-{HEX}-partial", None),
        (f"sha256-{HEX}-partial-0", None),
        ("sha256-1234567", None),
        ("notes.txt", None),
    ],
)
def test_digest_of_a_file(file_name: str, digest: str | None) -> None:
    """Only a finished blob's file has a digest."""
    assert paths.digest_of_file_name(file_name) == digest


def test_disk_errors_hide_the_path() -> None:
    """A disk error says what and why, never where."""
    with pytest.raises(StoreError) as caught, paths.disk_errors("blob"):
        raise OSError(errno.ENOSPC, "No space left on device", "/secret/path")
    assert str(caught.value) == "blob: no space left on device"


def test_directory_that_cannot_be_made(tmp_path: Path) -> None:
    """A failed directory gives the system's words and the contract's advice."""
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StoreError) as caught:
        paths.make_directory(tmp_path / "file" / "below")
    assert str(caught.value) == "not a directory: ensure path elements are traversable"
