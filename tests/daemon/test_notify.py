"""Words to the service manager."""

import socket
from pathlib import Path

import pytest

from ollamad.daemon.notify import Notify


def test_states(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """READY, STATUS and STOPPING reach the manager's socket."""
    path = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(path)
        monkeypatch.setenv("NOTIFY_SOCKET", path)
        notify = Notify({"NOTIFY_SOCKET": path})
        notify.ready("Listening")
        notify.status("1 model")
        notify.stopping()
        assert manager.recv(1000) == b"READY=1\nSTATUS=Listening"
        assert manager.recv(1000) == b"STATUS=1 model"
        assert manager.recv(1000) == b"STOPPING=1\nSTATUS=Stopping"
        notify._notifier.socket.close()


def test_without_a_manager() -> None:
    """Nothing is told and nothing fails."""
    notify = Notify({})
    notify.ready("x")
    notify.stopping()
