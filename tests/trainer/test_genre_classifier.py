from __future__ import annotations

from random import Random

import pytest

from trainer.corpus.classifier import CannotLearn, learn, lower_words
from trainer.corpus.scores import Labelled, score

WORDS = {
    "HORROR": ["grave", "scream", "shadow", "cellar", "blood", "ghost", "crypt", "coffin"],
    "SCI-FI": ["robot", "planet", "rocket", "orbit", "laser", "engine", "probe", "android"],
}
PLAIN = "the of and to in was he she it door house day night went came said looked".split()  # noqa: SIM905


def passages(books: int, each: int, seed: int = 1) -> list[Labelled]:
    random = Random(seed)
    found: list[Labelled] = []
    for number in range(books):
        genre = ("HORROR", "SCI-FI")[number % 2]
        for _ in range(each):
            words = [random.choice(WORDS[genre] if random.random() < 0.08 else PLAIN) for _ in range(120)]
            found.append(Labelled(f"Mr. Zork{number} " + " ".join(words), genre, f"book {seed} {number}"))
    return found


def test_genres_are_learnt_and_told_with_fitting_confidence() -> None:
    classifier = learn(passages(12, 20), 1)
    scores = score(classifier, passages(8, 20, seed=2))
    assert classifier.genres == ("HORROR", "SCI-FI")
    assert scores.macro_f1 > 0.95 > 2 * scores.majority_macro_f1 - 0.3
    assert scores.majority_macro_f1 == pytest.approx(1 / 3)
    assert sum(map(sum, scores.confusion)) == scores.passages == 160
    assert sum(found.mean * found.passages for found in scores.reliability) / 160 == pytest.approx(scores.accuracy, abs=0.1)


def test_learning_gives_the_same_twice() -> None:
    asked = [passage.text for passage in passages(4, 5, seed=3)]
    assert learn(passages(8, 20), 1).tag(asked) == learn(passages(8, 20), 1).tag(asked)


def test_names_do_not_count() -> None:
    assert lower_words("Mary met Alice. Alice ran; the Queen saw the queen.") == [
        "met",
        "ran",
        "the",
        "queen",
        "saw",
        "the",
        "queen",
    ]


def test_too_little_is_said_and_not_guessed_from() -> None:
    with pytest.raises(CannotLearn, match="two genres"):
        learn(passages(2, 5), 1)
