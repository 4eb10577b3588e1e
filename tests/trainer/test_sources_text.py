"""Plain text: the corpus command's own lines, stories of other people, stories between end marks, and books."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from trainer.errors import CorpusError
from trainer.sources.lines import LONGEST_LINE
from trainer.sources.plain_text import looks_like_book
from trainer.sources.reading import SourceText, clean, units
from trainer.sources.source_text import what_is_no_text
from trainer.sources.story_lines import from_line, to_line
from trainer.story_format import one_line


def read(path: Path, bad: list[str] | None = None, notes: list[str] | None = None) -> list[SourceText]:
    note = notes.append if notes is not None else lambda _: None
    told = bad.append if bad is not None else None
    return [text for unit in units(str(path)) for text in unit.read(bad=told, note=note)]


PARTS = [*"ab \n\\n\"'[]{}<|>éß\u2028\x85\t-#", "[HORROR] ", "\\n", "\\\\", "\n\n"]
ODD = st.lists(st.sampled_from(PARTS), max_size=40).map("".join)
GENRES = st.sampled_from(["FANTASY", "SCI-FI", "FAIRY-TALE", "A1"])


@settings(deadline=None)
@given(GENRES, (ODD | st.text()).map(one_line), (ODD | st.text()).map(clean).filter(bool))
@example("FANTASY", "", "Once.")
@example("HORROR", "C:\\new", "\\n is no line break.\n\nTwo.")
@example("HORROR", "[FANTASY] tag", "[FANTASY] tag\\")
def test_a_story_written_as_a_line_is_read_back_with_nothing_lost(genre: str, prompt: str, text: str) -> None:
    line = to_line(genre, prompt, text)
    assert "\n" not in line
    assert from_line(line) == (genre, prompt, text)


@settings(deadline=None)
@given(st.text() | ODD)
def test_cleaning_what_is_clean_changes_nothing_and_needs_no_taking_apart(text: str) -> None:
    cleaned = clean(text)
    assert clean(cleaned) == cleaned
    assert not {letter for letter in cleaned if letter.isspace()} - {" ", "\n"}
    assert all(line == one_line(line) for line in cleaned.split("\n"))


@pytest.mark.parametrize("before", [0, 1, 499, 500, 777])
def test_a_word_without_end_is_found_wherever_it_begins(before: int) -> None:
    assert what_is_no_text("a " * before + "x" * 1000 + " and so on") is not None
    assert what_is_no_text("a " * before + "x" * 999 + " and so on") is None


def test_lines_of_the_corpus_command_come_back_through_a_file(tmp_path: Path) -> None:
    stories = [
        ("FANTASY", "magic castle", "Once upon a time.\n\nA \\n is no line break."),
        ("HORROR", "", "No prompt.\nA second line."),
        ("SCI-FI", "C:\\new [tag]", "One paragraph only."),
    ]
    path = tmp_path / "long.txt.gz"
    path.write_bytes(gzip.compress("".join(to_line(*story) + "\n" for story in stories).encode()))
    assert [(text.genre, text.prompt or "", text.text) for text in read(path)] == stories
    assert read(path)[1].origin == f"{path}:2"


def test_a_backslash_in_somebody_elses_lines_stays(tmp_path: Path) -> None:
    path = tmp_path / "stories.txt"
    lines = ["[HORROR] He typed C:\\new and waited.", "[HORROR] It rained.", "[FANTASY] A dragon \\d came."]
    path.write_text("\n".join(lines), encoding="utf-8")
    assert [(text.prompt, text.text) for text in read(path)] == [
        (None, "He typed C:\\new and waited."),
        (None, "It rained."),
        (None, "A dragon \\d came."),
    ]


def test_lines_of_the_corpus_command_are_known_among_others_by_their_paragraphs(tmp_path: Path) -> None:
    path = tmp_path / "mixed.txt"
    path.write_text("[HORROR] Plain one.\n[HORROR] Plain two.\n[FANTASY] castle\\nOne.\\n\\nTwo.\n", encoding="utf-8")
    assert [(text.prompt, text.text) for text in read(path)][2] == ("castle", "One.\n\nTwo.")


def test_a_line_that_could_not_come_back_is_not_written() -> None:
    for story in (("fantasy", "", "x"), ("FANTASY", "two\nlines", "x"), ("FANTASY", "", "")):
        with pytest.raises(ValueError, match=r"genre|prompt|text"):
            to_line(*story)


def test_stories_between_end_marks_keep_their_paragraphs(tmp_path: Path) -> None:
    path = tmp_path / "tiny.txt"
    path.write_text("One day.\n\nIt rained.\n<|endoftext|>\n\n[HORROR] Dark.\n<|endoftext|>\nLast.\n", encoding="utf-8")
    assert [(text.genre, text.text, text.origin) for text in read(path)] == [
        (None, "One day.\n\nIt rained.", f"{path}:1"),
        ("HORROR", "Dark.", f"{path}:6"),
        (None, "Last.", f"{path}:8"),
    ]


BOOK = """The Project Gutenberg eBook of The Lamp

Title: The Lamp
Author: A. Writer

CONTENTS

CHAPTER I. The Door
CHAPTER II. The Road

CHAPTER I.

The Door

The door opened, and no-
body was there, which sur-
prised us--
all of us.

"Come in," said the lamp.

    A light, a light,
    In the black night.

CHAPTER II. THE ROAD

Chapter two of their journey was long, and
the rain fell.
"""


def test_a_book_is_read_by_chapters_with_its_lines_joined(tmp_path: Path) -> None:
    path = tmp_path / "lamp.txt"
    path.write_text("\ufeff" + BOOK.replace("\n", "\r\n"), encoding="utf-8", newline="")
    front, door, road = read(path)
    assert "Door" not in front.text
    assert door.title == "The Door"
    assert door.text.split("\n\n") == [
        "The door opened, and no-body was there, which sur-prised us--all of us.",
        '"Come in," said the lamp.',
        "A light, a light,\nIn the black night.",
    ]
    assert (road.title, road.text) == ("THE ROAD", "Chapter two of their journey was long, and the rain fell.")
    assert {text.book for text in (front, door, road)} == {"A. Writer/The Lamp"}
    assert (road.author, road.origin) == ("A. Writer", f"{path} chapter 3")


def test_a_book_without_headings_is_one_text(tmp_path: Path) -> None:
    path = tmp_path / "plain.txt"
    path.write_text("It rained\nall day.\n\nAnn sat\nat the window.\n", encoding="utf-8")
    (text,) = read(path)
    assert text.text == "It rained all day.\n\nAnn sat at the window."
    assert text.book == "plain.txt"


def test_chapters_that_roman_numerals_count_are_found_and_other_numerals_are_not(tmp_path: Path) -> None:
    path = tmp_path / "roman.txt"
    parts = [
        "I",
        "One.\nMore.",
        "II.",
        "Two.\nMore.",
        "XIV",
        "Not a chapter.",
        "III",
        "Three.\nMore.",
        "IV. THE LAST ONE",
        "End.",
    ]
    path.write_text("\n\n".join(parts), encoding="utf-8")
    assert [(text.title, text.text) for text in read(path)] == [
        (None, "One. More."),
        (None, "Two. More.\n\nXIV\n\nNot a chapter."),
        (None, "Three. More."),
        ("THE LAST ONE", "End."),
    ]


def test_what_a_file_is_its_first_lines_decide() -> None:
    assert looks_like_book(["A line\n", "wrapped.\n", "\n", "And\n", "another.\n"])
    assert not looks_like_book(["One story.\n", "Another story.\n"])
    assert not looks_like_book(["[HORROR] One.\n", "\n", "[HORROR] Two.\n"])
    assert not looks_like_book([])


def test_single_lines_with_gaps_are_a_book_and_it_is_said(tmp_path: Path) -> None:
    path = tmp_path / "gaps.txt"
    path.write_text("One story.\n\nAnother story.\n", encoding="utf-8")
    notes: list[str] = []
    assert len(read(path, notes=notes)) == 1
    assert "is read as one book" in notes[0]


def test_one_torn_line_is_told_of_and_the_others_are_read(tmp_path: Path) -> None:
    path = tmp_path / "torn.txt"
    path.write_bytes(b"[HORROR] One.\n[HORROR] caf\xe9\n[HORROR] Three.\n")
    bad: list[str] = []
    assert [text.text for text in read(path, bad)] == ["One.", "Three."]
    assert len(bad) == 1
    assert "torn.txt:2 is not UTF-8 (byte 0xe9)" in bad[0]
    with pytest.raises(CorpusError, match="iconv -f WINDOWS-1252 -t UTF-8"):
        read(path)


@pytest.mark.parametrize(("encoding", "read_before"), [("cp1252", 1), ("utf-16", 0)])
def test_another_encoding_is_never_guessed(tmp_path: Path, encoding: str, read_before: int) -> None:
    path = tmp_path / "old.txt"
    path.write_text("[HORROR] Night.\n" + "[HORROR] “Café”\n" * 40, encoding=encoding)
    bad: list[str] = []
    assert len(read(path, bad)) == read_before
    assert "All that follows in it is left out" in bad[-1]
    assert len(bad) <= 2


def test_a_torn_gzip_gives_what_is_whole_and_is_told_of(tmp_path: Path) -> None:
    path = tmp_path / "a.txt.gz"
    whole = gzip.compress(b"".join(b"[HORROR] Story number %d.\n" % number for number in range(9000)))
    path.write_bytes(whole[: len(whole) // 2])
    bad: list[str] = []
    assert 100 < len(read(path, bad)) < 9000
    assert "no whole gzip file after line" in bad[0]


def test_an_empty_file_has_no_story(tmp_path: Path) -> None:
    for name, content in (("a.txt", b""), ("b.txt", b"\n \n\xc2\xa0\n"), ("c.txt.gz", gzip.compress(b"")), ("d.txt.gz", b"")):
        (tmp_path / name).write_bytes(content)
        assert read(tmp_path / name) == []


def test_a_file_without_line_ends_is_not_taken_into_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert LONGEST_LINE == 64 * 2**20
    monkeypatch.setattr("trainer.sources.lines.LONGEST_LINE", 1000)
    (tmp_path / "a.txt").write_text("word " * 1000, encoding="utf-8")
    with pytest.raises(CorpusError, match=r"a\.txt:1 is a line longer than"):
        read(tmp_path / "a.txt")
