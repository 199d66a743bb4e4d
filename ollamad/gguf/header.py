"""The values that a checked header consists of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from ollamad.gguf.numbers import tensor_type_name


@dataclass(frozen=True, slots=True)
class Array:
    """An array of the metadata. ``type`` is the elements' value type; ``values`` None where it was stepped over."""

    type: int
    length: int
    values: tuple[Any, ...] | None = None


#: A 32-bit float is held as the shortest decimal that stands for it: 1e-06, not 9.99999997e-07.
Value: TypeAlias = int | float | bool | str | Array


@dataclass(frozen=True, slots=True)
class Tensor:
    """A row of the tensor table. ``shape`` as in the file, innermost first; ``offset`` from `Header.data_offset`."""

    name: str
    type: int
    shape: tuple[int, ...]
    offset: int
    size_bytes: int

    @property
    def type_name(self) -> str:
        """The type's name, e.g. ``Q8_0``."""
        return tensor_type_name(self.type)


@dataclass(frozen=True, slots=True)
class Header:
    """A checked header: every tensor lies inside the file.

    ``metadata`` keeps the file's order; its ``general.parameter_count`` is the sum over the tensors.
    """

    version: int
    byte_order: Literal["little", "big"]
    metadata: Mapping[str, Value]
    tensors: tuple[Tensor, ...]
    alignment: int
    data_offset: int
    size_bytes: int

    @property
    def architecture(self) -> str:
        """``general.architecture``, ``unknown`` when absent or no text."""
        value = self.metadata.get("general.architecture")
        return value if isinstance(value, str) and value else "unknown"

    @property
    def parameter_count(self) -> int:
        """The number of elements of all tensors."""
        value = self.metadata["general.parameter_count"]
        assert isinstance(value, int), "set by the reader"
        return value

    def get(self, key: str) -> Value | None:
        """Look a key up; one not starting ``general.`` or ``tokenizer.`` belongs to the architecture."""
        if not key.startswith(("general.", "tokenizer.")):
            key = f"{self.architecture}.{key}"
        return self.metadata.get(key)

    def text(self, key: str) -> str:
        """`get`, "" where there is no text."""
        value = self.get(key)
        return value if isinstance(value, str) else ""

    def count(self, key: str) -> int:
        """`get`, 0 where there is no positive whole number."""
        value = self.get(key)
        return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else 0

    def counts(self, key: str) -> tuple[int, ...]:
        """The whole numbers of *key*, whether it holds one or, per block, an array of them."""
        value = self.get(key)
        several = value.values or () if isinstance(value, Array) else (value,)
        return tuple(item for item in several if isinstance(item, int) and not isinstance(item, bool))

    def flag(self, key: str) -> bool:
        """`get`, False where there is no true flag."""
        return self.get(key) is True
