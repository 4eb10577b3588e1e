"""One text's own part in the draws: what it has seen, what is banned for it, and its random numbers.

A random source is Python's: it takes a seed of any size and promises the same numbers in later versions, where torch's CPU
generator looks at the low 32 bits of a seed only. One number a token, so a text's numbers can't depend on its neighbours.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Sequence
from itertools import islice

from bot.engine.bans import BannedWords, NgramLedger
from bot.engine.interface import GREEDY_BELOW, Sampling
from bot.engine.sampling import LARGEST_UNIFORM


class TextDraws:
    """What one text has seen and its own random numbers.

    The repetition penalty counts prompt and new text alike, as in transformers; no_repeat_ngram counts the new text only, so
    that a story may say the words of its prompt; banned words may begin in the prompt.
    """

    def __init__(self, sampling: Sampling, seed: int, prompt_ids: Sequence[int]) -> None:
        self.sampling = sampling
        self.greedy = sampling.temperature < GREEDY_BELOW
        self.penalised = sampling.repetition_penalty != 1
        self.narrowed = self.greedy or sampling.top_k > 0 or sampling.top_p < 1 or sampling.min_p > 0
        self._random = random.Random(seed)
        self._ahead: deque[float] = deque()  # random numbers that no token was drawn by
        self._known = set(prompt_ids) if self.penalised else set[int]()
        self.seen = list(dict.fromkeys(prompt_ids)) if self.penalised else list[int]()
        """Each different token once, in the order of their first use; empty without a repetition penalty."""
        self._ngrams = NgramLedger(sampling.no_repeat_ngram) if sampling.no_repeat_ngram > 0 else None
        self._words = BannedWords(sampling.banned_ids, prompt_ids) if sampling.banned_ids else None

    @property
    def bans_change(self) -> bool:
        """Whether what is banned depends on the text so far."""
        return self._ngrams is not None or (self._words is not None and not self._words.constant)

    def uniforms(self, count: int) -> list[float]:
        """The numbers for the next tokens: one is used up by each `note`, so that a round can be tried again."""
        if self.greedy:
            return [0.0] * count
        while len(self._ahead) < count:
            self._ahead.append(min(self._random.random(), LARGEST_UNIFORM))
        return list(islice(self._ahead, count))

    def banned(self, writable: int) -> Sequence[int]:
        """The tokens that must not come next. A ban that leaves none of the `writable` tokens is lifted."""
        words = self._words.banned() if self._words else ()
        ngrams = self._ngrams.banned() if self._ngrams else ()
        if not words and not ngrams:
            return ()
        for banned in ({*words, *ngrams}, set(words)):
            if len(banned) < writable:
                return sorted(banned)
        return ()

    def note(self, token: int) -> bool:
        """The text goes on with this token; whether `seen` has grown by it."""
        if self._ahead:
            self._ahead.popleft()
        if self._ngrams:
            self._ngrams.add(token)
        if self._words and not self._words.constant:
            self._words.add(token)
        if not self.penalised or token in self._known:
            return False
        self._known.add(token)
        self.seen.append(token)
        return True
