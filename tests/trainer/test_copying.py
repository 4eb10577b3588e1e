"""The exercises of `copying:`: lists of words that are said again until the text ends."""

from __future__ import annotations

from pathlib import Path

import pytest

from trainer.__main__ import main
from trainer.errors import CorpusError
from trainer.sources.reading import read_sources


def repeated_after(words: list[str]) -> int:
    """The number of words after which all that follows was said before, in this order."""
    return next(length for length in range(1, len(words)) if words[length:] == words[:-length])


def test_each_exercise_is_a_list_said_again() -> None:
    exercises = [text.text.split() for text in read_sources(["copying:200"])]
    lengths = [repeated_after(words) for words in exercises]
    assert len(exercises) == 200
    assert min(lengths) <= 4
    assert 24 <= max(lengths) <= 32
    assert all(len(words) >= length + 8 for words, length in zip(exercises, lengths, strict=True))
    assert {words[0] for words in exercises} > {words[0] for words in exercises[:100]}


def test_the_exercises_are_the_same_in_every_run_and_are_all_taught() -> None:
    first, second = (list(read_sources(["copying:20"])) for _ in range(2))
    assert first == second
    assert not any(text.held_out for text in first)
    assert len({text.book for text in first}) == 20


def test_a_number_that_is_none_is_told_of() -> None:
    with pytest.raises(CorpusError, match=r"copying:many should end in a number"):
        list(read_sources(["copying:many"]))


def test_a_corpus_of_stories_takes_no_exercises(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["corpus", "copying:", "--out", str(tmp_path / "corpus")]) != 0
    assert "copying: holds exercises and no stories" in capsys.readouterr().err
    assert not (tmp_path / "corpus").exists()
