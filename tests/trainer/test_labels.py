"""Labels as people, shops and libraries write them become genres; what can't is counted."""

from __future__ import annotations

import tomllib
from importlib.resources import files

import pytest

from trainer.corpus.labels import MOST_LABELS, OTHER_LABELS, LabelMap, parse_labels, table, words
from trainer.errors import BadSetting
from trainer.story_format import genre_name


@pytest.mark.parametrize(
    ("label", "genre"),
    [
        ("science fiction", "SCI-FI"),
        ("Sci-Fi & Fantasy", "SCI-FI"),
        ("sci-fi-fantasy", "SCI-FI"),
        ("scary", "HORROR"),
        ("Ghost stories, English", "HORROR"),
        ("[HORROR]", "HORROR"),
        ("FAIRY-TALE", "FAIRY-TALE"),
        ("Fairy Tales", "FAIRY-TALE"),
        ("Folk tales -- Norway", "FAIRY-TALE"),
        ("fables", "FAIRY-TALE"),
        ("detective", "MYSTERY"),
        ("Detective and mystery stories", "MYSTERY"),
        ("FICTION / Mystery & Detective / Women Sleuths", "MYSTERY"),
        ("JUVENILE FICTION / Mysteries & Detective Stories", "MYSTERY"),
        ("mystery-thriller", "MYSTERY"),
        ("humor", "COMEDY"),
        ("Humour", "COMEDY"),
        ("Humorous stories", "COMEDY"),
        ("Satire", "COMEDY"),
        ("love story", "ROMANCE"),
        ("Man-woman relationships -- Fiction", "ROMANCE"),
        ("romantic comedy", "ROMANCE"),
        ("swashbuckler", "ADVENTURE"),
        ("Sea stories", "ADVENTURE"),
        ("Action & Adventure", "ADVENTURE"),
        ("Pirates -- Juvenile fiction", "ADVENTURE"),
        ("Vampires -- Fiction", "HORROR"),
        ("Witches -- Fiction", "FANTASY"),
        ("Fiction / Horror / General", "HORROR"),
        ("FICTION / Science Fiction / Action & Adventure", "SCI-FI"),
        ("FICTION / Romance / Paranormal / Vampires", "ROMANCE"),
        ("Books > Genre Fiction > Horror", "HORROR"),
        ("scientific romances", "SCI-FI"),
        ("Fantasy/Horror", "HORROR"),
        ("Féerie, zombies", "HORROR"),
    ],
)
def test_a_label_as_people_write_it_means_a_genre(label: str, genre: str):
    labels = LabelMap()
    assert labels.genre([label]) == genre
    assert not labels.unmapped


@pytest.mark.parametrize(
    "label",
    [
        "Fiction",
        "Shorts",
        "Children's",
        "Novels",
        "Short stories, English",
        "England -- Fiction",
        "to-read",
        "true crime",
        "",
        "--",
    ],
)
def test_labels_that_say_nothing_of_a_genre_are_no_complaint(label: str):
    labels = LabelMap()
    assert labels.genre([label]) is None
    assert not labels.unmapped


def test_of_several_labels_the_most_special_wins():
    labels = LabelMap()
    assert labels.genre(["Fiction", "Horror"]) == "HORROR"
    assert labels.genre(["Comedy", "Romance", "Adventure", "Mystery", "Fantasy", "Science Fiction"]) == "SCI-FI"
    assert labels.genre(["Horror", "Fairy tales"]) == "FAIRY-TALE"
    assert labels.genre(["Philosophy", "Travel", "Comedy"]) == "COMEDY"
    assert not labels.unmapped


def test_what_nobody_has_mapped_is_counted_once_for_each_text():
    labels = LabelMap()
    for _ in range(3):
        assert labels.genre(["Western  stories", "Fiction"]) is None
    labels.genre(["Philosophy"])
    assert labels.unmapped == {"Western stories": 3, "Philosophy": 1}


def test_a_column_of_texts_taken_for_labels_does_not_fill_the_memory():
    labels = LabelMap()
    for number in range(MOST_LABELS + 50):
        labels.genre([f"it was number {number} " * 20])
    assert len(labels.unmapped) == MOST_LABELS + 1
    assert labels.unmapped[OTHER_LABELS] == 50


def test_what_the_person_says_wins_over_the_table():
    labels = LabelMap({"western": "ADVENTURE", "Sci-Fi & Fantasy": "FANTASY", "thriller": "HORROR", "noir": ""})
    assert labels.genre(["Westerns"]) == "ADVENTURE"
    assert labels.genre(["sci fi and fantasy"]) == "FANTASY"
    assert labels.genre(["Science fiction & fantasy"]) == "SCI-FI"
    assert labels.genre(["Thrillers"]) == "HORROR"
    assert labels.genre(["Noir"]) is None
    assert not labels.unmapped


def test_a_genre_asked_for_is_a_label_and_goes_first():
    labels = LabelMap(genres=("WESTERN", "SPACE-OPERA", "COMEDY"))
    assert labels.genre(["Western stories", "Horror"]) == "WESTERN"
    assert labels.genre(["Space operas"]) == "SPACE-OPERA"
    assert labels.genre(["Horror", "Humor"]) == "COMEDY"
    assert labels.genre(["Horror"]) == "HORROR"


def test_label_settings_are_read_as_people_write_them():
    said = parse_labels(["western=ADVENTURE", "a = b=sci fi", "spooky = Science Fiction", "noir=", "saga=saga"], ["SAGA"])
    assert said == {"western": "ADVENTURE", "a = b": "SCI-FI", "spooky": "SCI-FI", "noir": "", "saga": "SAGA"}
    assert parse_labels(["cowboys=western"]) == {"cowboys": "WESTERN"}
    assert parse_labels(["western=ADVENTURE,noir=mystery", "Tales, tall=comedy,"]) == {
        "western": "ADVENTURE",
        "noir": "MYSTERY",
        "Tales, tall": "COMEDY",
    }
    with pytest.raises(BadSetting, match="two genres, ADVENTURE and HORROR"):
        parse_labels(["Western=ADVENTURE", "western=HORROR"])


@pytest.mark.parametrize(
    ("values", "says"),
    [
        (["western"], "write --label western=ADVENTURE"),
        (["=ADVENTURE"], "write --label western=ADVENTURE"),
        (["western=!?"], "can't be a genre"),
        (["western=ADVENTURE", "western=COMEDY"], "two genres, ADVENTURE and COMEDY"),
    ],
)
def test_a_label_setting_that_can_not_be_read_says_how_to_write_it(values: list[str], says: str):
    with pytest.raises(BadSetting, match=says):
        parse_labels(values)


def test_the_table_is_whole():
    content = tomllib.loads(files("trainer").joinpath("data/labels.toml").read_text(encoding="utf-8"))
    listed = [words(phrase) for phrases in [*content["genres"].values(), content["neutral"]["words"]] for phrase in phrases]
    twice = {phrase for phrase in listed if listed.count(phrase) > 1}
    assert not twice
    assert () not in listed
    assert len(table().order) == 8
    assert all(genre_name(genre) == genre == LabelMap().genre([genre]) for genre in table().order)
