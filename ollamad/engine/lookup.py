"""Guesses from the text itself: what followed the last tokens when they stood there before.

Code that is edited, JSON, quotes and summaries repeat their prompt or themselves. Pure: a `Lookup` is told the
tokens of one sequence and says what may follow, and how likely that is by what came true so far.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Sequence as ReadOnly

from ollamad.engine.sequence import Sequence
from ollamad.engine.speculation import MOST_GUESSES, Guess

#: Tokens that have to agree before anything is guessed.
_NGRAM = 3
#: Earlier places that are compared when the text takes a new turn.
_PLACES = 8
_MOST_AGREEMENT = 32
#: Tokens of a prompt that are searched, from its end. Indexing takes 0.3 µs a token.
_SEARCHED = 32_768
#: Chance that a guess is right, by class of the agreement, before the sequence itself has shown it.
_FIRST_CHANCES = (0.3, 0.5, 0.7, 0.85, 0.95)
#: A chance follows the last this many guesses of its class; the first few count for it as much as two.
_MEMORY = 12
_FIRST_WEIGHT = 2
#: The class of each agreement: 3, 4 to 7, 8 to 15, 16 to 31, 32 and more tokens.
_CLASSES = tuple(
    min((agreement >> 2).bit_length(), len(_FIRST_CHANCES) - 1) for agreement in range(_MOST_AGREEMENT + MOST_GUESSES)
)


class Lookup:
    """The text of one sequence, and the earlier place that it seems to repeat.

    Every token is compared with what would have been guessed, whether it was guessed or not. So the chances are
    known without paying for guesses, and a sequence whose text begins or ceases to repeat itself is noticed.
    """

    __slots__ = ("_agreement", "_chances", "_earlier", "_expected", "_index", "_place", "_seen", "_text")

    def __init__(self, tokens: ReadOnly[int]) -> None:
        self._text = list(tokens[-_SEARCHED:])
        #: Where the tokens behind an n-gram stand, for its last occurrence; ``_earlier[i]`` is the one before i.
        self._index: dict[tuple[int, int, int], int] = {}
        self._earlier = [0] * (len(self._text) + 1)
        self._chances = list(_FIRST_CHANCES)
        self._seen = [_FIRST_WEIGHT] * len(_FIRST_CHANCES)
        self._place = 0  # the next token is expected to be the one at this index; 0 is none
        self._expected = 0  # where the next token would stand, had the last repetition gone on
        self._agreement = 0
        text, index, earlier = self._text, self._index, self._earlier
        for place, ngram in enumerate(zip(text, text[1:], text[2:-1], strict=False), _NGRAM):
            earlier[place] = index.get(ngram, 0)
            index[ngram] = place
        self._note_last()

    def took(self, token: int) -> None:
        """The sequence goes on with *token*."""
        text, place = self._text, self._place
        right = False
        if place:
            right = text[place] == token
            kind = _CLASSES[min(self._agreement, _MOST_AGREEMENT)]
            seen = self._seen[kind]
            self._chances[kind] += (right - self._chances[kind]) / (seen + 1)
            if seen < _MEMORY:
                self._seen[kind] = seen + 1
        text.append(token)
        self._earlier.append(0)
        self._expected += self._expected > 0
        if right:
            self._place += 1
            self._agreement += 1
            self._expected = self._place
        else:
            self._place = 0
        self._note_last()

    def guess(self, most: int) -> tuple[list[int], list[float]]:
        """Up to *most* tokens that may follow, and the chance of each if those before it are right."""
        place = self._place
        if not place or most <= 0:
            return [], []
        tokens = self._text[place : place + most]
        while len(tokens) < most:  # the repeated text ends here: it repeats itself again
            tokens += tokens[: most - len(tokens)]
        chances, agreement = self._chances, min(self._agreement, _MOST_AGREEMENT)
        return tokens, [chances[kind] for kind in _CLASSES[agreement : agreement + most]]

    def _note_last(self) -> None:
        """Enter the last tokens into the index and, if nothing is being repeated, look for them there."""
        text = self._text
        if len(text) < _NGRAM:
            return
        ngram = (text[-3], text[-2], text[-1])
        last = self._index.get(ngram, 0)
        if last and not self._place:
            self._place, self._agreement = self._best(last)
            self._expected = self._place
        self._earlier[len(text)] = last
        self._index[ngram] = len(text)

    def _best(self, place: int) -> tuple[int, int]:
        """The place with the longest agreement; of equal ones the nearest to where the last repetition would be."""
        best, best_agreement, best_distance = 0, 0, 0
        for _ in range(_PLACES):
            agreement = self._agrees(place)
            distance = abs(place - self._expected) if self._expected else 0
            if agreement > best_agreement or (agreement == best_agreement and distance < best_distance):
                best, best_agreement, best_distance = place, agreement, distance
            place = self._earlier[place]
            if not place:
                break
        return best, best_agreement

    def _agrees(self, place: int) -> int:
        """How many tokens before *place* are those at the end."""
        text, count = self._text, _NGRAM
        most = min(_MOST_AGREEMENT, place)
        while count < most and text[place - 1 - count] == text[-1 - count]:
            count += 1
        return count


class LookupGuesser:
    """A `Guesser` with a `Lookup` for each sequence that generates.

    It sees all end-of-generation tokens of a prompt as one, and never guesses it or beyond: the row before it is
    where an end would be chosen.
    """

    def __init__(self, is_end: Callable[[int], bool]) -> None:
        self._is_end = is_end
        self._lookups: dict[Sequence, Lookup] = {}
        self._said: dict[Sequence, list[int]] = {}

    def guess(self, wanted: ReadOnly[tuple[Sequence, int]]) -> list[Guess]:
        return [self._guess(sequence, most) for sequence, most in wanted]

    def took(self, sequence: Sequence, token: int) -> None:
        lookup = self._lookups.get(sequence)
        if lookup is not None:
            lookup.took(token)
        else:  # the index of the prompt is made when it is needed, not before the first token is delivered
            self._said.setdefault(sequence, []).append(token)

    def forget(self, sequence: Sequence) -> None:
        self._lookups.pop(sequence, None)
        self._said.pop(sequence, None)

    def _guess(self, sequence: Sequence, most: int) -> Guess:
        lookup = self._lookups.get(sequence) or self._begin(sequence)
        tokens, chances = lookup.guess(most)
        if not tokens:
            return _NOTHING
        if _END in tokens:
            count = tokens.index(_END)
            return Guess(tokens[:count], chances[:count])
        return Guess(tokens, chances)

    def _begin(self, sequence: Sequence) -> Lookup:
        prompt = sequence.work.tokens[-_SEARCHED:]
        ends = {token for token in set(prompt) if self._is_end(token)}
        lookup = Lookup([_END if token in ends else token for token in prompt] if ends else prompt)
        for token in self._said.pop(sequence, ()):
            lookup.took(token)
        self._lookups[sequence] = lookup
        return lookup


_END = -1
_NOTHING = Guess()
