"""One running answer: tokens from the engine to `Delta`s, its end to `Done` or `Failed`."""

from __future__ import annotations

from collections.abc import Callable

from ollamad.engine.engine import Outcome
from ollamad.plugin.backend import Model
from ollamad.runner_child.prompts import Prompt, PromptMaker
from ollamad.runner_child.text import OutputText, RepeatGuard
from ollamad.wire.messages import Chat, Delta, Done, Failed, Generate, Up


class Answer:
    """The engine's listener for a `Generate` or `Chat`.

    Runs in: runner, engine thread. `send` must not block.
    """

    def __init__(
        self,
        request_id: str,
        task: Generate | Chat,
        prompt: Prompt,
        *,
        model: Model,
        prompts: PromptMaker,
        send: Callable[[Up], None],
    ) -> None:
        self._id = request_id
        self._task = task
        self._prompt = prompt
        self._model = model
        self._prompts = prompts
        self._send = send
        self._output = OutputText(task.parameters.stop)
        self._guard = RepeatGuard() if isinstance(task, Generate) else None
        self._looping = False
        self._sent: list[str] = []

    def token(self, token: int) -> bool:
        """Send the text of a token; False at a stop string, or when the answer repeats one piece for ever."""
        text = self._output.feed(self._model.piece(token))
        if text:
            if self._guard is not None and self._guard.loops(text):
                self._looping = True
                return False
            self._send_text(text)
        return not self._output.stopped

    def finished(self, outcome: Outcome) -> None:
        """Send the last message of this request."""
        if outcome.reason == "cancelled":
            self._send(Failed(self._id, "cancelled", "the request was cancelled"))
        elif outcome.reason == "failed":
            self._send(Failed(self._id, "too_long" if outcome.too_long else "internal", outcome.error))
        else:
            self._send_done(outcome)

    def _send_done(self, outcome: Outcome) -> None:
        held = "" if self._looping else self._output.finish()
        if held:
            self._send_text(held)
        tokens: tuple[int, ...] = ()
        if isinstance(self._task, Generate) and self._task.wants_context:
            tokens = tuple(self._prompts.tokenize(self._prompt.text + "".join(self._sent)))
        self._send(
            Done(
                self._id,
                reason="length" if outcome.reason == "length" or self._looping else "stop",
                timings=outcome.timings,
                tokens=tokens,
                prompt_cut_tokens=self._prompt.cut,
                messages_dropped=self._prompt.dropped,
                context_shifts=outcome.shifts,
            )
        )

    def _send_text(self, text: str) -> None:
        self._sent.append(text)
        self._send(Delta(self._id, text))
