from __future__ import annotations

import json
import random
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trainer.corpus.cleaning import EXAMPLE_LETTERS, Cleaner, CleaningReport
from trainer.errors import CorpusError

STORY = (
    "The castle stood on a hill, and nobody knew who had built it. Every night a light moved from window to window.\n\n"
    '"There must be a ghost," said the miller. "Or a very careful thief."\n\n'
    "Anna took her lamp and climbed the path. The door was open, and in the hall there was a fox that wound the clocks."
)


def cleaned(text: str, *, min_words: int = 1, language: str | None = None, punctuation: str = "ascii") -> str | None:
    return Cleaner(min_words=min_words, language=language, punctuation="keep" if punctuation == "keep" else "ascii").clean(text)


def removed_by(text: str, *, min_words: int = 10, language: str | None = "en") -> list[str]:
    cleaner = Cleaner(min_words=min_words, language=language)
    assert cleaner.clean(text, "file:1") is None
    return [name for name, tally in cleaner.report.rules.items() if tally.removes and tally.texts]


def test_a_good_story_is_left_as_it_is_and_no_rule_counts_it() -> None:
    cleaner = Cleaner()
    assert cleaner.clean(STORY) == STORY
    assert not any(tally.texts for tally in cleaner.report.rules.values())


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ("It was donâ€™t and cafÃ© again.", "It was don't and café again."),
        ("The ﬁsh\x85 swam\x1b[31m off.", "The fish... swam off."),
        ("cafe\u0301", "café"),
        ("A\u200b b\x07ell,\xad and\ufeff one\u2028line.", "A bell, and one\nline."),
        ("One  \r\n\r\n\r\n  two\tthree ", "One\n\ntwo three"),
        ("<p>Tom &amp; <i>Ann</i></p><p>ran<br/>off &amp;quot;now&quot;.<!-- x --></p>", 'Tom & Ann\n\nran\n\noff "now".'),
        ("<style>p {a: b}</style>Five < six, and six > five.", "Five < six, and six > five."),
        (
            "He read[12] it.[A] Then [Pg 7] he\n\n[Illustration: A dog\nruns]\n\nslept {9} well.",
            "He read it. Then he\n\nslept well.",
        ),
        ("[FANTASY] stays, and [he sighed] stays.", "[FANTASY] stays, and [he sighed] stays."),
        ("They went to the\n\n- 12 -\n\nold mill.\n\nPage 13\n\nIt was shut.", "They went to the old mill.\n\nIt was shut."),
        ("Humpty wrote the sum:\n\n365\n\n1\n\n2\n\n364", "Humpty wrote the sum:\n\n365\n\n1\n\n2\n\n364"),
        (f"12\n\n{STORY}\n\n13\n\n{STORY}\n\nPage 14", f"{STORY}\n\n{STORY}"),
        ("II\n\nSo it began.\n\n3.\n\nIt ended.\n\nI\n\n1893", "II\n\nSo it began.\n\n3.\n\nIt ended.\n\nI\n\n1893"),
        ("Look:\n\nhttps://example.org/a?b=c\n\nIt is at www.example.org now.", "Look:\n\nIt is at www.example.org now."),
        ("It was _very_ cold, *so* cold, __init__ said 2*3*4.", "It was very cold, so cold, __init__ said 2*3*4."),
        (
            "* * *\n\nOne day.\n\n*  *  *\n\n  ***\n\nTwo days.\n\n-----\n\nThree.\n\n~",
            "One day.\n\n* * *\n\nTwo days.\n\n* * *\n\nThree.",
        ),
        (
            "“It’s ‘late’ — so…” he said – in 1914–18 it was ``very great fun'' for all",
            '"It\'s \'late\' -- so..." he said -- in 1914-18 it was "very great fun" for all',
        ),
        ("It was late. [Transcriber's Note: Printed\nin 1890.] Then", "It was late. Then"),
        ("Transcriber’s Notes:\n\nSpelling was kept.\n\nIt was late.", "It was late."),
    ],
)
def test_what_is_no_story_is_mended(raw: str, expected: str) -> None:
    assert cleaned(raw) == expected


def test_typographic_marks_are_kept_on_demand() -> None:
    assert cleaned("“It’s late — so…” donâ€™t", punctuation="keep") == "“It’s late — so…” don’t"


HEADER = "The Project Gutenberg eBook of Foxes\n\nThis ebook is for the use of anyone anywhere.\n\nTitle: Foxes\n\n"
START = "*** START OF THE PROJECT GUTENBERG EBOOK THE BOOK OF\nFOXES ***\n\n"
CREDIT = "Produced by Jane Doe and the Online Distributed\nProofreading Team at https://www.pgdp.net\n\n"
END = "\n\nEnd of the Project Gutenberg EBook of Foxes\n\n*** END OF THIS PROJECT GUTENBERG EBOOK FOXES ***\n\nSection 1."


@pytest.mark.parametrize(
    "raw",
    [
        HEADER + START + CREDIT + STORY + END,
        HEADER + START + "Produced by David Widger\n\n" + STORY,
        "Etext by the PROJECT GUTENBERG\n\n*END*THE SMALL PRINT! FOR PUBLIC DOMAIN ETEXTS*Ver.04.29.93*END*\n\n" + STORY + END,
        STORY + "\n\n*** START: FULL LICENSE ***\n\nThe Project Gutenberg License",
        CREDIT + STORY,
    ],
)
def test_of_a_gutenberg_book_the_story_remains(raw: str) -> None:
    assert cleaned(raw) == STORY


def test_gutenberg_the_printer_may_stand_in_a_story() -> None:
    story = "Produced by magic, a press stood there. Johannes Gutenberg laughed."
    assert cleaned(story) == story


def test_wrapped_lines_become_paragraphs_and_verse_stays() -> None:
    first = (
        "Alice was beginning to get very tired of sitting by her sister on\n"
        "the bank, and of having nothing to do: once or twice she had peeped\ninto the book."
    )
    verse = "Twinkle, twinkle, little bat!\nHow I wonder what you're at!"
    joined = cleaned(f"{first}\n\n{verse}\n\n{first}")
    assert joined == f"{first}\n\n{verse}\n\n{first}".replace("on\nthe", "on the").replace("peeped\ninto", "peeped into")
    assert cleaned(verse) == verse


def test_a_title_on_each_page_goes_and_chapter_headings_stay() -> None:
    draw = random.Random(1)
    pages = [
        f"Chapter {number}\n\n{number} THE FOX OF THE HILL\n\n"
        f"{' '.join(''.join(draw.choices('abcdefghij', k=6)) for _ in range(150))} So ended day {number}."
        for number in range(1, 8)
    ]
    text = cleaned("\n\n".join(pages))
    assert text is not None
    assert "THE FOX" not in text
    assert text.count("Chapter") == 7


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("Too few words.", "too short"),
        ("The story of " + "a" * 1500 + " was told by the old man to all of the people", "no text"),
        ("| 12 | 4.5 | ==== | 77 | 8.1 |\n" * 9 + "the end of all that there is", "few letters"),
        ("ALL OF THIS WAS SHOUTED BY THE MAN WHO STOOD ON THE HILL AND SAW THE SHIPS", "capitals"),
        ("I will not talk in class again.\n" * 30, "repetitive"),
        ("and then the cat sat " * 30, "repetitive"),
        (
            "Der alte Mann saß am Meer und schaute in die Wellen, die kamen und gingen. Er hatte heute nichts gefangen "
            "und war sehr müde geworden, doch er lächelte.",
            "other language",
        ),
    ],
)
def test_a_text_that_is_no_story_is_left_out_by_its_rule(text: str, rule: str) -> None:
    assert removed_by(text) == [rule]


def test_a_short_text_is_not_judged_by_its_language_and_none_is_when_that_is_off() -> None:
    german = "Der alte Mann saß am Meer und schaute in die Wellen, die kamen und gingen."
    assert Cleaner(min_words=5).clean(german) == german
    long = f"{german} Er hatte heute nichts gefangen und war sehr müde geworden, doch er lächelte dem Abend zu."
    assert cleaned(long) == long


def test_an_unknown_language_is_an_error_that_lists_the_known_ones() -> None:
    with pytest.raises(CorpusError, match=r"'english'.* de, .* en, "):
        Cleaner(language="english")


def test_the_report_counts_texts_and_shows_what_changed_and_what_went() -> None:
    cleaner = Cleaner()
    for raw in (STORY, "x" * 200 + STORY + " It was cafÃ© time.", STORY.replace("ghost", "“ghost”"), "Too short.", "Also."):
        cleaner.clean(raw, "tales.txt:7")
    report = cleaner.report
    assert (report.texts, report.kept, report.removed) == (5, 3, 2)
    encoding, short = report.rules["encoding"], report.rules["too short"]
    assert (encoding.texts, short.texts, report.rules["punctuation"].texts) == (1, 2, 1)
    assert "cafÃ© time" in encoding.example["before"]
    assert "café time" in encoding.example["after"]
    assert all(len(text) <= EXAMPLE_LETTERS for text in encoding.example.values())
    assert short.example == {"text": "Too short.", "why": "2 words", "origin": "tales.txt:7"}


def test_reports_of_two_halves_add_up_to_the_report_of_the_whole() -> None:
    raws = [STORY, "Short.", f"{STORY} [12]", f"{STORY} “so” [13]", "Shorter.", STORY.upper()]
    whole, halves = Cleaner(), CleaningReport.from_json({})
    for raw in raws:
        whole.clean(raw, raw[:5])
    for part in (raws[:2], raws[2:]):
        cleaner = Cleaner()
        for raw in part:
            cleaner.clean(raw, raw[:5])
        halves.merge(CleaningReport.from_json(json.loads(json.dumps(cleaner.report.to_json()))))
    assert halves == whole.report


FRAGMENTS = st.sampled_from(
    [
        "The cat",
        " sat",
        "\n",
        "\n\n",
        "  ",
        "“no”",
        "[1]",
        "12",
        "_",
        "*",
        "<p>",
        "&amp;",
        "â€™",
        "***",
        "—",
        "\x00",
        "http://a.b",
        "[",
        "<",
    ]
)


@settings(deadline=None)
@given(st.lists(FRAGMENTS, max_size=30).map("".join))
def test_whatever_comes_in_no_stray_white_space_comes_out(raw: str) -> None:
    once = cleaned(raw)
    if once is not None:
        assert once == once.strip()
        assert "\n\n\n" not in once
        assert "  " not in once
        assert "\x00" not in once


@pytest.mark.parametrize(
    "unit", ["[", "<", "<!--", "* ", "_a", "a\n", "&", "[Illustration ", "- ", "1\n\n", "“", "*a", "<p", "é—"]
)
def test_no_text_however_odd_takes_long(unit: str) -> None:
    start = time.process_time()
    cleaned(unit * (200_000 // len(unit)))
    assert time.process_time() - start < 20  # a fraction of a second; quadratic time would be minutes
