"""How alike stories are: 5-grams that two share, and how many of all 4-grams are different.

Words are compared in lower case without punctuation. Two stories of one mould share most of their 5-grams; two that merely use
the same language share next to none.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

_WORD = re.compile(r"[a-z0-9']+")
OVERLAP_GRAMS, DISTINCT_GRAMS = 5, 4


@dataclass(frozen=True)
class Variety:
    """How alike some stories are."""

    pairs: int
    over_half: float
    """The share of pairs in which more than half of the shorter story's 5-grams are in the other."""
    shared: float
    """The share of 5-grams that two stories have in common, in the mean."""
    distinct_4: float
    """Different 4-grams over all (distinct-n; Li et al. 2016). It falls with the number of stories."""


def words_of(text: str) -> list[str]:
    """The words of a text, as they are compared."""
    return _WORD.findall(text.lower())


def grams(words: Sequence[str], size: int) -> set[tuple[str, ...]]:
    """The different n-grams."""
    return {tuple(words[i : i + size]) for i in range(len(words) - size + 1)}


def distinct(texts: Sequence[str], size: int = DISTINCT_GRAMS) -> float:
    """Different n-grams over all n-grams."""
    words = [words_of(text) for text in texts]
    total = sum(max(0, len(each) - size + 1) for each in words)
    return len({gram for each in words for gram in grams(each, size)}) / max(1, total)


def overlaps(texts: Sequence[str], pairs: int, seed: int) -> list[float]:
    """For random pairs: how many of the shorter story's 5-grams the other has too, as a share."""
    random = Random(seed)
    fives = [grams(words_of(text), OVERLAP_GRAMS) for text in texts]
    drawn = [random.sample(range(len(texts)), 2) for _ in range(pairs if len(texts) > 1 else 0)]
    return [len(fives[one] & fives[other]) / max(1, min(len(fives[one]), len(fives[other]))) for one, other in drawn]


def variety(groups: Sequence[Sequence[str]], pairs: int, distinct_over: int, seed: int = 1) -> Variety:
    """Of random pairs within each group, and of as many stories as asked for, drawn from all groups alike."""
    shares = [share for group in groups for share in overlaps(group, -(-pairs // max(1, len(groups))), seed)]
    each = -(-distinct_over // max(1, len(groups)))
    mixed = [text for group in groups for text in group[:each]][:distinct_over]
    count = max(1, len(shares))
    return Variety(len(shares), sum(share > 0.5 for share in shares) / count, sum(shares) / count, distinct(mixed))
