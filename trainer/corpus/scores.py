"""How good tags are: macro-F1 beside that of always guessing the commonest, who is taken for whom, how sure is how right.

Macro-F1 weighs each genre alike, however few passages it has; it is taken over the genres that there is something to ask
about. Passages of one book are right or wrong together, so with few books every figure here is rough: the number of books is
kept beside them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Protocol

STEPS = 20
"""Confidence is looked at in steps of a twentieth."""
FEW = 30
"""Passages that a share must be of before a threshold is read off it."""
_BATCH = 1000


@dataclass(frozen=True)
class Labelled:
    """A passage whose genre somebody named."""

    text: str
    genre: str
    book: str
    """What it was taken from; passages of one book share their characters."""
    source: str = ""
    """The source of the book, so that one with a thousand short books does not crowd out the others."""


class Tagger(Protocol):
    """What names the genre of texts, and how sure it is, from 0 to 1."""

    def tag(self, texts: Sequence[str]) -> list[tuple[str, float]]: ...


@dataclass(frozen=True)
class GenreScore:
    """One genre's share in the scores."""

    passages: int
    """Of this genre; with 0 there was nothing to ask, and the genre is not in the macro-F1."""
    precision: float
    """Of those given this tag, how many are of it; 0 where none was."""
    recall: float
    f1: float


@dataclass(frozen=True)
class Confidence:
    """Passages of which the tagger was about as sure."""

    least: float
    """From here up to a twentieth more."""
    passages: int
    mean: float
    accuracy: float


@dataclass(frozen=True)
class Kept:
    """What a threshold keeps."""

    threshold: float
    share: float
    precision: float
    """Of what is kept, how much is right."""


@dataclass(frozen=True)
class Scores:
    """What tags of passages with known genres were worth."""

    genres: tuple[str, ...]
    passages: int
    books: int
    accuracy: float
    macro_f1: float
    majority: str
    """The commonest genre of these passages."""
    majority_macro_f1: float
    """Of always guessing it."""
    confusion: tuple[tuple[int, ...], ...]
    """Passages by true genre (rows) and by tag (columns), in the order of `genres`."""
    by_genre: dict[str, GenreScore]
    reliability: tuple[Confidence, ...]
    """Where there are passages, from unsure to sure."""
    kept: tuple[Kept, ...]
    """For each twentieth that keeps anything."""


def score(tagger: Tagger, passages: Iterable[Labelled]) -> Scores:
    """Tag passages of known genre, a thousand at a time, and count. Raises ValueError for none."""
    asked, rest = [], iter(passages)
    books: set[str] = set()
    while batch := list(islice(rest, _BATCH)):
        tags = tagger.tag([passage.text for passage in batch])
        asked += [(passage.genre, *tag) for passage, tag in zip(batch, tags, strict=True)]
        books.update(passage.book for passage in batch)
    return count(asked, len(books))


def count(asked: Sequence[tuple[str, str, float]], books: int) -> Scores:
    """The scores of (true genre, tag, confidence). Raises ValueError for none."""
    if not asked:
        raise ValueError("no passage to score")
    pairs = Counter((true, tag) for true, tag, _ in asked)
    genres = tuple(sorted({genre for pair in pairs for genre in pair}))
    by_genre = {genre: _genre_score(genre, pairs) for genre in genres}
    support = [genre for genre in genres if by_genre[genre].passages]
    majority = max(support, key=lambda genre: by_genre[genre].passages)
    share = by_genre[majority].passages / len(asked)
    return Scores(
        genres=genres,
        passages=len(asked),
        books=books,
        accuracy=sum(pairs[genre, genre] for genre in genres) / len(asked),
        macro_f1=sum(by_genre[genre].f1 for genre in support) / len(support),
        majority=majority,
        majority_macro_f1=2 * share / (1 + share) / len(support),
        confusion=tuple(tuple(pairs[true, tag] for tag in genres) for true in genres),
        by_genre=by_genre,
        reliability=_reliability(asked),
        kept=_kept(asked),
    )


def threshold_for(scores: Scores, precision: float = 0.8) -> float:
    """The lowest threshold from which at least this share of what is kept is right; above 1, keeping nothing, where none is.

    Reading it off the passages that it is judged by flatters it a little; a twentieth is too coarse a step to flatter much.
    """
    enough = [kept for kept in scores.kept if kept.share * scores.passages >= min(FEW, scores.passages / 2)]
    good = [kept.threshold for kept in enough if kept.precision >= precision]
    return min(good, default=1.01)


def as_json(scores: Scores) -> dict[str, Any]:
    """The scores without the tables, for one line of figures."""
    return {
        "passages": scores.passages,
        "books": scores.books,
        "accuracy": scores.accuracy,
        "macro_f1": scores.macro_f1,
        "majority": scores.majority,
        "majority_macro_f1": scores.majority_macro_f1,
        "f1": {genre: found.f1 for genre, found in scores.by_genre.items() if found.passages},
    }


def _genre_score(genre: str, pairs: Counter[tuple[str, str]]) -> GenreScore:
    right = pairs[genre, genre]
    passages = sum(number for (true, _), number in pairs.items() if true == genre)
    tagged = sum(number for (_, tag), number in pairs.items() if tag == genre)
    return GenreScore(
        passages,
        precision=right / tagged if tagged else 0.0,
        recall=right / passages if passages else 0.0,
        f1=2 * right / (passages + tagged),
    )


def _reliability(asked: Sequence[tuple[str, str, float]]) -> tuple[Confidence, ...]:
    steps: dict[int, list[tuple[float, bool]]] = {}
    for true, tag, sure in asked:
        steps.setdefault(min(int(sure * STEPS), STEPS - 1), []).append((sure, true == tag))
    return tuple(
        Confidence(
            step / STEPS,
            len(found),
            sum(sure for sure, _ in found) / len(found),
            sum(right for _, right in found) / len(found),
        )
        for step, found in sorted(steps.items())
    )


def _kept(asked: Sequence[tuple[str, str, float]]) -> tuple[Kept, ...]:
    kept: list[Kept] = []
    for step in range(STEPS):
        right = [true == tag for true, tag, sure in asked if sure >= step / STEPS]
        if right:
            kept.append(Kept(step / STEPS, len(right) / len(asked), sum(right) / len(right)))
    return tuple(kept)
