"""The grammar of ``OLLAMA_HOST``: where to listen, where to connect. Source: runtime contract 3.3."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, replace

DEFAULT_PORT = 11434
_SCHEME_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class Host:
    """A base URL in parts. ``host`` has no brackets; "" is every interface. ``names_port``: the text named it."""

    scheme: str = "http"
    host: str = "127.0.0.1"
    port: int = DEFAULT_PORT
    path: str = ""
    names_port: bool = False

    @property
    def address(self) -> str:
        """``host:port``, an IPv6 host in brackets."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def url(self) -> str:
        """``scheme://host:port[/path]``."""
        return f"{self.scheme}://{self.address}{self.path}"

    def connectable(self) -> Host:
        """The same with an unspecified address replaced by the loopback one."""
        loopback = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}
        return replace(self, host=loopback.get(self.host, self.host))

    @property
    def local(self) -> bool:
        """Whether this is ``localhost``, a loopback or an unspecified address."""
        if self.host in ("localhost", ""):
            return True
        try:
            address = ipaddress.ip_address(self.host)
        except ValueError:
            return False
        return address.is_loopback or address.is_unspecified


def parse_host(text: str) -> tuple[Host, str]:
    """*text*, already trimmed, and the port that could not be used ("" when all is well)."""
    text = text.strip()
    scheme, found, rest = text.partition("://")
    port = DEFAULT_PORT
    if found:
        port = _SCHEME_PORTS.get(scheme, DEFAULT_PORT)
    elif text == "ollama.com":
        scheme, rest, port = "https", text, 443
    else:
        scheme, rest = "http", text
    authority, _, path = rest.partition("/")
    path = f"/{path}" if path else ""
    parts = _split(authority)
    if parts is None:
        return Host(scheme, authority.strip("[]") or "127.0.0.1", port, path, bool(found)), ""
    host, port_text = parts
    if port_text.isascii() and port_text.isdigit() and int(port_text) <= 65535:
        return Host(scheme, host, int(port_text), path, True), ""
    return Host(scheme, host, port, path, True), port_text or '""'


def _split(authority: str) -> tuple[str, str] | None:
    """Host and port text as Go's ``net.SplitHostPort`` cuts them; None where it would refuse."""
    if authority.startswith("["):
        host, bracket, rest = authority[1:].partition("]")
        return (host, rest[1:]) if bracket and rest.startswith(":") else None
    host, colon, port = authority.rpartition(":")
    return None if not colon or ":" in host else (host, port)
