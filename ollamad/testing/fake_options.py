"""What a fake model is like, and where that is said: in code, in the model file, or in the environment."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

BOS, EOS, IM_START, IM_END = 256, 257, 258, 259

#: Texts of the tokens behind the 256 bytes.
SPECIAL = {BOS: "<s>", EOS: "</s>", IM_START: "<|im_start|>", IM_END: "<|im_end|>"}

N_VOCAB = 256 + len(SPECIAL)


@dataclass(frozen=True, slots=True)
class FakeOptions:
    """Each field can also stand in a GGUF as ``fake.NAME``, or in the environment as ``FAKE_NAME``.

    Attributes:
        end_every: One in this many tokens ends the generation; 0 never ends.
        n_ctx: Cells of a context; 0 takes context length times slots.
        n_sequences: Sequence ids of a context; 0 takes slots plus 8.
        step_us: Time of a step, in microseconds.
        token_us: Time that each token of a step adds.
        wide: Letters of two bytes occur.
        seed: Makes this model's answers differ from another's.
        gate_dir: Directory of `fake_gates.Gates` files; "" is none.
    """

    can_share: bool = True
    can_cut: bool = True
    can_shift: bool = True
    end_every: int = 40
    n_ctx: int = 0
    n_batch: int = 0
    n_sequences: int = 0
    n_ctx_train: int = 4096
    n_embd: int = 16
    step_us: int = 0
    token_us: int = 0
    load_ms: int = 0
    wide: bool = False
    adds_bos: bool = True
    encoder: bool = False
    seed: int = 0
    weights_bytes: int = 1 << 20
    cell_bytes: int = 1 << 10
    memory_bytes: int = 8 << 30
    chat_template: str = ""
    gate_dir: str = ""

    def with_values(self, values: Mapping[str, Any], prefix: str) -> FakeOptions:
        """These options, with each ``prefix + NAME`` of *values* in place of its own."""
        known = {field.name: getattr(self, field.name) for field in fields(self)}
        for name, old in known.items():
            for key in (prefix + name, (prefix + name).upper()):
                if key in values:
                    known[name] = _convert(values[key], type(old))
        return FakeOptions(**known)


def _convert(value: Any, kind: type) -> Any:
    if kind is bool and isinstance(value, str):
        return value.lower() in ("1", "true", "yes")
    return kind(value)
