"""Chains of samplers over llama.cpp's, and how a token is picked with them."""

from __future__ import annotations

import ctypes
import threading
from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ollamad.plugin import Sampler, SamplingParameters
from ollamad_llama.native import c as _c

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from ollamad_llama.candidates import Candidates

_RANDOM_SEED = 0xFFFFFFFF
#: Vocabularies below this are sampled as fast by the chain alone (docs/performance.md).
_LARGE_VOCABULARY = 32_768


class LlamaSampler(Sampler):
    """llama-server's chain: penalties, top-k, typical, top-p, min-p, temperature, choice.

    Links that would change nothing are left out. At temperature 0 the most likely token is taken, which is
    what the chain would come to. A grammar comes first: it only strikes out tokens.

    Attributes:
        chain: All links.
        penalties: The link of that name in it, or None.
        choice: The chain, itself a link of ``chain``, of what follows the penalties.
        few: How many of the most likely tokens after the penalties decide everything; 0: all may matter.
        sorts: Whether the order among equal logits may matter, because the chain sorts.
        recent: Tokens that the penalties look at, kept when ``few`` is.
    """

    def __init__(
        self, vocab: Any, n_vocab: int, ctx_len: int, parameters: SamplingParameters, grammar: str | None
    ) -> None:
        self.chain = _new_chain()
        self.penalties: Any = None
        self.recent: deque[int] = deque(maxlen=0)
        self.few, self.sorts = (0, False) if grammar else _few(parameters)
        try:
            if grammar:
                _add(self.chain, _c.llama_sampler_init_grammar(vocab, grammar.encode(), b"root"))
            self._add_penalties(n_vocab, ctx_len, parameters)
            self.choice = _add(self.chain, _new_chain())
            _add_choice(self.choice, parameters)
        except BaseException:
            self.close()
            raise

    def _add_penalties(self, n_vocab: int, ctx_len: int, p: SamplingParameters) -> None:
        last = ctx_len if p.repeat_last_n < 0 else p.repeat_last_n
        if last and (p.repeat_penalty != 1.0 or p.frequency_penalty or p.presence_penalty):
            self.penalties = _add(
                self.chain,
                _c.llama_sampler_init_penalties(
                    n_vocab, last, p.repeat_penalty, p.frequency_penalty, p.presence_penalty
                ),
            )
            self.recent = deque(maxlen=last)

    def accept(self, tokens: Sequence[int]) -> None:
        if self.penalties:  # nothing else in the chain looks at a prompt
            self.recent.extend(tokens)
            for token in tokens:
                _c.llama_sampler_accept(self.penalties, token)

    def close(self) -> None:
        if self.chain:
            _c.llama_sampler_free(self.chain)
            self.chain = self.choice = self.penalties = None


def _few(p: SamplingParameters) -> tuple[int, bool]:
    """`LlamaSampler.few` and ``sorts`` of a chain without a grammar.

    Without top-k, top-p and typical add up probabilities of the whole vocabulary.
    """
    if p.temperature <= 0:
        return 1, False
    return (p.top_k, True) if p.top_k > 0 else (0, False)


def _new_chain() -> Any:
    settings = _c.llama_sampler_chain_default_params()
    settings.no_perf = True
    return _c.llama_sampler_chain_init(settings)


def _add(chain: Any, link: Any) -> Any:
    if not link:
        raise ValueError("the grammar or a sampling parameter was refused by llama.cpp")
    _c.llama_sampler_chain_add(chain, link)
    return link


def _add_choice(chain: Any, p: SamplingParameters) -> None:
    if p.temperature <= 0:
        _add(chain, _c.llama_sampler_init_greedy())
        return
    if p.top_k > 0:
        _add(chain, _c.llama_sampler_init_top_k(p.top_k))
    if 0 < p.typical_p < 1:  # 0 is what a client sends for "not set"
        _add(chain, _c.llama_sampler_init_typical(p.typical_p, 0))
    if p.top_p < 1:
        _add(chain, _c.llama_sampler_init_top_p(p.top_p, 0))
    if p.min_p > 0:
        _add(chain, _c.llama_sampler_init_min_p(p.min_p, 0))
    _add(chain, _c.llama_sampler_init_temp(p.temperature))
    seed = _RANDOM_SEED if p.seed < 0 else p.seed & 0xFFFFFFFF
    _add(chain, _c.llama_sampler_init_dist(seed))


class FewCandidates:
    """Runs chains over the tokens that can win instead of over all: the same token, several times faster.

    Exact because what a chain does after top-k depends on nothing but the k largest logits in their order, and
    that order is one only as long as no two of them are equal. Where it is not, `pick` says None.
    """

    def __init__(self, finder: Candidates) -> None:
        self._finder = finder
        self._array = _c.llama_token_data_array()
        self._array.data = ctypes.cast(finder.address, ctypes.POINTER(_c.llama_token_data))
        self._pointer = ctypes.byref(self._array)

    def pick(self, sampler: LlamaSampler, row: npt.NDArray[np.float32]) -> int | None:
        """Choose and accept a token; None, with nothing changed, if only the whole row can tell."""
        finder, array = self._finder, self._array
        recent = tuple(set(sampler.recent)) if sampler.penalties else ()
        if not 0 < sampler.few + len(recent) <= finder.most or not sampler.few:
            return None
        count = finder.fill(row, sampler.few, recent)
        if not count:
            return None
        array.size, array.selected, array.sorted = count, -1, False
        if sampler.penalties:
            _c.llama_sampler_apply(sampler.penalties, self._pointer)
        if sampler.sorts and not finder.ordered(count, sampler.few):
            return None
        _c.llama_sampler_apply(sampler.choice, self._pointer)
        token = finder.id(array.selected)
        _c.llama_sampler_accept(sampler.chain, token)
        return token


class Picker:
    """Picks tokens from the logits of a context's last decode.

    For a large vocabulary numpy is imported beside the rest of the load; until it is there, and where few
    candidates cannot tell, the chain runs over the whole vocabulary.
    """

    def __init__(self, n_vocab: int) -> None:
        self._n_vocab = n_vocab
        self._few: FewCandidates | None = None
        self._row_at: Any = None
        self._rows: dict[int, npt.NDArray[np.float32]] = {}
        self.prepared = threading.Event()
        if n_vocab >= _LARGE_VOCABULARY:
            threading.Thread(target=self._prepare, name="numpy", daemon=True).start()

    def _prepare(self) -> None:
        from ollamad_llama.candidates import Candidates, row_at

        self._row_at = row_at
        self._few = FewCandidates(Candidates(self._n_vocab))
        self.prepared.set()

    def pick(self, context: Any, sampler: LlamaSampler, row: int) -> int:
        """Choose a token from the logits of *row* of the batch, and accept it."""
        token = None
        if self._few is not None and sampler.few:
            token = self._few.pick(sampler, self._logits(context, row))
        if token is None:
            token = int(_c.llama_sampler_sample(sampler.chain, context, row))
        sampler.recent.append(token)
        return token

    def _logits(self, context: Any, row: int) -> npt.NDArray[np.float32]:
        """The logits of a row; views are kept, for the library writes them to the same places again and again."""
        address = ctypes.cast(_c.llama_get_logits_ith(context, row), ctypes.c_void_p).value or 0
        assert address, "no logits were asked for this row"
        view = self._rows.get(address)
        if view is None:
            view = self._rows[address] = self._row_at(address, self._n_vocab)
        return view
