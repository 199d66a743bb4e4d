"""A `Generate` or `Chat` to the token ids that the engine continues."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ollamad.plugin.backend import Model
from ollamad.prompt.render import ChatTemplate
from ollamad.runner_child.fitting import cut_tokens, fit_messages
from ollamad.types import Message
from ollamad.wire.messages import Chat, Generate

#: Tokenizers that add BOS although their flag may not say so. Source: models contract §7.12.
_BOS_PRE = ("lfm2", "gemma4")
_BOS_MODEL = ("gemma4",)


@dataclass(frozen=True, slots=True)
class Prompt:
    """What the model will see; ``text`` is before `cut_tokens`, ``cut`` is how many tokens that took out."""

    text: str
    tokens: list[int]
    cut: int = 0
    dropped: int = 0


class PromptMaker:
    """Renders, counts and fits prompts for one loaded model. Its methods may be called from any thread."""

    def __init__(self, model: Model, template: ChatTemplate, ctx_len: int) -> None:
        self._model = model
        self._template = template
        self._ctx_len = ctx_len
        facts = model.description
        self._own_bos = (
            facts.adds_bos
            or facts.metadata.get("tokenizer.ggml.pre") in _BOS_PRE
            or facts.metadata.get("tokenizer.ggml.model") in _BOS_MODEL
        )

    def num_ctx(self, asked: int) -> int:
        """Tokens that a prompt may be fitted to: the smaller of what was asked and what is loaded."""
        return min(asked, self._ctx_len) if asked > 0 else self._ctx_len

    def make(self, task: Generate | Chat, *, shift: bool) -> Prompt:
        """Return the prompt of *task*.

        Raises:
            PromptTooLong: A `Generate` that does not fit, *shift* off. A `Chat` that does not fit is the
                engine's to refuse.
            TemplateFailed, InvalidMessages: See `ChatTemplate.render`.
            ValueError: A number of ``prefix_tokens`` is no token.
        """
        num_ctx = self.num_ctx(task.num_ctx)
        dropped = 0
        tokens: list[int] | None
        if isinstance(task, Chat) or task.messages:
            text, tokens, dropped = self._from_messages(task, num_ctx)
        else:
            text, tokens = self.without_bos(task.prompt), None
        if isinstance(task, Chat):
            return Prompt(text, self.tokenize(text) if tokens is None else tokens, 0, dropped)
        if task.prefix_tokens:
            text, tokens = self.without_bos(self.text_of(task.prefix_tokens) + text), None
        tokens = self.tokenize(text) if tokens is None else tokens
        if not task.truncate or len(text.encode("utf-8", "replace")) < num_ctx:
            return Prompt(text, tokens, 0, dropped)
        fitted = cut_tokens(
            tokens,
            num_ctx,
            task.parameters.num_keep,
            adds_bos=self._model.description.adds_bos,
            shift=shift,
        )
        return Prompt(text, fitted, len(tokens) - len(fitted), dropped)

    def render(self, messages: Sequence[Message], think: bool | str | None = None) -> str:
        """Return the text of *messages*; the tokenizer's own BOS is left to it."""
        return self.without_bos(self._template.render(messages, think=think))

    def tokenize(self, text: str) -> list[int]:
        """Return the tokens of a prompt, with BOS and EOS as the model wants them."""
        return self._model.tokenize(text, add_special=True, parse_special=True)

    def text_of(self, tokens: Sequence[int]) -> str:
        """Return the texts of *tokens* one after the other, special ones too.

        Raises:
            ValueError: A number is no token.
        """
        return b"".join(self._model.piece(token, special=True) for token in tokens).decode("utf-8", "replace")

    def without_bos(self, text: str) -> str:
        """*text* without one leading BOS, if the tokenizer adds its own."""
        if not self._own_bos:
            return text
        own = self._model.description.bos_text
        if own and text.startswith(own):
            return text[len(own) :]
        return text.removeprefix("<bos>")

    def _from_messages(self, task: Generate | Chat, num_ctx: int) -> tuple[str, list[int] | None, int]:
        if not task.truncate:
            return self.render(task.messages, task.think), None, 0
        fitted = fit_messages(task.messages, num_ctx, lambda kept: self.render(kept, task.think), self.tokenize)
        return fitted.text, fitted.tokens, fitted.dropped
