"""Tell systemd how it goes. Without ``NOTIFY_SOCKET`` nothing is told. Source: sd_notify(3)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


class Notify:
    """Sends states to the service manager; a manager that does not listen is no error."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._notifier: Any = None
        if environment.get("NOTIFY_SOCKET"):
            import sdnotify  # only under a service manager

            self._notifier = sdnotify.SystemdNotifier()

    def ready(self, status: str) -> None:
        """The daemon accepts connections."""
        self._send(f"READY=1\nSTATUS={status}")

    def status(self, text: str) -> None:
        """One line for ``systemctl status``."""
        self._send(f"STATUS={text}")

    def stopping(self) -> None:
        """The daemon has begun to stop."""
        self._send("STOPPING=1\nSTATUS=Stopping")

    def _send(self, state: str) -> None:
        if self._notifier is not None:
            self._notifier.notify(state)
