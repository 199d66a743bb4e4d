"""Small files of the state directory, each replaced in one step."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from ollamad.errors import StoreError

_DEMO_HIDDEN = "demo-hidden"


class State:
    """The state directory at *root*, created on the first write.

    A missing directory reads as an empty one. Every write is atomic and durable; nothing is cached, so two
    daemons with one state directory see the same.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    @property
    def demo_hidden(self) -> bool:
        """Whether somebody removed the demo model."""
        return self.read(_DEMO_HIDDEN) is not None

    def hide_demo(self) -> None:
        """Remember that the demo model is not wanted. Raises: StoreError."""
        self.write(_DEMO_HIDDEN, b"")

    def show_demo(self) -> None:
        """Forget `hide_demo`. Raises: StoreError."""
        self.remove(_DEMO_HIDDEN)

    def lock_path(self, store_root: Path) -> Path:
        """The file whose lock guards the store at *store_root*; stores have different ones."""
        key = hashlib.sha256(os.fsencode(store_root.resolve())).hexdigest()[:16]
        return self.root / f"store-{key}.lock"

    def read(self, name: str) -> bytes | None:
        """The bytes of a small file, None if there is none. Raises: StoreError."""
        try:
            return (self.root / name).read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise _failure(error) from error

    def write(self, name: str, data: bytes) -> None:
        """Replace a small file: readers see the old bytes or the new, also after a crash. Raises: StoreError."""
        temporary = self.root / f".{name}.{os.urandom(8).hex()}"
        try:
            self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
            try:
                with open(temporary, "xb") as file:
                    file.write(data)
                    file.flush()
                    os.fsync(file.fileno())
                os.replace(temporary, self.root / name)
            finally:
                temporary.unlink(missing_ok=True)
        except OSError as error:
            raise _failure(error) from error

    def remove(self, name: str) -> None:
        """Remove a small file if it is there. Raises: StoreError."""
        try:
            (self.root / name).unlink(missing_ok=True)
        except OSError as error:
            raise _failure(error) from error


def _failure(error: OSError) -> StoreError:
    return StoreError(f"state directory: {os.strerror(error.errno).lower() if error.errno else 'input/output error'}")
