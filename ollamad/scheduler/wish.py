"""What a request wants of a loaded model, and whether a loaded one will do.

Pure. The reload decision compares *effective* values (clamped context, derived batch), so that an
automatic value never throws a model out that chose another one by itself.
Source: runtime contract, option resolution and reload table.
"""

from __future__ import annotations

from dataclasses import dataclass

from ollamad.types import LoadParameters, ResolvedModel

#: Families whose context cannot be shifted unless a request insists.
NO_SHIFT_FAMILIES = frozenset({"deepseek2"})


@dataclass(frozen=True, slots=True)
class Wish:
    """A model with all that decides how it is loaded. Two names over the same weights have one ``key``."""

    key: str
    model: ResolvedModel
    load: LoadParameters
    shift: bool = True


@dataclass(frozen=True, slots=True)
class Loaded:
    """How a model was loaded: the wish that led to it and the effective values.

    ``load`` has the clamped context, the derived batch and the mmap choice; ``mmap_automatic`` tells
    that nobody asked for that choice.
    """

    wish: Wish
    load: LoadParameters
    mmap_automatic: bool = False
    n_ctx_train: int = 0


def model_key(model: ResolvedModel) -> str:
    """The scheduler's identity of a model: its weights, so that names over one file share a runner."""
    if model.weights:
        return model.weights[0].digest
    if model.digest:
        return f"digest:{model.digest}"
    return f"name:{model.requested}" if model.requested else f"short:{model.short_name}"


def default_shift(model: ResolvedModel, asked: bool | None) -> bool:
    """Whether a full context is shifted: what the request says, else what the family can do."""
    if asked is not None:
        return asked
    families = {model.config.model_family, *(model.config.model_families or ())}
    return not families & NO_SHIFT_FAMILIES


def clamp_context(num_ctx: int, trained: int) -> int:
    """The context that a model can use: never more than it was trained for, when that is known."""
    return min(num_ctx, trained) if trained > 0 else num_ctx


def reload_reason(loaded: Loaded, wish: Wish) -> str | None:
    """Name the first setting that makes *loaded* unusable for *wish*; None when it will do.

    A wish equal to the one that the model was loaded for always fits, whatever the runner made of
    it: else a runner that grants less than it was asked for would be loaded again for ever.
    """
    have, want = loaded.wish.model, wish.model
    if loaded.wish.shift != wish.shift:
        return "shift"
    if have.adapters != want.adapters:
        return "adapters"
    if have.projectors != want.projectors:
        return "projectors"
    if loaded.wish.load == wish.load:
        return None
    return _parameters_reason(loaded, wish)


def _parameters_reason(loaded: Loaded, wish: Wish) -> str | None:
    asked, have, want = loaded.wish.load, loaded.load, wish.load
    trained = wish.model.facts.context_length or loaded.n_ctx_train
    if not (have.num_ctx_automatic and want.num_ctx_automatic):
        same = want.num_ctx == asked.num_ctx and want.num_ctx_automatic == asked.num_ctx_automatic
        if not same and clamp_context(want.num_ctx, trained) != have.num_ctx:
            return "num_ctx"
    derived = (have.num_batch_automatic and want.num_batch_automatic) or want.num_batch == 0
    if not derived and want.num_batch not in (have.num_batch, asked.num_batch):
        return "num_batch"
    if want.use_mmap != have.use_mmap and not (loaded.mmap_automatic and want.use_mmap is None):
        return "use_mmap"
    if want.num_gpu >= 0 and want.num_gpu != asked.num_gpu:
        return "num_gpu"
    for name in ("main_gpu", "num_thread", "draft_num_predict"):
        if getattr(want, name) != getattr(asked, name):
            return name
    return None
