"""Records with fields: JSON Lines, CSV, TSV and Parquet, and how their columns are found."""

from __future__ import annotations

import csv
import gzip
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from trainer.errors import BadSetting, CorpusError
from trainer.sources.columns import ColumnMap
from trainer.sources.reading import SourceText, read_sources, units

LONG = 'She said, "Go; now."\nIt was\tlate.' + " And on." * 40_000


def read(path: Path, bad: list[str] | None = None, *, columns: str = "", notes: list[str] | None = None) -> list[SourceText]:
    told = bad.append if bad is not None else None
    note = notes.append if notes is not None else lambda _: None
    return [text for unit in units(str(path)) for text in unit.read(ColumnMap.parse(columns), told, note)]


def write_json(path: Path, *records: object) -> Path:
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    return path


def write_table(path: Path, rows: Sequence[Sequence[str]], delimiter: str = ",") -> Path:
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, delimiter=delimiter).writerows(rows)
    return path


ROWS = [["Title", "Story", "Genre", "Author"], ["The Lamp", LONG, "sci fi", "A. B."], ["", "Short.", "", ""]]


def check_rows(texts: list[SourceText]) -> None:
    first, second = texts
    assert (first.title, first.genre, first.labels, first.author) == ("The Lamp", "SCI-FI", ("sci fi",), "A. B.")
    assert first.text.startswith('She said, "Go; now."\nIt was late. And on.')
    assert (second.title, second.genre, second.labels, second.text) == (None, None, (), "Short.")


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_a_csv_is_read_whatever_parts_its_fields(tmp_path: Path, delimiter: str) -> None:
    check_rows(read(write_table(tmp_path / "a.csv", ROWS, delimiter)))


def test_a_quoted_tsv_is_read_and_also_gzipped_with_a_byte_order_mark(tmp_path: Path) -> None:
    path = write_table(tmp_path / "a.tsv", ROWS, "\t")
    check_rows(read(path))
    packed = tmp_path / "a.tsv.gz"
    packed.write_bytes(gzip.compress(b"\xef\xbb\xbf" + path.read_bytes()))
    check_rows(read(packed))


def test_speech_in_a_plain_tsv_keeps_its_quotation_marks(tmp_path: Path) -> None:
    path = tmp_path / "a.tsv"
    path.write_text('text\tgenre\n"Go," she said.\tHORROR\n"""Go,"" she said."\tHORROR\n"Go"\tHORROR\n', encoding="utf-8")
    assert [text.text for text in read(path)] == ['"Go," she said.', '"Go," she said.', '"Go"']


def test_a_row_names_the_line_that_it_begins_at(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text('text\n"One\ntwo"\n\nThree\n', encoding="utf-8")
    assert [text.origin for text in read(path)] == [f"{path}:2", f"{path}:5"]


def test_a_broken_row_is_told_of_and_the_others_are_read(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text('text,genre\nOne.,HORROR\nTwo, with a comma.,HORROR\n"Th"ree.,HORROR\nFour.,HORROR\n', encoding="utf-8")
    bad: list[str] = []
    assert [text.text for text in read(path, bad)] == ["One.", "Four."]
    assert "a.csv:3 has 3 fields and the header 2" in bad[0]
    assert "a.csv:4 is no CSV row" in bad[1]
    with pytest.raises(CorpusError, match=r"a\.csv:3 has 3 fields"):
        read(path)


def test_a_quote_that_is_never_closed_is_told_of(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text('text\nOne.\n"Two.\nThree.\n', encoding="utf-8")
    bad: list[str] = []
    assert [text.text for text in read(path, bad)] == ["One.", "Three."]
    assert "a.csv:3 is no CSV row" in bad[0]
    assert "lost" not in bad[0]


def test_a_quote_that_is_never_closed_takes_no_other_story_with_it(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    rows = [
        "id,text",
        '1,"One, it began.\n\nAnd it ended."',
        '2,"Two is never closed,\n\nand it has, a comma.\n\nMore of it.',
        '3,"Three, it began.\n\nIt went on, and ""so"" it ended."',
        '4,"Four, it began.\n\nAnd it ended."',
    ]
    path.write_text("\n".join(rows) + "\n", encoding="utf-8")
    bad: list[str] = []
    texts = [text.text for text in read(path, bad)]
    assert [text.split()[0] for text in texts] == ["One,", "Three,", "Four,"]
    assert all(text.endswith("it ended.") for text in texts)
    (message,) = bad
    assert "a.csv:5 is no CSV row" in message
    assert "Lines 6 to 9 are lost with it" in message


def test_a_stray_quote_in_a_table_of_one_line_rows_costs_its_own_row(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text(
        'genre,text\nHORROR,One.\nHORROR,"Two.\nHORROR,Three.\nHORROR,"Four, too."\nHORROR,Five.\n', encoding="utf-8"
    )
    bad: list[str] = []
    assert [text.text for text in read(path, bad)] == ["One.", "Three.", "Four, too.", "Five."]
    assert len(bad) == 1
    assert "a.csv:3 is no CSV row" in bad[0]


def parquet(path: Path, columns: dict[str, list[Any]], rows: int = 2) -> Path:
    pq.write_table(pa.table(columns), path, row_group_size=rows)
    return path


def test_parquet_is_read_row_by_row_with_lists_of_labels(tmp_path: Path) -> None:
    columns: dict[str, list[Any]] = {
        "body": ["One.", None, "Three.", "Four.", " "],
        "subjects": [["Horror", "Fiction"], [], ["Horror"], None, ["x"]],
        "book_id": [7, 7, 8, 8, 9],
        "vector": [[1.0]] * 5,
    }
    path = parquet(tmp_path / "a.parquet", columns)
    bad: list[str] = []
    texts = read(path, bad)
    assert [(text.text, text.labels, text.genre, text.book) for text in texts] == [
        ("One.", ("Horror", "Fiction"), None, "7"),
        ("Three.", ("Horror",), "HORROR", "8"),
        ("Four.", (), None, "8"),
    ]
    assert texts[1].origin == f"{path} row 3"
    assert bad == [f"{path} row 2: the field body should be text and is null."]


def test_a_torn_parquet_is_told_of(tmp_path: Path) -> None:
    path = parquet(tmp_path / "a.parquet", {"text": [f"Story {number}." for number in range(100)]})
    path.write_bytes(path.read_bytes()[:-20])
    bad: list[str] = []
    assert read(path, bad) == []
    assert "a.parquet is no Parquet file that can be read" in bad[0]
    (tmp_path / "b.parquet").write_bytes(b"")
    with pytest.raises(CorpusError, match="is no Parquet file"):
        read(tmp_path / "b.parquet")


def test_tables_without_rows_have_no_story(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("text,genre\n", encoding="utf-8")
    (tmp_path / "b.csv").write_bytes(b"")
    (tmp_path / "c.jsonl").write_bytes(b"\n\n")
    (tmp_path / "d.jsonl.gz").write_bytes(gzip.compress(b""))
    parquet(tmp_path / "e.parquet", {"text": []})
    assert read(tmp_path) == []


def test_odd_columns_are_named_by_a_map(tmp_path: Path) -> None:
    path = write_json(tmp_path / "a.jsonl", {"chapter": "One.", "shelf": "scary", "title": "T", "by": ["A. B.", "C."]})
    (text,) = read(path, columns="text=chapter, genre=shelf,prompt=title,author=by")
    assert (text.text, text.genre, text.prompt, text.title) == ("One.", "SCARY", "T", None)
    assert text.author == "A. B., C."


@pytest.mark.parametrize("name", ["a.csv", "a.jsonl", "a.parquet"])
def test_when_the_text_cant_be_found_the_columns_that_are_there_are_listed(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    match path.suffix:
        case ".csv":
            write_table(path, [["words", "shelf"], ["One.", "x"]])
        case ".jsonl":
            write_json(path, {"words": "One.", "shelf": "x"})
        case _:
            parquet(path, {"words": ["One."], "shelf": ["x"]})
    with pytest.raises(CorpusError, match=r"has no field text, .*; it has: words, shelf\. Name the one with the text: --map"):
        read(path)
    with pytest.raises(CorpusError, match=r"has no field nope, which --map text=nope names; it has: words, shelf"):
        read(path, columns="text=nope")
    with pytest.raises(CorpusError, match=r"lable, which --map names"):
        read(path, columns="text=words,genre=lable")


def test_a_map_for_one_file_does_not_spoil_a_folder_of_others(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    write_json(folder / "a.jsonl", {"text": "One."}, {"text": "Two.", "id": 2})
    write_json(folder / "b.jsonl", {"body": "Three.", "text": "no"})
    assert [text.text for text in read(folder, columns="text=body")] == ["One.", "Two.", "Three."]


@pytest.mark.parametrize(
    ("setting", "says"),
    [
        ("words=body", r"there is no 'words' to map to; there are text, prompt, genre"),
        ("text", r"name the column that holds the text, as in --map text=COLUMN"),
        ("text=", r"name the column"),
        ("text=a,text=b", r"two columns for text: a and b"),
    ],
)
def test_a_map_that_makes_no_sense_is_said(setting: str, says: str) -> None:
    with pytest.raises(BadSetting, match=says):
        ColumnMap.parse(setting)


def test_a_map_is_read_as_people_write_it() -> None:
    assert ColumnMap.parse(" text = the body ,license=terms,") == ColumnMap(text="the body", licence="terms")
    assert ColumnMap.parse("") == ColumnMap()


def test_broken_json_in_the_middle_loses_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "One."}\n{"text": "Two\n{"text": 3}\n[]\n{"text": "Five."}\n', encoding="utf-8")
    bad: list[str] = []
    assert [text.text for text in read(path, bad)] == ["One.", "Five."]
    assert [sentence.partition(" ")[0].rstrip(":") for sentence in bad] == [f"{path}:{line}" for line in (2, 3, 4)]
    with pytest.raises(CorpusError, match=r"a\.jsonl:2 is not JSON"):
        read(path)


def test_fields_may_change_from_record_to_record(tmp_path: Path) -> None:
    path = write_json(tmp_path / "a.jsonl", {"text": "One."}, {"story": "Two.", "label": "Horror"}, {"x": 1}, {"text": "Four."})
    bad: list[str] = []
    assert [(text.text, text.genre) for text in read(path, bad)] == [("One.", None), ("Two.", "HORROR"), ("Four.", None)]
    assert len(bad) == 1
    assert "a.jsonl:3 has no field text" in bad[0]


def test_labels_stay_as_they_are_and_only_a_training_asks_that_each_is_a_genre(tmp_path: Path) -> None:
    path = write_json(
        tmp_path / "a.jsonl",
        {"text": "One.", "genre": "Sci-Fi & Fantasy"},
        {"text": "Two.", "genre": ["Horror", "Fiction", "Horror"]},
        {"text": "[HORROR] Three."},
        {"text": "Four.", "genre": "['Comedy', 'Shorts']"},
        {"text": "Five.", "genre": 3},
    )
    assert [(text.labels, text.genre) for text in read(path)] == [
        (("Sci-Fi & Fantasy",), None),
        (("Horror", "Fiction"), None),
        (("HORROR",), "HORROR"),
        (("Comedy", "Shorts"), None),
        (("3",), None),
    ]
    bad: list[str] = []
    assert [text.text for text in read_sources([str(path)], bad=bad.append)] == ["Two.", "Three.", "Four."]
    assert "'Sci-Fi & Fantasy' can't be a genre" in bad[0]


def test_who_wrote_it_and_under_which_licence_is_kept(tmp_path: Path) -> None:
    record = {
        "text": "One.",
        "book": "Lamps",
        "source": "shelf",
        "license": "CC-BY-4.0",
        "author": "A.",
        "attribution": "A.; B.",
    }
    (text,) = read(write_json(tmp_path / "a.jsonl", record))
    assert (text.book, text.licence, text.author, text.attribution) == ("shelf/Lamps", "CC-BY-4.0", "A.", "A.; B.")
    assert text.origin == f"{tmp_path / 'a.jsonl'}:1"


def test_a_prompt_that_was_only_drawn_is_none(tmp_path: Path) -> None:
    path = write_json(
        tmp_path / "a.jsonl",
        {"text": "One.", "prompt": "lamp", "own_prompt": False},
        {"text": "Two.", "prompt": "[WP] You are\na lamp.", "own_prompt": True},
        {"text": "Three.", "prompt": "[FANTASY] lamp"},
    )
    assert [text.prompt for text in read(path)] == [None, "You are a lamp.", "[FANTASY] lamp"]


def test_half_a_character_in_any_field_is_told_of(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "One.", "title": "\\ud800"}\n{"text": "Two.", "author": "\\ud800"}\n', encoding="utf-8")
    bad: list[str] = []
    assert read(path, bad) == []
    assert "the field title has half of a character" in bad[0]
    assert "the field author has half of a character" in bad[1]


def test_a_json_array_is_called_one(tmp_path: Path) -> None:
    path = tmp_path / "array.jsonl"
    for text in ('[{"text": "A lamp."}]', '[\n{"text": "A lamp."},\n{"text": "A boat."}\n]\n'):
        path.write_text(text)
        bad: list[str] = []
        assert read(path, bad) == []
        assert bad == [
            f"{path}:1 is JSON but not an object with fields: an array begins there. "
            f"Write one record a line, as by: jq -c '.[]' {path}"
        ]


@pytest.mark.parametrize("above", ["sep=;\n", '"SEP=;"\r\n', "\n\n", "\n \nsep=;\n"])
def test_what_stands_above_a_header_does_not_hide_it(tmp_path: Path, above: str) -> None:
    path = tmp_path / "above.csv"
    path.write_text(f"{above}text;genre\nA lamp, an egg.;horror\n", newline="")
    assert [(text.text, text.origin) for text in read(path)] == [("A lamp, an egg.", f"{path}:{above.count(chr(10)) + 2}")]


def test_holes_and_numbers_as_tables_have_them_lose_no_story(tmp_path: Path) -> None:
    path = tmp_path / "holes.jsonl"
    path.write_text('{"text": "A lamp.", "book_id": 1.0, "author": NaN, "genre": NaN}\n{"text": "A boat.", "book_id": NaN}\n')
    bad: list[str] = []
    lamp, boat = read(path, bad)
    assert bad == []
    assert (lamp.book, lamp.author, lamp.labels) == ("1", None, ())
    assert boat.book == "A boat."


def test_a_bracketed_start_is_a_tag_only_where_it_names_the_genre(tmp_path: Path) -> None:
    stories = [("[LETTER]\n\nDear Ann.", "horror"), ("[HORROR] A cellar.", "horror"), ("[HORROR] A lamp.", None)]
    path = write_json(tmp_path / "tags.jsonl", *({"text": text, "genre": genre} for text, genre in stories))
    assert [(text.text, text.genre) for text in read(path)] == [
        ("[LETTER]\n\nDear Ann.", "HORROR"),
        ("A cellar.", "HORROR"),
        ("A lamp.", "HORROR"),
    ]
