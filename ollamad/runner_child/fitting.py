"""Makes a prompt fit: oldest messages first, then tokens out of the middle. Pure, given a way to count.

Source: HTTP contract §7.5, runtime contract §2.7 and §2.10.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ollamad.types import Message

#: The exact words of the contract; clients compare them.
TOO_LONG = (
    "the prompt is longer than the context length currently available to the model; shorten the prompt, adjust "
    "the context length in settings, or use a model with a longer context length"
)


class PromptTooLong(Exception):
    """The prompt does not fit and shifting was refused."""

    def __init__(self) -> None:
        super().__init__(TOO_LONG)


@dataclass(frozen=True, slots=True)
class Fitted:
    """A conversation that fits, or of which at least the last message is left."""

    text: str
    tokens: list[int]
    dropped: int


def fit_messages(
    messages: Sequence[Message],
    limit: int,
    render: Callable[[Sequence[Message]], str],
    tokenize: Callable[[str], list[int]],
) -> Fitted:
    """Drop the oldest messages, never a system message or the last one, until at most *limit* tokens are left.

    *render* and *tokenize* are called once if everything fits, at most once per message otherwise.
    """
    tried: int | None = None
    for first in range(max(len(messages), 1)):
        earlier = [message for message in messages[:first] if message.role == "system"]
        kept = [*earlier, *messages[first:]]
        if tried == len(kept):  # the message that would go is a system message, which stays
            continue
        tried = len(kept)
        text = render(kept)
        tokens = tokenize(text)
        if len(tokens) <= limit:
            break
    return Fitted(text, tokens, len(messages) - len(kept))


def shift_limit(num_ctx: int, keep: int) -> int:
    """Number of tokens that a prompt is cut to: half of what is not kept stays free."""
    if num_ctx <= 1:
        return 0
    keep = min(max(keep, 0), num_ctx - 1)
    return num_ctx - max((num_ctx - keep) // 2, 1)


def kept_tokens(num_keep: int, num_ctx: int, *, adds_bos: bool, prompt_tokens: int) -> int:
    """First tokens that a cut leaves alone; a negative *num_keep* means the whole prompt."""
    keep = prompt_tokens if num_keep < 0 else num_keep + adds_bos
    return min(keep, num_ctx - 1)


def cut_tokens(tokens: Sequence[int], num_ctx: int, num_keep: int, *, adds_bos: bool, shift: bool) -> list[int]:
    """Return the first tokens and as much of the tail as fits; all of them if they fit beside one new token.

    Raises:
        PromptTooLong: They do not fit and *shift* is off.
    """
    if num_ctx <= 1 or len(tokens) <= num_ctx - 1:
        return list(tokens)
    if not shift:
        raise PromptTooLong
    keep = kept_tokens(num_keep, num_ctx, adds_bos=adds_bos, prompt_tokens=len(tokens))
    tail = shift_limit(num_ctx, keep) - keep
    return [*tokens[:keep], *(tokens[-tail:] if tail > 0 else ())]


def predict_limit(num_predict: int, num_ctx: int) -> int:
    """Most tokens to generate: none or absurdly many means ten contexts."""
    if num_ctx > 0 and (num_predict < 0 or num_predict > 10 * num_ctx):
        return 10 * num_ctx
    return num_predict
