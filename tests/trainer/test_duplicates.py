from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trainer.corpus.duplicates import COLUMNS, Duplicates, Fingerprints, find_duplicates
from trainer.corpus.shingles import RunHasher, words_of
from trainer.errors import CorpusError


def story(seed: int, words: int = 100) -> list[str]:
    draw = random.Random(seed)
    return ["".join(draw.choices("abcdefghijklmnopqrstuvwxyz", k=draw.randint(2, 8))) for _ in range(words)]


def changed(words: list[str], count: int) -> list[str]:
    """The words with some, evenly spread, replaced."""
    copy = list(words)
    for number in range(count):
        copy[(2 * number + 1) * len(words) // (2 * count)] = f"new{number}"
    return copy


def duplicates(folder: Path, texts: list[str], held_out: set[int] | None = None) -> Duplicates:
    prints = Fingerprints(folder)
    for text in texts:
        prints.add(text)
    prints.close()
    return find_duplicates(folder, np.array([number in (held_out or set()) for number in range(len(texts))], dtype=np.bool_))


def test_the_same_words_are_exact_duplicates_whatever_their_case_and_marks(tmp_path: Path) -> None:
    found = duplicates(tmp_path, ['The cat sat. "Don\'t!"', "A dog ran.", "the CAT sat -- “don’t”", "The cat sat."])
    assert found.instead.tolist() == [0, 1, 0, 3]
    assert found.exact.tolist() == [False, False, True, False]


@pytest.mark.parametrize("seed", range(20))
def test_a_copy_with_three_of_a_hundred_words_changed_goes_and_a_story_with_half_in_common_stays(
    tmp_path: Path, seed: int
) -> None:
    one, other = story(seed), story(seed + 1000)
    texts = [one, changed(one, 3), one[:52] + other[52:], other]
    found = duplicates(tmp_path, [" ".join(text) for text in texts])
    assert found.instead.tolist() == [0, 0, 2, 3]
    assert found.near.tolist() == [False, True, False, False]


def test_stories_of_one_mould_survive(tmp_path: Path) -> None:
    phrases = [" ".join(story(seed, 7)) for seed in range(12)]
    texts = [
        ". ".join(f"{phrase} {' '.join(story(100 * seed + place, 5))}" for place, phrase in enumerate(phrases))
        for seed in range(40)
    ]
    assert duplicates(tmp_path, texts).kept.all()


def test_a_held_out_passage_outlives_its_training_copies(tmp_path: Path) -> None:
    text, other = " ".join(story(1)), " ".join(story(2))
    near = " ".join(changed(story(1), 2))
    found = duplicates(tmp_path, [text, near, other, near, text, other], held_out={3, 4})
    assert found.instead.tolist() == [3, 3, 2, 3, 3, 2]
    assert found.copies_of_held_out.tolist() == [True, True, False, False, False, False]
    assert found.kept.sum() == 2


def test_a_stop_loses_nothing_that_was_flushed_and_keeps_nothing_that_was_not(tmp_path: Path) -> None:
    texts = [" ".join(story(seed)) for seed in range(6)]
    prints = Fingerprints(tmp_path / "stopped")
    for text in texts[:4]:
        prints.add(text)
    assert prints.flush() == 4
    prints.add("Words that a killed run had not yet told of.")
    prints.flush()
    going_on = Fingerprints(tmp_path / "stopped", keep=4)
    for text in texts[4:]:
        going_on.add(text)
    going_on.close()
    whole = Fingerprints(tmp_path / "whole")
    for text in texts:
        whole.add(text)
    whole.close()
    assert (tmp_path / "stopped/fingerprints.u64").read_bytes() == (tmp_path / "whole/fingerprints.u64").read_bytes()


def test_going_on_with_fewer_fingerprints_or_another_recipe_says_to_begin_anew(tmp_path: Path) -> None:
    prints = Fingerprints(tmp_path)
    prints.add("One.")
    prints.close()
    with pytest.raises(CorpusError, match="fewer than 2 fingerprints: begin"):
        Fingerprints(tmp_path, keep=2)
    (tmp_path / "fingerprints.json").write_text("{}")
    with pytest.raises(CorpusError, match="another version"):
        Fingerprints(tmp_path, keep=1)
    with pytest.raises(CorpusError, match=r"1 fingerprints, but there are 3 passages"):
        find_duplicates(tmp_path, np.zeros(3, dtype=np.bool_))


def test_the_fingerprint_of_a_text_is_the_same_on_every_machine(tmp_path: Path) -> None:
    prints = Fingerprints(tmp_path)
    prints.add("Once upon a time there was a fox who wound the clocks of a castle.")
    prints.close()
    row = np.fromfile(tmp_path / "fingerprints.u64", dtype="<u8")
    assert len(row) == COLUMNS
    assert [int(row[column]) for column in (0, 1, COLUMNS - 1)] == [
        1945804370793880056,
        15699092527495479769,
        12512407320722137880,
    ]


def test_the_number_of_passages_may_be_none_or_one(tmp_path: Path) -> None:
    assert duplicates(tmp_path, []).kept.tolist() == []
    assert duplicates(tmp_path, [""]).kept.tolist() == [True]


WORDS = st.lists(st.sampled_from(["the", "cat", "Sat", "don't", "naïve", "…", "7"]), max_size=12)


@settings(deadline=None)
@given(texts=st.lists(WORDS, max_size=5), length=st.integers(1, 6))
def test_runs_are_those_of_each_text_and_reach_into_no_other(texts: list[list[str]], length: int) -> None:
    hasher = RunHasher(length)
    words = [words_of(" ".join(text)) for text in texts]
    together = hasher.runs(words)
    apart = [hasher.runs([text]).hashes.tolist() for text in words]
    assert together.hashes.tolist() == [number for numbers in apart for number in numbers]
    assert [len(numbers) for numbers in apart] == [max(0, len(text) - length + 1) for text in words]
    assert together.texts.tolist() == [number for number, numbers in enumerate(apart) for _ in numbers]


@settings(deadline=None)
@given(st.text(max_size=40))
def test_words_do_not_depend_on_case_and_any_text_has_them(text: str) -> None:
    assert words_of(text.upper()) == words_of(text.upper().lower()) or not text.isascii()


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 6), min_size=1, max_size=25), st.sets(st.integers(0, 24)))
def test_each_group_keeps_one_and_prefers_the_first_that_is_held_out(
    tmp_path_factory: pytest.TempPathFactory, seeds: list[int], held_out: set[int]
) -> None:
    found = duplicates(tmp_path_factory.mktemp("prints"), [" ".join(story(seed, 30)) for seed in seeds], held_out)
    for seed in set(seeds):
        members = [number for number, other in enumerate(seeds) if other == seed]
        survivor = next((number for number in members if number in held_out), members[0])
        assert {int(found.instead[number]) for number in members} == {survivor}
