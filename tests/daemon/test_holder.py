"""Who holds a port."""

import os
import socket
from pathlib import Path

import pytest

from ollamad.daemon.holder import holder_of_port


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6])
def test_the_holder_is_named(family: socket.AddressFamily) -> None:
    """The process that listens is found by its socket; on another address it does not clash."""
    host = "127.0.0.1" if family == socket.AF_INET else "::1"
    with socket.socket(family) as listening:
        listening.bind((host, 0))
        listening.listen()
        port = listening.getsockname()[1]
        assert holder_of_port(host, port).endswith(f"(pid {os.getpid()})")
        assert holder_of_port("0.0.0.0", port).endswith(f"(pid {os.getpid()})")
        assert holder_of_port("192.0.2.1", port) == ""


def test_without_proc(tmp_path: Path) -> None:
    """Where nothing can be seen, nothing is said."""
    assert holder_of_port("127.0.0.1", 1, tmp_path) == ""
