"""Genres for passages that nobody labelled, by a classifier that is learnt from those that somebody did.

Only training passages teach it, and held-out books say how good it is. Under the confidence at which four of five are right a
passage is left out: a wrong tag teaches a model the wrong thing, and one passage less teaches it nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import cast

import numpy as np
from numpy.typing import NDArray

from trainer.corpus.classifier import CannotLearn, GenreClassifier, learn
from trainer.corpus.scores import Labelled, Scores, score, threshold_for
from trainer.corpus.sides import Sides
from trainer.corpus.staged import Staged

Indices = NDArray[np.int64]
_BATCH = 1000
TAUGHT_PER_GENRE = 4000
ASKED_PER_GENRE = 600


@dataclass(frozen=True)
class Tagging:
    """What the classifier was, and what it tagged."""

    scores: Scores | None
    """On held-out books; None where it could not be learnt or asked."""
    threshold: float
    tagged: int
    left_out: int
    mean_confidence: float
    """Of those tagged."""
    problem: str | None = None
    """Why nothing could be tagged."""


class Tags:
    """The genre of each staged passage, given by its source or found."""

    def __init__(self, staged: Staged, sides: Sides) -> None:
        """Knows what the sources say."""
        self._staged = staged
        self._sides = sides
        self.genres = staged.names("genre")

    @property
    def known(self) -> NDArray[np.bool_]:
        """Which passages have a genre."""
        return np.fromiter((genre is not None for genre in self.genres), np.bool_, len(self.genres))

    @property
    def untagged(self) -> Indices:
        """The kept passages without a genre."""
        kept = self._sides.train | self._sides.asked
        return np.flatnonzero(kept & ~self.known)

    def find(self, confidence: float | None, seed: int, progress: Callable[[int], None]) -> Tagging | None:
        """Tag what is untagged, where the classifier is sure enough; None where all is tagged or nothing says a genre."""
        untagged = self.untagged
        labelled = np.flatnonzero(self._sides.train & self.known)
        if not len(untagged) and len(set(self.genres[labelled])) < 2:
            return None
        try:
            classifier = learn(self._labelled(_spread(labelled, self.genres, TAUGHT_PER_GENRE, seed)), seed)
        except CannotLearn as problem:
            return Tagging(None, 1.0, 0, len(untagged), 0.0, str(problem))
        asked = np.flatnonzero(self._sides.asked & self.known)
        scores = score(classifier, self._labelled(_spread(asked, self.genres, ASKED_PER_GENRE, seed))) if len(asked) else None
        threshold = confidence if confidence is not None else threshold_for(scores) if scores else 0.8
        return self._tag(classifier, scores, threshold, untagged, progress)

    def _tag(
        self,
        classifier: GenreClassifier,
        scores: Scores | None,
        threshold: float,
        untagged: Indices,
        progress: Callable[[int], None],
    ) -> Tagging:
        sure: list[float] = []
        for start in range(0, len(untagged), _BATCH):
            chosen = untagged[start : start + _BATCH]
            for index, (genre, confidence) in zip(chosen, classifier.tag(list(self._staged.texts(chosen))), strict=True):
                if confidence >= threshold:
                    self.genres[index] = genre
                    sure.append(confidence)
            progress(start + len(chosen))
        mean = sum(sure) / len(sure) if sure else 0.0
        return Tagging(scores, threshold, len(sure), len(untagged) - len(sure), mean)

    def _labelled(self, indices: Indices) -> list[Labelled]:
        return list(self._each_labelled(indices))

    def _each_labelled(self, indices: Indices) -> Iterator[Labelled]:
        genres = iter(self.genres[indices].tolist())
        for rows in self._staged.batches(indices, ["text", "book"]):
            for row in rows:
                yield Labelled(row["text"], cast("str", next(genres)), row["book"] or row["text"])


def _spread(indices: Indices, genres: NDArray[np.object_], most: int, seed: int) -> Indices:
    """At most so many passages of each genre, by chance."""
    random = np.random.default_rng(seed)
    parts = [random.permutation(indices[genres[indices] == name])[:most] for name in sorted(set(genres[indices]))]
    return np.sort(np.concatenate(parts)) if parts else indices
