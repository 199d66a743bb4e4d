"""The files that the recorded cases upload: the demo model, what can be made of it, and files that are no models."""

import hashlib
import struct
from functools import cache
from importlib.resources import files

_SIZES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}  # GGUF value types of fixed size
_STRING, _ARRAY = 8, 9


@cache
def load(name: str) -> bytes:
    """The bytes of a file by the name that the cases use."""
    if name.startswith("fresh-"):
        return f"{name} {'.' * 48}"[:47].encode() + b"\n"  # the length that the recorded ones had
    if name == "demo":
        return next(
            one for one in files("ollamad").joinpath("_data").iterdir() if one.name.endswith(".gguf")
        ).read_bytes()
    if name == "bare":
        return without_key(load("demo"), "tokenizer.chat_template")
    return {
        "header": lambda: load("demo")[:1000],
        "magic": lambda: b"GGUF" + bytes(range(256)),
        "text": lambda: b"this is not a model\n",
        "zeros": lambda: bytes(4096),
    }[name]()


@cache
def digest(name: str) -> str:
    return "sha256:" + hashlib.sha256(load(name)).hexdigest()


def without_key(model: bytes, key: str) -> bytes:
    """The same GGUF without one key of its header."""
    n_tensors, n_keys = struct.unpack_from("<QQ", model, 8)
    kept, at = [], 24
    for _ in range(n_keys):
        start, (name, at) = at, _text(model, at)
        at = _after_value(model, at + 4, struct.unpack_from("<I", model, at)[0])
        if name != key.encode():
            kept.append(model[start:at])
    tensors = at
    for _ in range(n_tensors):
        at = _text(model, at)[1]
        at += 4 + 8 * struct.unpack_from("<I", model, at)[0] + 4 + 8
    head = model[:16] + struct.pack("<Q", len(kept)) + b"".join(kept) + model[tensors:at]
    return head + bytes(-len(head) % 32) + model[at + -at % 32 :]


def _text(model: bytes, at: int) -> tuple[bytes, int]:
    end = at + 8 + struct.unpack_from("<Q", model, at)[0]
    return model[at + 8 : end], end


def _after_value(model: bytes, at: int, kind: int) -> int:
    if kind in _SIZES:
        return at + _SIZES[kind]
    if kind == _STRING:
        return _text(model, at)[1]
    assert kind == _ARRAY
    inner, count = struct.unpack_from("<IQ", model, at)
    at += 12
    if inner in _SIZES:
        return at + count * _SIZES[inner]
    for _ in range(count):
        at = _after_value(model, at, inner)
    return at
