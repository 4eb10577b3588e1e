"""The genre of untagged passages, learnt from tagged ones: TF-IDF and complement naive Bayes (Rennie et al. 2003).

What gives a book away must not count as its genre: names. So a word that only ever has a capital in a book's passages is left
out, and so is one that fewer than a few books have. Naive Bayes, since it stays steady where a genre has four books; its odds
are too sure of themselves, and are cooled until on held-out folds of books they are as right as they say (Guo et al. 2017).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from trainer.corpus.scores import Labelled
from trainer.errors import CorpusError
from trainer.sources.lots import lot

LEAST_PASSAGES = 30
"""Of a genre, under which nothing is learnt of it."""
BOOKS_OF_A_WORD = 3
FOLDS = 5
_WORD = re.compile(r"[A-Za-z][a-z']*[a-z]")
_TEMPERATURES = np.geomspace(0.05, 20, 60)

Probabilities = NDArray[np.float64]


class CannotLearn(CorpusError):
    """There is too little tagged text to learn genres from."""


def lower_words(text: str) -> list[str]:
    """The words of a passage that it has in small letters somewhere: a name is none of them."""
    found = _WORD.findall(text)
    small = {word for word in found if word[0].islower()}
    return [word for word in map(str.lower, found) if word in small]


class GenreClassifier:
    """Tells genres; made by `learn`."""

    def __init__(self, vectors: Any, bayes: Any, temperature: float) -> None:
        """The vectorizer and the model of scikit-learn, both fitted."""
        self._vectors = vectors
        self._bayes = bayes
        self._temperature = temperature

    @property
    def genres(self) -> tuple[str, ...]:
        """Those that it knows."""
        return tuple(str(name) for name in self._bayes.classes_)

    def tag(self, texts: Sequence[str]) -> list[tuple[str, float]]:
        """The likeliest genre of each text, and how sure it is of it, from 0 to 1."""
        if not texts:
            return []
        odds = _cooled(_logits(self._bayes, self._vectors.transform(texts)), self._temperature)
        best = odds.argmax(axis=1)
        return [(self.genres[index], float(odds[row, index])) for row, index in enumerate(best)]


def learn(passages: Sequence[Labelled], seed: int) -> GenreClassifier:
    """A classifier from passages of training books. Raises CannotLearn."""
    counts: dict[str, int] = {}
    for passage in passages:
        counts[passage.genre] = counts.get(passage.genre, 0) + 1
    known = {genre for genre, count in counts.items() if count >= LEAST_PASSAGES}
    if len(known) < 2:
        raise CannotLearn(
            f"Genres can't be learnt from {len(passages):,} tagged passages: two genres with {LEAST_PASSAGES} each are needed. "
            "Passages without a genre are left out. Name their labels with --label, or add tagged stories, such as stories:."
        )
    taught = [passage for passage in passages if passage.genre in known]
    genres = np.array([passage.genre for passage in taught])
    books = [passage.book for passage in taught]
    vectors, matrix = _vectorize(taught, books)
    folds = np.array([int(lot(f"{seed} {book}") * FOLDS) for book in books])
    return GenreClassifier(vectors, _bayes(matrix, genres), _temperature(matrix, genres, folds))


def _vectorize(taught: Sequence[Labelled], books: Sequence[str]) -> tuple[Any, Any]:
    """TF-IDF over words that several books have: the vectorizer, and what it makes of the passages."""
    from sklearn.feature_extraction.text import CountVectorizer, TfidfTransformer, TfidfVectorizer

    analyzer = cast("Any", lower_words)  # scikit-learn's stubs know the names of its own analyzers only
    counter = CountVectorizer(analyzer=analyzer, min_df=2)
    counts = cast("Any", counter.fit_transform([passage.text for passage in taught]))
    found = counts.tocoo()
    _, book_of = np.unique(books, return_inverse=True)
    pairs = np.unique(book_of[found.row] * found.shape[1] + found.col)
    in_books = np.bincount(pairs % found.shape[1], minlength=found.shape[1])
    columns = np.flatnonzero(in_books >= min(BOOKS_OF_A_WORD, len(set(books))))
    # The words were counted above: another fit_transform would read every passage again.
    weights = TfidfTransformer(sublinear_tf=True)
    matrix = weights.fit_transform(counts[:, columns])
    words = counter.get_feature_names_out()[columns]
    vectors = TfidfVectorizer(
        analyzer=analyzer, vocabulary={word: place for place, word in enumerate(words)}, sublinear_tf=True
    )
    vectors.idf_ = weights.idf_
    return vectors, matrix


def _bayes(matrix: Any, genres: NDArray[np.str_]) -> Any:
    from sklearn.naive_bayes import ComplementNB

    return ComplementNB(alpha=0.3).fit(matrix, genres)


def _logits(bayes: Any, matrix: Any) -> Probabilities:
    return cast("Probabilities", bayes.predict_joint_log_proba(matrix))


def _cooled(logits: Probabilities, temperature: float) -> Probabilities:
    scaled = logits * temperature
    scaled -= scaled.max(axis=1, keepdims=True)
    odds = np.exp(scaled)
    return odds / odds.sum(axis=1, keepdims=True)


def _temperature(matrix: Any, genres: NDArray[np.str_], folds: NDArray[np.int64]) -> float:
    """The factor at which the odds of books that a fold did not see are likeliest; 1 where no fold can be left out."""
    losses = np.zeros(len(_TEMPERATURES))
    for fold in range(FOLDS):
        asked = folds == fold
        if not asked.any() or set(genres[asked]) - set(genres[~asked]):
            continue
        bayes = _bayes(matrix[~asked], genres[~asked])
        logits = _logits(bayes, matrix[asked])
        true = np.searchsorted(bayes.classes_, genres[asked])
        for index, temperature in enumerate(_TEMPERATURES):
            odds = _cooled(logits, float(temperature))[np.arange(len(true)), true]
            losses[index] -= np.log(np.maximum(odds, 1e-12)).sum()
    return float(_TEMPERATURES[losses.argmin()]) if losses.any() else 1.0
