"""Typed reading of parsed JSON: kinds of fields, and the errors of encoding/json for what does not fit.

As in Go, a field that does not fit keeps its zero value, reading goes on, and the first error is told at the end.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

from ollamad_ollama_api.parse import Number, Pairs

_LEAST, _MOST = -(2**63), 2**63 - 1


@dataclass(frozen=True, slots=True)
class Where:
    """The field that is being read: the innermost struct's name, the dotted path, and where errors go."""

    struct: str = ""
    path: tuple[str, ...] = ()
    errors: list[str] = field(default_factory=list)

    def into(self, name: str) -> Where:
        return replace(self, path=(*self.path, name))

    def mismatch(self, value: str, kind: str) -> None:
        """A JSON value of the wrong type for a Go type."""
        what = f"Go struct field {self.struct}.{'.'.join(self.path)}" if self.struct else "Go value"
        self.errors.append(f"json: cannot unmarshal {value} into {what} of type {kind}")

    def fail(self, message: str) -> None:
        """Like `mismatch` for an error that comes without a place, as those of a type's own UnmarshalJSON do."""
        self.errors.append(message)


#: Reads a parsed value into what the field holds; None where nothing fits. JSON null never gets here.
Kind: TypeAlias = Callable[[Any, Where], Any]


def describe(value: Any) -> str:
    """The name of a JSON value's type in error texts."""
    if isinstance(value, Pairs):
        return "object"
    if isinstance(value, list):
        return "array"
    if isinstance(value, Number):
        return "number"
    if isinstance(value, str):
        return "string"
    return "bool"


def text(value: Any, where: Where) -> str | None:
    """A Go string."""
    if isinstance(value, str) and not isinstance(value, Number):
        return value
    where.mismatch(describe(value), "string")
    return None


def boolean(value: Any, where: Where) -> bool | None:
    """A Go bool."""
    if isinstance(value, bool):
        return value
    where.mismatch(describe(value), "bool")
    return None


def integer(value: Any, where: Where) -> int | None:
    """A Go int: 64 bits, written without point or exponent."""
    if not isinstance(value, Number):
        where.mismatch(describe(value), "int")
        return None
    if value.lstrip("-").isdigit() and len(value) <= 20 and _LEAST <= int(value) <= _MOST:
        return int(value)
    where.mismatch(f"number {value}", "int")
    return None


def anything(value: Any, where: Where) -> Any:
    """A Go interface{}: objects become dicts (the last key wins), numbers int or float."""
    if isinstance(value, Number):
        return _number(value, where)
    if isinstance(value, Pairs):
        return {key: anything(item, where) for key, item in value}
    if isinstance(value, list):
        return [anything(item, where) for item in value]
    return value


def _number(value: Number, where: Where) -> int | float | None:
    number = float(value)
    if number in (float("inf"), float("-inf")):
        where.mismatch(f"number {value}", "float64")
        return None
    # Whole numbers stay exact as long as a float64 holds them, which is what Go reads.
    return int(number) if number.is_integer() and abs(number) < 2**63 and not value.strip("-0123456789") else number


def mapping(value: Any, where: Where) -> dict[str, Any] | None:
    """A Go map[string]interface {}, one level of free-form values."""
    if not isinstance(value, Pairs):
        where.mismatch(describe(value), "map[string]interface {}")
        return None
    try:
        return {key: anything(item, where) for key, item in value}
    except RecursionError:
        # Go reads 10,000 levels. Nobody reads them here: only known keys of such maps have a meaning.
        return {key: item for key, item in value if not isinstance(item, list)}


def text_mapping(value: Any, where: Where) -> dict[str, str] | None:
    """A Go map[string]string."""
    if not isinstance(value, Pairs):
        where.mismatch(describe(value), "map[string]string")
        return None
    return {key: ("" if item is None else text(item, where.into(key)) or "") for key, item in value}


def raw(value: Any, where: Where) -> Any:
    """A json.RawMessage: kept as it was parsed."""
    return value


def items(kind: Kind, go_type: str, zero: Any = None) -> Kind:
    """A list of *kind*; a null in it gives *zero*."""

    def read(value: Any, where: Where) -> list[Any] | None:
        if isinstance(value, Pairs) or not isinstance(value, list):
            where.mismatch(describe(value), go_type)
            return None
        return [zero if item is None else kind(item, where) for item in value]

    return read


@dataclass(frozen=True, slots=True)
class Struct:
    """A Go struct: its name, its fields, and the name of its type in error texts.

    ``own`` says that the type has an UnmarshalJSON of its own: errors below it keep the outer struct's name.
    """

    name: str
    fields: Mapping[str, Kind]
    go_type: str
    own: bool = False

    def __call__(self, value: Any, where: Where) -> dict[str, Any] | None:
        if not isinstance(value, Pairs):
            where.mismatch(describe(value), self.go_type)
            return None
        inner = where if self.own and where.struct else replace(where, struct=self.name)
        found: dict[str, Any] = {}
        for key, item in value:
            name = key if key in self.fields else self._folded(key)
            if name is not None and item is not None:
                self._take(found, name, self.fields[name](item, inner.into(name)))
        return found

    def _folded(self, key: str) -> str | None:
        folded = key.casefold()
        return next((name for name in self.fields if name.casefold() == folded), None)

    def _take(self, found: dict[str, Any], name: str, value: Any) -> None:
        """The last key wins; maps are merged, because Go reads into the map that is there."""
        if value is None:
            return
        if isinstance(value, dict) and isinstance(found.get(name), dict):
            found[name].update(value)
        else:
            found[name] = value


def read(struct: Struct, value: Any) -> tuple[dict[str, Any], Sequence[str]]:
    """(the fields that were there, errors in order) of a whole body; ``null`` is an object without keys."""
    where = Where()
    found = None if value is None else struct(value, where)
    return found or {}, where.errors
