"""Events of an answer to a stream of records, or to one whole answer (http-api contract 2.4)."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

from ollamad.plugin import Answer, Event, Finished, HttpRequest, OllamadError, Piece, Reply, Stream
from ollamad_ollama_api.encode import Records, error_line, joined
from ollamad_ollama_api.errors import RECORD, Words, text_of, translate


@dataclass(frozen=True, slots=True)
class Telling:
    """How one answer is told to its client."""

    request: HttpRequest
    records: Records
    words: Words

    async def tell(self, answer: Answer, *, stream: bool) -> Reply | Stream:
        """Send *answer*; it is closed when the client has all of it, or left, or it failed."""
        headers = {"X-Ollamad-Load-Ns": str(answer.load_ns)}
        try:
            events = aiter(answer)
            if not stream:
                reply = await self._whole(events, headers)
                await answer.aclose()
                return reply
            first = await anext(events, None)
        except OllamadError as error:
            await answer.aclose()
            return translate(error, self.words, RECORD) if stream else translate(error, self.words)
        except BaseException:
            await answer.aclose()
            raise
        return Stream(self._lines(answer, first, events), headers=headers)

    async def _lines(self, answer: Answer, first: Event | None, events: AsyncIterator[Event]) -> AsyncIterator[bytes]:
        try:
            if first is not None:
                yield self._line(first)
            async for event in events:
                yield self._line(event)
        except OllamadError as error:
            yield error_line(text_of(error, self.words))
        finally:
            await answer.aclose()

    def _line(self, event: Event) -> bytes:
        if isinstance(event, Piece):
            return self.records.piece(event)
        return self.records.whole(event, total_ns=self._total_ns(), detail=self._detail(event)) + b"\n"

    async def _whole(self, events: AsyncIterator[Event], headers: dict[str, str]) -> Reply:
        pieces: list[Piece] = []
        finished: Finished | None = None
        async for event in events:
            if isinstance(event, Piece):
                pieces.append(event)
            else:
                finished = event
        content, thinking = joined(pieces)
        detail = None
        if finished is not None:
            headers |= _cut_headers(finished)
            detail = self._detail(finished)
        body = self.records.whole(
            finished, total_ns=self._total_ns(), content=content, thinking=thinking, detail=detail
        )
        return Reply(200, body, headers=headers)

    def _total_ns(self) -> int:
        return time.monotonic_ns() - self.request.context.received_ns

    def _detail(self, finished: Finished) -> dict[str, Any] | None:
        """Facts that no peer tells, for a client that asks for them."""
        if self.request.headers.get("x-ollamad-detail") != "1":
            return None
        return {
            "cached_tokens": finished.timings.cached_tokens,
            "context_shifts": finished.context_shifts,
            "messages_dropped": finished.messages_dropped,
            "prompt_cut_tokens": finished.prompt_cut_tokens,
            "request_id": self.request.context.id,
        }


def _cut_headers(finished: Finished) -> dict[str, str]:
    """What was done to a prompt that did not fit; told only where something was done."""
    facts = {
        "X-Ollamad-Prompt-Cut-Tokens": finished.prompt_cut_tokens,
        "X-Ollamad-Messages-Dropped": finished.messages_dropped,
        "X-Ollamad-Context-Shifts": finished.context_shifts,
    }
    return {name: str(value) for name, value in facts.items() if value}
