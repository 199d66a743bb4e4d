"""TOML with lines."""

from pathlib import Path

import pytest

from ollamad.config.document import dotted, parse_document, read_document
from ollamad.errors import ConfigError

TEXT = '''# a comment
[server]
host = "::1"   # [not a header]

port = 1

[models."a:b"]
keep_alive = """
5m"""
inline = { x = 1, y.z = 2 }

[models."a:b".parameters]
stop = [
  "x",  # = y
  "[z]",
]
[[list.of]]
n = 1
'''


def test_lines_of_keys() -> None:
    """Every key has the line at which its statement begins."""
    lines = parse_document(TEXT, "f").lines
    assert lines[("server",)] == 2
    assert lines[("server", "host")] == 3
    assert lines[("server", "port")] == 5
    assert lines[("models", "a:b", "keep_alive")] == 8
    assert lines[("models", "a:b", "inline", "y", "z")] == 10
    assert lines[("models", "a:b", "parameters", "stop")] == 13
    assert lines[("list", "of", "n")] == 18


def test_broken_toml_names_the_line() -> None:
    """A file that is no TOML is refused with its line."""
    with pytest.raises(ConfigError) as caught:
        parse_document("[server]\nport = = 1\n", "f.toml")
    assert str(caught.value) == "f.toml:2: invalid value"
    with pytest.raises(ConfigError, match=r"^f\.toml:2: "):
        parse_document('[server]\nhost = "', "f.toml")


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    """A missing, a binary and a huge file are refused by name."""
    with pytest.raises(ConfigError, match=r"missing\.toml: cannot be read: No such file"):
        read_document(tmp_path / "missing.toml")
    binary = tmp_path / "binary.toml"
    binary.write_bytes(b"a = 1\nb = '\xff'\n")
    with pytest.raises(ConfigError, match=r"binary\.toml:2: is no UTF-8 text"):
        read_document(binary)
    huge = tmp_path / "huge.toml"
    huge.write_bytes(b"#" * (1 << 21))
    with pytest.raises(ConfigError, match="is larger than"):
        read_document(huge)


def test_dotted_keys() -> None:
    """Parts that need quotes get them."""
    assert dotted(("models", "a:b", "keep_alive")) == 'models."a:b".keep_alive'
