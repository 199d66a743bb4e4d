"""Which web pages may call: the CORS answers of http-api contract 3.1, as Ollama's middleware gives them."""

from __future__ import annotations

from collections.abc import Sequence

from ollamad.errors import ConfigError

_SCHEMES = (
    "http://",
    "https://",
    "chrome-extension://",
    "safari-extension://",
    "moz-extension://",
    "ms-browser-extension://",
)

#: Always allowed, after the configured ones.
DEFAULT_ORIGINS: tuple[str, ...] = (
    *(
        f"{scheme}://{host}{port}"
        for host in ("localhost", "127.0.0.1", "0.0.0.0")
        for port in ("", ":*")
        for scheme in ("http", "https")
    ),
    "app://*",
    "file://*",
    "tauri://*",
    "vscode-webview://*",
    "vscode-file://*",
)

_STAINLESS = (
    *("Arch", "Async", "Custom-Poll-Interval", "Helper-Method", "Lang", "Os", "Package-Version", "Poll-Helper"),
    *("Retry-Count", "Runtime", "Runtime-Version", "Timeout"),
)
_ALLOWED_HEADERS = ",".join(
    (
        "Authorization,Content-Type,User-Agent,Accept,X-Requested-With,Openai-Beta",
        *(f"X-Stainless-{n}" for n in _STAINLESS),
    )
)

Headers = tuple[tuple[str, str], ...]


class Origins:
    """The list of allowed origins, compiled once.

    Raises:
        ConfigError: An entry that can never match, as Ollama refuses to start with it.
    """

    def __init__(self, configured: Sequence[str] = ()) -> None:
        self.entries = (*(entry.strip() for entry in configured if entry.strip()), *DEFAULT_ORIGINS)
        self._any = "*" in self.entries
        self._whole: set[str] = set()
        self._wild: list[tuple[str, str]] = []
        for entry in self.entries:
            self._add(entry)

    def _add(self, entry: str) -> None:
        before, star, after = entry.partition("*")
        if "*" in after:
            raise ConfigError(f"origin {entry!r} has more than one *", key="server.origins")
        if star:
            self._wild.append((before, after))
        elif not entry.startswith(_SCHEMES):
            allowed = ", ".join(_SCHEMES)
            raise ConfigError(f"origin {entry!r} must hold a * or start with one of {allowed}", key="server.origins")
        else:
            self._whole.add(entry.lower())

    def allows(self, origin: str) -> bool:
        """Whether a page of *origin* (as the browser sent it) may call."""
        if self._any or origin in self._whole:
            return True
        return any(origin.startswith(before) and origin.endswith(after) for before, after in self._wild)

    def answer_headers(self, origin: str) -> Headers:
        """Headers that an allowed origin's answer gets."""
        if self._any:
            return (("Access-Control-Allow-Origin", "*"),)
        return (("Access-Control-Allow-Origin", origin), ("Vary", "Origin"))

    def preflight_headers(self, origin: str) -> Headers:
        """Headers of the answer to an allowed preflight."""
        common = (
            ("Access-Control-Allow-Headers", _ALLOWED_HEADERS),
            ("Access-Control-Allow-Methods", "GET,POST,PUT,PATCH,DELETE,HEAD,OPTIONS"),
            ("Access-Control-Max-Age", "43200"),
        )
        if self._any:
            return (*common, ("Access-Control-Allow-Origin", "*"))
        vary = ("Origin", "Access-Control-Request-Method", "Access-Control-Request-Headers")
        return (*common, ("Access-Control-Allow-Origin", origin), *(("Vary", name) for name in vary))
