"""The few tokens of a row of logits among which a chain of samplers really chooses. Pure numpy.

A chain that begins with top-k looks at k tokens, yet llama.cpp hands it an array of the whole vocabulary, token by
token. Here three vectorised passes find a superset of those k; `samplers.py` runs the same chain over it.

Imported in a runner with a large vocabulary only, and there beside the load: numpy costs 0.1 s.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

#: Logits of one group. If k groups have a maximum of at least some bound, so have the k largest logits.
_GROUP = 64
#: Most candidates; more (many equal logits) are no gain over all tokens.
_ROOM = 4096
#: llama_token_data. Source: llama.h.
_ENTRY = np.dtype([("id", np.int32), ("logit", np.float32), ("p", np.float32)])


class Candidates:
    """A candidate array for rows of *n_vocab* logits, and the search that fills it.

    ``most`` is the largest k that the search is good for. ``address`` is that of a C array of llama_token_data.
    """

    def __init__(self, n_vocab: int) -> None:
        self._columns = n_vocab // _GROUP
        self._grouped = self._columns * _GROUP
        self._entries = np.zeros(_ROOM, _ENTRY)
        self._ids = self._entries["id"]
        self._logits = self._entries["logit"]
        self._bound = np.float32(np.inf)
        self.most = self._columns // 2
        self.address: int = self._entries.ctypes.data

    def fill(self, row: npt.NDArray[np.float32], k: int, also: Sequence[int] = ()) -> int:
        """Fill the array with every token that may be among the k most likely; return their number, 0 if too many.

        Ids ascend. Every token left out has a logit below those of at least k tokens that are not in *also*
        (whose logits somebody is going to change, and which are all taken).
        """
        wanted = k + len(also)
        assert 0 < wanted <= self.most, "more candidates wanted than the search is good for"
        # The bound of the row before is good for this one, unless it lets through too few or too many groups.
        # Group number c holds the tokens c, c + columns, c + 2 columns, ...: maxima of whole lines vectorise.
        lines = row[: self._grouped].reshape(_GROUP, self._columns)
        maxima = lines.max(axis=0)
        bound = self._bound
        groups = (maxima >= bound).nonzero()[0]
        if not wanted <= len(groups) <= 2 * wanted:
            place = self._columns - wanted - wanted // 4
            self._bound = bound = np.partition(maxima, place)[place]
            groups = (maxima >= bound).nonzero()[0]
        hits = (lines.take(groups, axis=1) >= bound).ravel().nonzero()[0]
        line, group = np.divmod(hits, len(groups))
        ids = line * self._columns + groups[group]
        if self._grouped < len(row):
            rest = (row[self._grouped :] >= bound).nonzero()[0]
            ids = np.concatenate((ids, rest + self._grouped))
        if also:
            ids = np.union1d(ids, np.array(also))
        count = len(ids)
        if not k <= count <= _ROOM:  # fewer: there are logits that are no numbers
            return 0
        self._ids[:count] = ids
        self._logits[:count] = row[ids]
        return count

    def ordered(self, count: int, k: int) -> bool:
        """Whether the k largest of the array's logits, and the next, differ: any way of sorting gives one order."""
        largest = np.sort(self._logits[:count])[-(k + 1) :]
        return bool((largest[1:] > largest[:-1]).all())

    def id(self, index: int) -> int:
        """The token at *index*."""
        return int(self._ids[index])


def row_at(address: int, n_vocab: int) -> npt.NDArray[np.float32]:
    """A view of *n_vocab* logits in native memory; good as long as they lie there."""
    return np.frombuffer(memoryview((ctypes.c_float * n_vocab).from_address(address)), np.float32)
