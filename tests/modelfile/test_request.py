"""Modelfiles to create requests, and the files that they name. Ids: models contract, appendix E8 to E10."""

from __future__ import annotations

import os
import pwd
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ollamad.errors import InvalidRequest
from ollamad.modelfile import ModelRequest, parse, read_request
from ollamad.modelfile.files import expand_path, model_files, sniff
from ollamad.types import Message

BINARY = b"\x00\x01\x02\x03" * 128
ZIP = b"PK\x03\x04" + BINARY


def request(text: str, directory: Path) -> ModelRequest:
    return read_request(parse(text), directory)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("FROM test", {}),
        ("FROM test\nTEMPLATE some template", {"template": "some template"}),
        (
            "FROM test\nLICENSE single license\nPARAMETER temperature 0.5\nMESSAGE user Hello",
            {
                "licenses": ("single license",),
                "parameters": {"temperature": 0.5},
                "messages": (Message("user", "Hello"),),
            },
        ),
        (
            "FROM test\nPARAMETER temperature 0.5\nPARAMETER top_k 1\nSYSTEM You are a bot.\nLICENSE license1\n"
            "LICENSE license2\nMESSAGE user Hello there!\nMESSAGE assistant Hi! How are you?",
            {
                "parameters": {"temperature": 0.5, "top_k": 1},
                "system": "You are a bot.",
                "licenses": ("license1", "license2"),
                "messages": (Message("user", "Hello there!"), Message("assistant", "Hi! How are you?")),
            },
        ),
        ("FROM test\nREQUIRES v0.14.0\nRENDERER a\nPARSER b", {"requires": "0.14.0", "renderer": "a", "parser": "b"}),
        ("FROM test\nREQUIRES 0.14.0", {"requires": "0.14.0"}),
        ("FROM test\nPARAMETER mirostat 1", {"warnings": ("parameter 'mirostat' has no effect",)}),
    ],
)
def test_commands_to_request(text: str, expected: Mapping[str, Any], tmp_path: Path) -> None:
    """E8: each command has its place in the request."""
    assert request(text, tmp_path) == ModelRequest(from_name="test", **expected)


def test_files(tmp_path: Path) -> None:
    """E8: a path that exists is a file of the model, by its name; all are sent."""
    (tmp_path / "a").write_bytes(BINARY)
    (tmp_path / "b").write_bytes(BINARY)
    (tmp_path / "draft.gguf").write_bytes(BINARY)
    assert request("FROM a", tmp_path).files == {"a": tmp_path / "a"}
    assert request("FROM a\nFROM ./b", tmp_path).files == {"a": tmp_path / "a", "b": tmp_path / "b"}
    made = request("FROM base\nDRAFT ./draft.gguf", tmp_path)
    assert (made.from_name, made.draft_files) == ("base", {"draft.gguf": tmp_path / "draft.gguf"})
    assert request("FROM base\nADAPTER a\nADAPTER b", tmp_path).adapters == {"b": tmp_path / "b"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("FROM ./model.gguf\nDRAFT ./model.gguf", "DRAFT must not reference the same local path as FROM"),
        ("FROM .\nDRAFT .", "DRAFT must not reference the same local path as FROM"),
        ("FROM foo\nDRAFT nothing", "no such file or directory"),
        ("FROM foo\nREQUIRES latest", "requires must be a valid semver (e.g. 0.14.0)"),
        ("FROM foo\nPARAMETER foo 1", "unknown parameter 'foo'"),
    ],
)
def test_refused_requests(text: str, message: str, tmp_path: Path) -> None:
    """E8: what cannot become a request is refused on the client's side."""
    (tmp_path / "model.gguf").write_bytes(BINARY)
    with pytest.raises(InvalidRequest) as caught:
        request(text, tmp_path)
    assert str(caught.value).startswith(message)


TEXT = b"{}"
PARTS = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")


@pytest.mark.parametrize(
    ("files", "left_out"),
    [
        (
            {**dict.fromkeys(PARTS, BINARY), "config.json": TEXT, "tokenizer.json": TEXT, "chat_template.jinja": b"x"},
            (),
        ),
        (
            {
                "model-00001-of-00001.safetensors": BINARY,
                "config.json": TEXT,
                "tokenizer.json": TEXT,
                "tokenizer.model": BINARY,
            },
            (),
        ),
        (
            {
                "model.safetensors": BINARY,
                "config.json": TEXT,
                "modules.json": TEXT,
                "2_Dense/config.json": TEXT,
                "2_Dense/model.safetensors": BINARY,
                "3_Dense/config.json": TEXT,
                "3_Dense/model.safetensors": BINARY,
            },
            (),
        ),
        (
            {"model-00001-of-00001.safetensors": BINARY, "consolidated.safetensors": BINARY, "config.json": TEXT},
            ("consolidated.safetensors",),
        ),
        ({"consolidated.safetensors": BINARY, "config.json": TEXT}, ()),
        ({"pytorch_model-00001-of-00002.bin": ZIP, "pytorch_model-00002-of-00002.bin": ZIP, "config.json": TEXT}, ()),
        ({"consolidated.00.pth": ZIP, "consolidated.01.pth": ZIP, "config.json": TEXT}, ()),
        ({"model.gguf": BINARY, "config.json": TEXT}, ()),
        ({"model.bin": BINARY, "config.json": TEXT}, ()),
    ],
)
def test_folder_contents(files: Mapping[str, bytes], left_out: tuple[str, ...], tmp_path: Path) -> None:
    """E9: a folder stands for the files of the best form of the model that it holds."""
    for name, data in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(data)
    found = request(f"FROM {tmp_path}", tmp_path).files
    assert found == {name: tmp_path / name for name in files if name not in left_out}


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"README.md": b"hi", "config.json": TEXT}, "no Modelfile or safetensors files found"),
        ({"pytorch_model.bin": b"plain text", "config.json": TEXT}, "invalid content type: expected text/plain"),
        ({"model.gguf": BINARY, "config.json": BINARY}, "invalid content type: expected application/octet-stream"),
    ],
)
def test_folders_refused(files: Mapping[str, bytes], message: str, tmp_path: Path) -> None:
    """E9: a folder without a model, or with a file that is not what its name says, is refused."""
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    with pytest.raises(InvalidRequest) as caught:
        model_files(tmp_path)
    assert str(caught.value).startswith(message)


def test_links_out_of_the_folder(tmp_path: Path) -> None:
    """A link that leaves the folder is refused; one that stays is followed."""
    (tmp_path / "secret").write_bytes(BINARY)
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "model.gguf").symlink_to(tmp_path / "secret")
    with pytest.raises(InvalidRequest, match="insecure path"):
        model_files(folder)
    (folder / "model.gguf").unlink()
    (folder / "data").write_bytes(BINARY)
    (folder / "model.gguf").symlink_to("data")
    assert model_files(folder) == [folder / "model.gguf"]


def test_expansion(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """E10: homes, relative and absolute paths become absolute and clean."""
    monkeypatch.setenv("HOME", "/home/testuser")
    users = {"anotheruser": SimpleNamespace(pw_dir="/home/anotheruser")}
    monkeypatch.setattr(pwd, "getpwnam", users.__getitem__)
    monkeypatch.chdir(tmp_path)
    here = Path(os.getcwd())
    for text, folder, expected in [
        ("~", Path(), "/home/testuser"),
        ("~/myfolder/myfile.txt", Path(), "/home/testuser/myfolder/myfile.txt"),
        ("~anotheruser/docs/file.txt", Path(), "/home/anotheruser/docs/file.txt"),
        ("relative/path/to/file", Path(), f"{here}/relative/path/to/file"),
        ("/absolute/path/to/file", Path(), "/absolute/path/to/file"),
        ("/absolute/path/to/file", Path("someotherdir"), "/absolute/path/to/file"),
        (".", here, str(here)),
        (".", Path(), str(here)),
        ("somefile", Path("somedir"), f"{here}/somedir/somefile"),
    ]:
        assert str(expand_path(text, folder)) == expected
    with pytest.raises(InvalidRequest, match="failed to find user 'nonexistentuser'"):
        expand_path("~nonexistentuser/file.txt", Path())


@pytest.mark.parametrize(
    ("head", "kind"),
    [
        (ZIP, "application/zip"),
        (b"plain", "text/plain"),
        (b"", "text/plain"),
        (b"\xff\xfe\x00", "text/plain"),
        (BINARY, "application/octet-stream"),
        (b"%PDF-1.7", "application/pdf"),
        (b"\x1f\x8b\x08\x00", "application/x-gzip"),
    ],
)
def test_sniffing(head: bytes, kind: str) -> None:
    """The first bytes tell the type."""
    assert sniff(head) == kind
