"""The pictures of a corpus: how long its stories are, how its genres balance, which genre is taken for which."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from trainer.drawing import INK, figure, save

if TYPE_CHECKING:
    from trainer.corpus.scores import Scores

_PAPER = "Blues"


def draw_lengths(path: Path, words: NDArray[np.int64]) -> None:
    """A histogram of the stories' words; the longest hundredth is drawn into the last bar."""
    picture, axes = figure(7, 3.2)
    most = float(np.quantile(words, 0.99)) if len(words) else 1.0
    axes.hist(np.minimum(words, most), bins=40, color=INK)
    axes.set(title=f"Length of {len(words):,} stories", xlabel="words", ylabel="stories")
    save(picture, path)


def draw_genres(path: Path, sources: Mapping[str, Mapping[str, int]]) -> None:
    """How many stories each genre has, and from which sources: {source: {genre: stories}}."""
    genres = sorted({genre for counts in sources.values() for genre in counts})
    picture, axes = figure(7, 0.9 + 0.34 * max(3, len(genres)))
    left = np.zeros(len(genres))
    for name, counts in sources.items():
        stories = np.array([counts.get(genre, 0) for genre in genres])
        axes.barh(genres, stories, left=left, label=name)
        left += stories
    axes.invert_yaxis()
    axes.set(title="Stories of each genre", xlabel="stories")
    axes.legend(fontsize="small")
    save(picture, path)


def draw_confusion(path: Path, scores: Scores) -> None:
    """The confusion matrix of the genre classifier: shares of each true genre, with the counts written in."""
    counts = np.array(scores.confusion)
    shares = counts / np.maximum(1, counts.sum(axis=1, keepdims=True))
    size = 2 + 0.62 * len(scores.genres)
    picture, axes = figure(size + 0.8, size)
    axes.imshow(shares, cmap=_PAPER, vmin=0, vmax=1)
    axes.set_xticks(range(len(scores.genres)), scores.genres, rotation=45, ha="right", fontsize="small")
    axes.set_yticks(range(len(scores.genres)), scores.genres, fontsize="small")
    for row, column in np.ndindex(counts.shape):
        shade = "white" if shares[row, column] > 0.5 else "black"
        axes.text(column, row, f"{counts[row, column]}", ha="center", va="center", color=shade, fontsize="small")
    axes.set(
        title=f"{scores.passages:,} held-out passages, macro-F1 {scores.macro_f1:.3f}\n"
        f"(always {scores.majority}: {scores.majority_macro_f1:.3f})",
        xlabel="tagged as",
        ylabel="is",
    )
    save(picture, path)
