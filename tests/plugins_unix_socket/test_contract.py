"""The Unix socket keeps the contract of frontends."""

from collections.abc import Mapping
from typing import Any

import pytest
from ollamad_unix_socket import UnixSocket

from ollamad.plugin import Frontend
from ollamad.testing.contracts import Example, FrontendContract


class TestUnixSocket(FrontendContract):
    plugin_module = "ollamad_unix_socket"
    examples = tuple(Example("GET", f"/ollamad/{name}") for name in ("config", "plugins", "status"))

    @pytest.fixture
    def frontend(self) -> Frontend:
        return UnixSocket()

    @pytest.fixture
    def options(self) -> Mapping[str, Any]:
        return {"path": "/run/x.sock", "mode": "auto", "group": ""}
