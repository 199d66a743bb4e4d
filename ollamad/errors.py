"""The errors that cross a room's border. They carry facts, never a status code.

::

    OllamadError
    ├── InvalidRequest          the caller's input; says which field and what is allowed
    │   ├── InvalidName         a model name that cannot be one
    │   ├── InvalidModelFile    a file that is not the model it claims to be
    │   ├── PromptTooLong       does not fit, and cutting or shifting was refused
    │   └── Unsupported         understood, but not available in this version
    ├── ModelNotFound           no such name in the store
    │   └── ModelFilesMissing   the name is there, a file is not
    ├── DigestMismatch          bytes that do not hash to their name
    ├── BlobNotFound
    ├── CapabilityMissing       the model cannot do what was asked
    ├── CloudDisabled           the name asks for a model that runs elsewhere
    ├── CreateFailed            a well-formed create that its files do not allow
    ├── QueueFull               bounded queue refused the request
    ├── ShuttingDown            the daemon drains
    ├── RequestCancelled        the client left
    ├── LoadFailed              a model could not be loaded; says why
    │   ├── LoadTimedOut
    │   └── OutOfMemory
    ├── RunnerDied              a runner ended while it had requests
    ├── RunnerFailed            the runner answered with an error; status hint inside
    ├── JobFailed               a short-lived child ended without its result
    │   └── JobTimedOut
    ├── WireError               the peer of a connection broke the framing or a message's type
    │   └── VersionMismatch
    ├── StoreError              the disk or the store's layout
    ├── ConfigError             file, line, key, seen, allowed
    └── PluginError             a plugin broke a rule

Each frontend has one function from these to its own replies.
"""

from __future__ import annotations


class OllamadError(Exception):
    """Base of all errors that a room raises on purpose."""


class InvalidRequest(OllamadError):
    """The caller's input is wrong. ``str()`` is fit for the client."""

    def __init__(self, message: str, *, field: str = "") -> None:
        super().__init__(message)
        self.field = field


class InvalidName(InvalidRequest):
    """A model name that cannot be one; ``name`` as it was given."""

    def __init__(self, name: str, message: str = "invalid model name") -> None:
        super().__init__(message, field="model")
        self.name = name


class InvalidModelFile(InvalidRequest):
    """A file is no usable GGUF; the message names an offset or a key."""


class PromptTooLong(InvalidRequest):
    """The prompt does not fit and must not be cut."""


class Unsupported(InvalidRequest):
    """Understood but not available in this version."""


class OptionTypeError(OllamadError):
    """An entry of ``options`` has the wrong type. The contract answers 500, as a scheduling error."""


class ModelNotFound(OllamadError):
    """No model of this name; ``name`` as requested, ``short_name`` in its shortest printed form."""

    def __init__(self, name: str, short_name: str = "") -> None:
        super().__init__(f"model {name!r} not found")
        self.name = name
        self.short_name = short_name or name


class ModelFilesMissing(ModelNotFound):
    """The name is there, a file of its model is not: pulling it again would help."""


class BlobNotFound(OllamadError):
    """No blob of this digest."""

    def __init__(self, digest: str) -> None:
        super().__init__(f'blob "{digest}" not found')
        self.digest = digest


class DigestMismatch(OllamadError):
    """The bytes do not hash to the digest that was promised."""

    def __init__(self, expected: str, actual: str) -> None:
        super().__init__(f'digest mismatch, expected "{expected}", got "{actual}"')
        self.expected = expected
        self.actual = actual


class CapabilityMissing(OllamadError):
    """The model lacks what the request needs.

    ``model`` is the full printed name, ``requested`` the name as the client wrote it.
    """

    def __init__(self, model: str, requested: str, missing: tuple[str, ...], suffix: str = "") -> None:
        lines = (f"{model} does not support {what}{suffix if what == 'thinking' else ''}" for what in missing)
        super().__init__("\n".join(lines))
        self.requested = requested
        self.missing = missing


class CloudDisabled(OllamadError):
    """The model runs on another host, and this server reaches none. ``what`` ends the sentence."""

    def __init__(self, what: str = "remote model is unavailable") -> None:
        super().__init__(f"ollama cloud is disabled: {what}")


class CreateFailed(OllamadError):
    """A model could not be made although the request was well-formed: the reason lies in its files."""


class QueueFull(OllamadError):
    """The queue is at its limit."""

    def __init__(self, *, waiting: int, limit: int, retry_after_s: int = 1) -> None:
        # Two blanks after the full stop: clients compare this text.
        super().__init__("server busy, please try again.  maximum pending requests exceeded")
        self.waiting = waiting
        self.limit = limit
        self.retry_after_s = retry_after_s


class ShuttingDown(OllamadError):
    """The daemon drains and takes no more requests."""

    def __init__(self) -> None:
        super().__init__("server is shutting down")


class RequestCancelled(OllamadError):
    """The client left before its answer was complete."""

    def __init__(self) -> None:
        super().__init__("request canceled")


class LoadFailed(OllamadError):
    """A model could not be loaded. ``permanent``: the same file will fail again."""

    def __init__(self, message: str, *, permanent: bool = False) -> None:
        super().__init__(message)
        self.permanent = permanent


class LoadTimedOut(LoadFailed):
    """No sign of progress for ``scheduler.load_timeout``."""


class OutOfMemory(LoadFailed):
    """Not enough memory; the message names bytes and holders."""


class RunnerDied(OllamadError):
    """The runner ended while the request was with it. ``detail`` holds its last words."""

    def __init__(self, detail: str = "") -> None:
        text = (
            "model runner has unexpectedly stopped, this may be due to resource limitations or an internal error, "
            "check ollama server logs for details"
        )
        super().__init__(f"{text}: {detail}" if detail else text)
        self.detail = detail


class RunnerFailed(OllamadError):
    """The runner refused or failed one request. ``kind`` is a `wire.messages.Failed` kind."""

    def __init__(self, message: str, kind: str = "internal") -> None:
        super().__init__(message)
        self.kind = kind


class JobFailed(OllamadError):
    """A job ended without its result. ``detail`` holds the child's last words, no path in them.

    ``crashed``: the child did not end by itself but by a signal, as native code on a hostile file does.
    """

    def __init__(self, message: str, *, detail: str = "", crashed: bool = False) -> None:
        super().__init__(f"{message}: {detail}" if detail else message)
        self.detail = detail
        self.crashed = crashed


class JobTimedOut(JobFailed):
    """The job did not end within its time limit and was killed."""


class WireError(OllamadError):
    """The peer sent what is no message of ours; the connection cannot go on."""


class VersionMismatch(WireError):
    """Daemon and child speak different versions of the protocol."""

    def __init__(self, ours: int, theirs: int) -> None:
        super().__init__(
            f"protocol version {theirs} of the peer is not {ours}; daemon and runner must be the same release"
        )
        self.ours = ours
        self.theirs = theirs


class StoreError(OllamadError):
    """The store could not be read or written; no path in the text."""


class ConfigError(OllamadError):
    """A value in the configuration is wrong.

    ``str()`` reads ``FILE:LINE: KEY: what was seen, what is allowed``.
    """

    def __init__(self, message: str, *, source: str = "", line: int | None = None, key: str = "") -> None:
        where = ":".join(str(part) for part in (source, line) if part)
        super().__init__(": ".join(part for part in (where, key, message) if part))
        self.source = source
        self.line = line
        self.key = key


class PluginError(OllamadError):
    """A plugin broke a rule; ``plugin`` names it."""

    def __init__(self, plugin: str, message: str) -> None:
        super().__init__(f"{plugin}: {message}")
        self.plugin = plugin
