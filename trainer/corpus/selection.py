"""Which passages make the corpus, and in which order: genres as even as they can be, sources by their weights.

Each passage draws a key, smaller by chance the greater its source's weight, and each genre takes its smallest ones: a weighted
sample without replacement (Efraimidis and Spirakis 2006). It is a function of the seed and the passages alone.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Indices = NDArray[np.int64]


def choose(
    genres: NDArray[np.int64], weights: NDArray[np.float64], candidates: Indices, lines: int | None, seed: int
) -> Indices:
    """The numbers of the passages that are taken, in the order in which they are written.

    `genres` and `weights` are of all passages; `candidates` are the numbers of those to choose from; lines None takes all.
    """
    random = np.random.default_rng(seed)
    # Drawn for all passages, so that one passage less does not shift the luck of the rest.
    keys = -np.log1p(-random.random(len(genres))) / weights
    order = random.random(len(genres))
    chosen = candidates if lines is None or lines >= len(candidates) else _evenly(genres, keys, candidates, lines)
    return chosen[np.argsort(order[chosen], kind="stable")]


def _evenly(genres: NDArray[np.int64], keys: NDArray[np.float64], candidates: Indices, lines: int) -> Indices:
    names, counts = np.unique(genres[candidates], return_counts=True)
    parts: list[Indices] = []
    for name, quota in zip(names, quotas(counts.tolist(), lines), strict=True):
        members = candidates[genres[candidates] == name]
        parts.append(members[np.argsort(keys[members], kind="stable")[:quota]])
    return np.concatenate(parts)


def quotas(counts: list[int], lines: int) -> list[int]:
    """How many of each genre, given how many there are: alike, and where one has fewer, the others take its place."""
    found = [0] * len(counts)
    left, open_genres = lines, sorted(range(len(counts)), key=lambda index: counts[index])
    for position, index in enumerate(open_genres):
        share = left / (len(open_genres) - position)
        found[index] = min(counts[index], int(share + 0.5) if position < len(open_genres) - 1 else left)
        left -= found[index]
    return found
