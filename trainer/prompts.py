"""Prompts for stories that have none: the title, a few keywords, the first sentence, at times nothing, drawn anew each epoch.

So the model learns to write about a prompt of two words as well as of two lines. A keyword is a word that is frequent in the
story and rare in the corpus (TF-IDF); the price is one pass over the corpus for the document frequencies.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from random import Random

from trainer.passages import sentences

MAX_WORDS = 24
_WORD = re.compile(r"[^\W\d_]{3,}(?:'[^\W\d_]+)?")


@dataclass(frozen=True)
class PromptSources:
    """What a story's prompt can be drawn from, found once."""

    own: str | None
    """The prompt that came with the story; where there is one, it is the prompt."""
    title: str | None
    keywords: tuple[str, ...]
    """In the order of the story."""
    first_sentence: str

    def draw(self, random: Random) -> str:
        """One prompt; empty for none."""
        if self.own is not None:
            return self.own
        if self.title is not None and random.random() < 0.4:
            return self.title
        kind = random.random()
        if kind < 0.2:
            return ""
        if kind < 0.4 or not self.keywords:
            return self.first_sentence
        chosen = set(random.sample(self.keywords, random.randint(1, min(4, len(self.keywords)))))
        return (", " if random.random() < 0.3 else " ").join(word for word in self.keywords if word in chosen)


class PromptFinder:
    """Finds the prompt sources of each story of a corpus."""

    def __init__(self, texts: Callable[[], Iterable[str]]) -> None:
        """`texts` is asked for the corpus when the first story without a prompt of its own comes, and never before."""
        self._texts = texts

    @cached_property
    def _counted(self) -> tuple[int, Counter[str]]:
        """The number of texts, and in how many of them each word occurs."""
        documents, frequency = 0, Counter[str]()
        for text in self._texts():
            documents += 1
            frequency.update({word.lower() for word in _WORD.findall(text)})
        return documents, frequency

    def find(self, text: str, *, prompt: str | None = None, title: str | None = None) -> PromptSources:
        """The sources for one story."""
        if prompt is not None:
            return PromptSources(prompt, None, (), "")
        first = " ".join(sentences(text.split("\n\n", 1)[0].replace("\n", " "))[0].split()[:MAX_WORDS])
        return PromptSources(None, title, self._keywords(text), first)

    def _keywords(self, text: str, most: int = 8) -> tuple[str, ...]:
        counts = Counter(word.lower() for word in _WORD.findall(text))
        weight = {word: number * self._rarity(word) for word, number in counts.items()}
        best = sorted((word for word in weight if weight[word] > 0), key=lambda word: (-weight[word], word))[:most]
        return tuple(word for word in counts if word in set(best))

    def _rarity(self, word: str) -> float:
        """Inverse document frequency in nats; 0 for what every fourth story has, and for what hardly any other of many has."""
        documents, frequencies = self._counted
        frequency = frequencies[word]
        if 4 * frequency > documents + 3 or frequency < min(3, documents // 1000 + 1):
            return 0.0
        return math.log((1 + documents) / frequency)
