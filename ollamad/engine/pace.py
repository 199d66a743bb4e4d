"""How many prompt tokens go into the next step, so that a step takes about the time it may take.

A long step stalls every other stream and every cancel, on a machine whose speed nobody knows
beforehand. So the first chunk is small, and each measured step corrects the next.
"""

from __future__ import annotations

_FIRST = 8  # a large model on a small machine takes a second for these
#: Weights that a processor multiplies with a token's numbers in a second, at the least: two slow cores.
_WEIGHTS_A_SECOND = 10_000_000_000
_GROWTH = 4


class Pace:
    """Chooses chunk sizes from measured step times. Pure: it is told the times.

    ``step_ns`` is the target while others decode; alone, nobody but a cancel waits, and it is a quarter more.
    """

    def __init__(self, step_ns: int, n_batch: int, weights: int = 0) -> None:
        """*weights* (0: unknown) is about how many a token meets: the chunks of a small model need not grow first.

        So the same prompt is cut in the same places from the first request on, which keeps the last bits of its logits.
        """
        self._step_ns = step_ns
        self._n_batch = n_batch
        certain = step_ns * _WEIGHTS_A_SECOND // (weights * 1_000_000_000) if weights else 0
        self._chunk = min(max(_FIRST, certain), n_batch)
        self._decode_ns = 0
        self._alone = 1.25

    def chunk(self, decoding: bool) -> int:
        """Most prompt tokens of the next step."""
        size = self._chunk if decoding else int(self._chunk * self._alone)
        return max(1, min(size, self._n_batch))

    def decoded(self, elapsed_ns: int) -> None:
        """A step without prompt tokens took this long."""
        self._decode_ns = elapsed_ns if not self._decode_ns else (3 * self._decode_ns + elapsed_ns) // 4

    def prefilled(self, tokens: int, decoding: bool, elapsed_ns: int) -> None:
        """A step with *tokens* prompt tokens took this long.

        Short chunks (the end of a prompt) cost more a token than long ones, so they may slow the
        pace down but say nothing about how far it can go up. A step within its time always lets the next chunk be a
        little larger: what of the step is not the prompt's is known from steps without prompt tokens alone, and while
        prompts keep coming there are none.
        """
        allowed = self._step_ns if decoding else int(self._step_ns * self._alone)
        base = min(self._decode_ns, elapsed_ns // 2) if decoding else 0
        target = max(self._step_ns - base, self._step_ns // 4) if decoding else int(self._step_ns * self._alone)
        fitting = tokens * target // max(1, elapsed_ns - base)
        fitting = fitting if decoding else int(fitting / self._alone)
        if elapsed_ns < allowed:
            fitting = max(fitting, -(-tokens * allowed // max(1, elapsed_ns)))
        if fitting < self._chunk:
            self._chunk = max(1, fitting if fitting >= self._chunk // _GROWTH else self._chunk // _GROWTH)
        elif 2 * tokens >= self._chunk:
            self._chunk = min(fitting, self._chunk * _GROWTH, self._n_batch)
