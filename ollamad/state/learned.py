"""What earlier loads took, kept over restarts: the estimate of a load is right from the second time on."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Mapping
from typing import Any, TypeAlias

from ollamad.errors import StoreError
from ollamad.state.state import State
from ollamad.types import Memory

_FILE = "learned-memory.json"
_VERSION = 1
#: The oldest go first. A user has some dozens of models, each in a few forms.
_MOST = 512

#: Digest of the weights, tokens per slot, slots, KV cache type, kind of device.
Key: TypeAlias = tuple[str, int, int, str, str]

log = logging.getLogger(__name__)


class LearnedMemory:
    """Bytes that loads took, by how the model was loaded.

    A file that cannot be read or understood counts as empty, and one that cannot be written is logged: what is
    lost is only that the next estimate comes from the header again. Safe from any thread.
    """

    def __init__(self, state: State) -> None:
        self._state = state
        self._lock = threading.Lock()
        self._known = self._read()

    def known(self) -> Mapping[Key, tuple[Memory, ...]]:
        """A copy of all that is known."""
        with self._lock:
            return dict(self._known)

    def remember(self, key: Key, memory: tuple[Memory, ...]) -> None:
        """Keep what a load took. Blocks for a durable write, unless nothing is new."""
        with self._lock:
            if self._known.get(key) == memory:
                return
            self._known.pop(key, None)
            self._known[key] = memory
            while len(self._known) > _MOST:
                del self._known[next(iter(self._known))]
            try:
                self._state.write(_FILE, _encode(self._known))
            except StoreError as error:
                log.warning("what models take is not kept", extra={"error": str(error)})

    def _read(self) -> dict[Key, tuple[Memory, ...]]:
        try:
            data = self._state.read(_FILE)
            return _decode(data) if data is not None else {}
        except (StoreError, ValueError, TypeError, KeyError) as error:
            log.warning("what models took before is not known", extra={"file": _FILE, "error": str(error)})
            return {}


def _encode(known: Mapping[Key, tuple[Memory, ...]]) -> bytes:
    loads = [{"load": key, "memory": [_line(part) for part in memory]} for key, memory in known.items()]
    return json.dumps({"version": _VERSION, "loads": loads}, separators=(",", ":")).encode()


def _line(part: Memory) -> list[str | int]:
    return [part.device_id, part.kind, part.weights_bytes, part.kv_bytes, part.compute_bytes]


def _decode(data: bytes) -> dict[Key, tuple[Memory, ...]]:
    """Raises: ValueError, TypeError, KeyError."""
    document = json.loads(data)
    if not isinstance(document, dict) or document["version"] != _VERSION:
        raise ValueError("not of this version")
    return {_key(load["load"]): tuple(_memory(line) for line in load["memory"]) for load in document["loads"]}


def _key(values: Any) -> Key:
    digest, ctx_len, slots, kv_type, kind = values
    return str(digest), int(ctx_len), int(slots), str(kv_type), str(kind)


def _memory(values: Any) -> Memory:
    device, kind, *sizes = values
    weights, kv, compute = (int(size) for size in sizes)
    if min(weights, kv, compute) < 0:
        raise ValueError("a negative size")
    return Memory(str(device), str(kind), weights, kv, compute)
