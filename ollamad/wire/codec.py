"""Messages as JSON and back, strict on types: what a peer sends is checked before anyone sees it.

A message is ``["Name", field, field, ...]`` in the order of its dataclass; both sides are the same release
(see `Hello`), so names of fields would only cost time. A dataclass inside is a list of its fields, tagged
with its name where its place allows several. Bytes are base64.
"""

from __future__ import annotations

import json
import types
from base64 import b64decode, b64encode
from collections.abc import Callable, Mapping
from dataclasses import fields
from json.encoder import encode_basestring_ascii as _quote
from typing import Any, Literal, TypeAlias, Union, get_args, get_origin, get_type_hints

from ollamad.errors import VersionMismatch, WireError
from ollamad.wire.messages import PROTOCOL_VERSION, Delta, Down, Hello, Up

Read: TypeAlias = Callable[[Any], Any]
Write: TypeAlias = Callable[[Any], Any]

_parse = json.JSONDecoder().raw_decode
_print = json.JSONEncoder(separators=(",", ":")).encode
_DELTA_KINDS = ("content", "thinking")


def encode(message: Down | Up) -> bytes:
    """Return the payload of *message*."""
    if type(message) is Delta:
        return (
            f'["Delta",{_quote(message.request_id)},{_quote(message.text)},"{message.kind}",{message.index}]'
        ).encode("ascii")
    name = type(message).__name__
    return _print([name, *_WRITERS[name](message)]).encode("ascii")


def decode(payload: bytes, *, down: bool) -> Down | Up:
    """Return the message in *payload*, one that may go *down* (daemon to child) or up.

    Raises:
        WireError: Not JSON, not a message of this direction, a wrong type or number of fields.
    """
    try:
        text = payload.decode("utf-8")
        value, end = _parse(text)
        if end != len(text):
            raise WireError("bytes after the message")
        name = value[0]
        if name == "Delta" and not down:
            return _read_delta(value)
        reader = (_DOWN if down else _UP).get(name)
        if reader is None:
            raise WireError("a message of unknown name")
        return reader(value[1:])  # type: ignore[no-any-return]
    except (ValueError, TypeError, LookupError, RecursionError) as error:
        raise WireError(f"no message of ours: {type(error).__name__}: {str(error)[:200]}") from error


def _read_delta(value: list[Any]) -> Delta:
    _, request_id, text, kind, index = value
    if type(request_id) is not str or type(text) is not str or kind not in _DELTA_KINDS or type(index) is not int:
        raise WireError("no message of ours: Delta")
    return Delta(request_id, text, kind, index)


def check_version(message: Down | Up | None) -> Hello:
    """Return the peer's `Hello`.

    Raises:
        WireError: The peer closed or sent something else first.
        VersionMismatch: It speaks another version.
    """
    if not isinstance(message, Hello):
        raise WireError("the peer closed before Hello" if message is None else "the peer did not begin with Hello")
    if message.version != PROTOCOL_VERSION:
        raise VersionMismatch(PROTOCOL_VERSION, message.version)
    return message


def _same(value: Any) -> Any:
    return value


def _exact(kind: type) -> Read:
    def read(value: Any) -> Any:
        if type(value) is not kind:
            raise TypeError(f"{type(value).__name__} where {kind.__name__} belongs")
        return value

    return read


def _read_float(value: Any) -> float:
    if type(value) is not float and type(value) is not int:
        raise TypeError(f"{type(value).__name__} where float belongs")
    try:
        return float(value)
    except OverflowError as error:
        raise ValueError("number too large") from error


def _read_bytes(value: Any) -> bytes:
    if type(value) is not str:
        raise TypeError(f"{type(value).__name__} where base64 belongs")
    return b64decode(value, validate=True)


def _write_bytes(value: bytes) -> str:
    return b64encode(value).decode("ascii")


def _tuple(item: Any) -> tuple[Read, Write]:
    read_item, write_item = _codec(item)
    plain = item if item in (int, str) else None

    def read(value: Any) -> Any:
        if type(value) is not list:
            raise TypeError(f"{type(value).__name__} where a list belongs")
        if plain is not None:
            if any(type(part) is not plain for part in value):
                raise TypeError(f"list of something else than {plain.__name__}")
            return tuple(value)
        return tuple([read_item(part) for part in value])

    def write(value: Any) -> Any:
        return value if write_item is _same else [write_item(part) for part in value]

    return read, write


def _literal(allowed: tuple[Any, ...]) -> Read:
    def read(value: Any) -> Any:
        if type(value) is not str or value not in allowed:
            raise ValueError(f"not one of {allowed}")
        return value

    return read


def _union(members: tuple[Any, ...]) -> tuple[Read, Write]:
    classes = {member.__name__: _dataclass(member) for member in members if hasattr(member, "__dataclass_fields__")}
    if classes:
        if len(classes) != len(members):
            raise TypeError("a union of dataclasses and others has no codec")
        return _tagged(classes)
    kinds = frozenset(members)
    if not kinds <= {str, int, float, bool, types.NoneType}:
        raise TypeError(f"no codec for the union {members}")
    number = float in kinds and int not in kinds

    def read(value: Any) -> Any:
        if type(value) in kinds:
            return value
        if number and type(value) is int:
            return _read_float(value)
        raise TypeError(f"{type(value).__name__} is not allowed here")

    return read, _same


def _tagged(classes: Mapping[str, tuple[Read, Write]]) -> tuple[Read, Write]:
    def read(value: Any) -> Any:
        if type(value) is not list:
            raise TypeError(f"{type(value).__name__} where a list belongs")
        return classes[value[0]][0](value[1:])

    def write(value: Any) -> Any:
        name = type(value).__name__
        return [name, *classes[name][1](value)]

    return read, write


_known: dict[type, tuple[Read, Write]] = {}


def _dataclass(kind: Any) -> tuple[Read, Write]:
    if kind in _known:
        return _known[kind]
    hints = get_type_hints(kind)
    names = [field.name for field in fields(kind)]
    parts = [_codec(hints[name]) for name in names]
    readers = [part[0] for part in parts]
    writers = [(name, part[1]) for name, part in zip(names, parts, strict=True)]

    def read(value: Any) -> Any:
        if type(value) is not list or len(value) != len(readers):
            raise TypeError(f"wrong number of fields for {kind.__name__}")
        return kind(*[reader(part) for reader, part in zip(readers, value, strict=True)])

    def write(value: Any) -> Any:
        return [writer(getattr(value, name)) for name, writer in writers]

    _known[kind] = (read, write)
    return read, write


def _codec(kind: Any) -> tuple[Read, Write]:
    """Return how a field of type *kind* is read and written; the cases are those that messages have."""
    origin = get_origin(kind)
    if origin in (Union, types.UnionType):
        return _union(get_args(kind))
    if origin is Literal:
        return _literal(get_args(kind)), _same
    if origin is tuple:
        return _tuple(get_args(kind)[0])
    if origin is not None and issubclass(origin, Mapping):
        return _exact(dict), _same
    if hasattr(kind, "__dataclass_fields__"):
        return _dataclass(kind)
    if kind is float:
        return _read_float, _same
    if kind is bytes:
        return _read_bytes, _write_bytes
    if kind in (str, int, bool):
        return _exact(kind), _same
    raise TypeError(f"no codec for {kind!r}")


def _read_hello(value: Any) -> Hello:
    """Read a `Hello` of any version: only its first field is promised for ever."""
    version, pid = (*value, 0)[:2]
    return Hello(_exact(int)(version), _exact(int)(pid))


def _readers(kinds: Any) -> dict[str, Read]:
    return {kind.__name__: _read_hello if kind is Hello else _dataclass(kind)[0] for kind in get_args(kinds)}


_DOWN = _readers(Down)
_UP = _readers(Up)
_WRITERS: dict[str, Write] = {kind.__name__: _dataclass(kind)[1] for kind in (*get_args(Down), *get_args(Up))}
