"""The corpus, chosen: sides, duplicates, tags, and of each genre as many passages as are wanted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trainer.corpus.gathering import Tallies
from trainer.corpus.labels import asked_genres
from trainer.corpus.selection import choose
from trainer.corpus.sides import Sides, find_sides
from trainer.corpus.stage import Stage
from trainer.corpus.staged import Staged
from trainer.corpus.tagging import Tagging, Tags
from trainer.corpus.weights import WeightedSource
from trainer.errors import CorpusError
from trainer.settings import CorpusSettings
from trainer.talking import bars, say

Indices = NDArray[np.int64]


@dataclass(frozen=True)
class Corpus:
    """All that is known when the passages are chosen."""

    sources: Sequence[WeightedSource]
    staged: Staged
    tallies: Tallies
    sides: Sides
    tags: Tags
    tagging: Tagging | None
    train: Indices
    held_out: Indices


def choose_corpus(settings: CorpusSettings, sources: Sequence[WeightedSource], stage: Stage, tallies: Tallies) -> Corpus:
    """Sides, tags and the passages that are taken. Raises CorpusError where none is."""
    staged = stage.staged()
    with bars("done") as progress:
        sides = find_sides(staged, stage.folder / "fingerprints", settings.held_out, progress)
        tags = Tags(staged, sides)
        untagged = len(tags.untagged)
        tagging = tags.find(settings.confidence, settings.seed, lambda done: progress("Tagging", done, untagged))
    if tagging is not None and tagging.problem:
        say(tagging.problem)
    tagged = tags.known
    names = np.array(["" if genre is None else genre for genre in tags.genres])
    genres = np.unique(names, return_inverse=True)[1].astype(np.int64)
    weights = _weights(staged, sources)
    train = choose(genres, weights, np.flatnonzero(sides.train & tagged), settings.lines, settings.seed)
    asked = np.flatnonzero(sides.asked & tagged)
    held_out = choose(genres, weights, asked, _held_out_lines(settings, len(train)), settings.seed + 1)
    if not len(train) and sides.held_out.all():
        raise CorpusError(
            f"Every story of {', '.join(settings.sources)} is held out by the name of its file or folder (valid, test, dev, "
            "held-out), so none is left to learn from: rename it, or add another source."
        )
    if not len(train):
        raise CorpusError(
            "No story to learn from is left: none has a genre. Name labels with --label, or add tagged stories (stories:)."
        )
    if missing := [genre for genre in asked_genres(settings.genres) if genre not in set(tags.genres[train])]:
        say(f"There is no story of {', '.join(missing)} in {', '.join(settings.sources)}")
    if settings.lines is None and len({source.weight for source in sources}) > 1:
        say("The weights of the sources change nothing without --lines: all of their stories are taken")
    if settings.lines is not None and len(train) < settings.lines:
        say(f"There are {len(train):,} stories to learn from, fewer than the {settings.lines:,} lines asked for.")
    return Corpus(sources, staged, tallies, sides, tags, tagging, train, held_out)


def _held_out_lines(settings: CorpusSettings, train: int) -> int | None:
    """How many held-out passages go with so many to learn from: their share, where lines are counted."""
    if settings.lines is None:
        return None
    share = settings.held_out or 0.05
    return max(1, round(train * share / (1 - share)))


def _weights(staged: Staged, sources: Sequence[WeightedSource]) -> NDArray[np.float64]:
    known = {source.name: source.weight for source in sources}
    return np.fromiter((known[name] for name in staged.names("source")), np.float64, len(staged))
