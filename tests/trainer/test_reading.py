from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from trainer.errors import CorpusError
from trainer.material import digest_of, split, spread
from trainer.sources.reading import SourceText, clean, read_sources


def read(*sources: Path | str) -> list[SourceText]:
    return list(read_sources([str(source) for source in sources]))


def test_plain_text_is_one_story_a_line_with_an_optional_tag(tmp_path: Path) -> None:
    path = tmp_path / "stories.txt"
    path.write_text("[HORROR]  The   door\topened.\n\n   \nNo tag here.\n[sic] is no tag.\n", encoding="utf-8")
    assert [(text.genre, text.text) for text in read(path)] == [
        ("HORROR", "The door opened."),
        (None, "No tag here."),
        (None, "[sic] is no tag."),
    ]


def test_a_byte_order_mark_is_no_part_of_the_first_story(tmp_path: Path) -> None:
    path = tmp_path / "stories.txt"
    path.write_bytes("\ufeff[FANTASY] A dragon.\r\nA second.\r\n".encode())
    assert [(text.genre, text.text) for text in read(path)] == [("FANTASY", "A dragon."), (None, "A second.")]


def test_json_lines_are_read_plain_and_gzipped(tmp_path: Path) -> None:
    record = {"genre": "sci fi", "prompt": " a  lamp ", "text": "One.\n\n\n\nTwo."}
    (tmp_path / "a.jsonl").write_text(json.dumps(record) + "\n", encoding="utf-8")
    with gzip.open(tmp_path / "b.jsonl.gz", "wt", encoding="utf-8") as file:
        file.write(json.dumps({"title": "Moby Dick, Chapter 9: The Storm", "book": "Moby Dick", "text": "Rain."}))
    first, second = read(tmp_path)
    assert (first.genre, first.prompt, first.text) == ("SCI-FI", "a lamp", "One.\n\nTwo.")
    assert (second.genre, second.prompt, second.title, second.book) == (None, None, "The Storm", "Moby Dick")


def test_files_of_a_folder_named_as_held_out_are_never_trained_on(tmp_path: Path) -> None:
    for name in ("train-000.jsonl", "valid-000.jsonl"):
        (tmp_path / name).write_text(json.dumps({"text": f"From {name}."}) + "\n", encoding="utf-8")
    sides = split(read(tmp_path), 0.0)
    assert [text.text for text in sides.train] == ["From train-000.jsonl."]
    assert [text.text for text in sides.held_out] == ["From valid-000.jsonl."]


def test_a_catalogue_beside_the_stories_is_passed_over_and_named(tmp_path: Path) -> None:
    (tmp_path / "books.jsonl").write_text('{"author": "A"}\n', encoding="utf-8")
    (tmp_path / "train.jsonl").write_text('{"text": "A story."}\n', encoding="utf-8")
    notes: list[str] = []
    assert [text.text for text in read_sources([str(tmp_path)], notes.append)] == ["A story."]
    assert len(notes) == 1
    assert "books.jsonl" in notes[0]


def test_a_book_is_on_one_side_of_the_split_in_every_run() -> None:
    texts = [SourceText(f"Chapter {n}.", None, None, None, f"book {n % 40}", False) for n in range(400)]
    sides = split(texts, 0.3)
    assert not {text.book for text in sides.train} & {text.book for text in sides.held_out}
    assert 40 <= len(sides.held_out) <= 200
    again = split(texts, 0.3)
    assert (list(again.train), list(again.held_out)) == (list(sides.train), list(sides.held_out))


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("a.jsonl", b'{"text": "fine"}\n{"text": "broken\n', r"a\.jsonl:2 is not JSON"),
        ("a.jsonl", b"[1]\n", r"a\.jsonl:1 is JSON but not an object"),
        (
            "a.jsonl",
            b'{"words": "x"}\n',
            r"a\.jsonl:1 has no field text, .* or passage; it has: words\. .*--map text=COLUMN",
        ),
        ("a.jsonl", b'{"text": 7}\n', r"a\.jsonl:1: the field text should be text and is 7"),
        ("a.jsonl", b'{"text": "x", "genre": "1/2"}\n', r"a\.jsonl:1: '1/2' can't be a genre"),
        ("a.jsonl", b'{"text": null}\n', r"a\.jsonl:1: the field text should be text and is null"),
        ("a.jsonl", b'{"text": "x", "title": 0}\n', r"the field title should be text and is 0"),
        ("a.jsonl", b'{"text": "half \\ud800"}\n', r"a\.jsonl:1 has half of a character"),
        ("a.jsonl", b'{"text": ' + b"[" * 100000, r"a\.jsonl:1 is not JSON"),
        ("a.jsonl", b'{"text": ' + b"9" * 5000 + b"}", r"a\.jsonl:1 is not JSON"),
        ("a.txt", b"x" * 5000, r"a\.txt:1 has a word of 5,000 characters"),
        ("a.txt", "naïve".encode("utf-16"), r"iconv -f UTF-16"),
        ("a.txt", b"fine\n\ncaf\xe9\n", r"a\.txt:3 is not UTF-8 \(byte 0xe9\)"),
        ("a.jsonl.gz", b"no gzip", r"a\.jsonl\.gz is no whole gzip file"),
        ("a.doc", b"x", r"a\.doc ends in none of"),
    ],
)
def test_a_bad_source_is_named_with_its_line(tmp_path: Path, name: str, content: bytes, says: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(CorpusError, match=says):
        read(tmp_path / name)


def test_a_torn_gzip_is_named(tmp_path: Path) -> None:
    whole = gzip.compress(b'{"text": "x"}\n' * 4000)
    (tmp_path / "a.jsonl.gz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(CorpusError, match="no whole gzip file"):
        read(tmp_path / "a.jsonl.gz")


def test_a_damaged_gzip_is_named(tmp_path: Path) -> None:
    whole = bytearray(gzip.compress(b'{"text": "x"}\n' * 4000))
    whole[20] ^= 0xFF
    (tmp_path / "a.jsonl.gz").write_bytes(bytes(whole))
    with pytest.raises(CorpusError, match=r"a\.jsonl"):
        read(tmp_path / "a.jsonl.gz")


def test_files_in_a_held_out_folder_are_never_trained_on(tmp_path: Path) -> None:
    for folder in ("train", "test"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "stories.txt").write_text(f"From {folder}.\n", encoding="utf-8")
    assert [text.text for text in split(read(tmp_path), 0.0).train] == ["From train."]


def test_something_is_held_out_of_two_books_and_something_taught_of_one() -> None:
    texts = [SourceText(f"Chapter {n}.", None, None, None, f"book {n % 2}", False) for n in range(10)]
    sides = split(texts, 0.01)
    assert len({text.book for text in sides.held_out}) == len({text.book for text in sides.train}) == 1
    assert list(split(texts[::2], 0.9).train) == list(split(texts[::2], 0.01).train)
    assert not split(texts[::2], 0.9).held_out


def test_a_sample_is_spread_over_all_of_it() -> None:
    assert spread(list(range(799)), 400)[-1] > 790  # type: ignore[arg-type]
    assert len(spread(list(range(799)), 400)) == 400  # type: ignore[arg-type]
    assert spread([], 400) == []


def test_a_changed_text_changes_the_digest() -> None:
    texts = [SourceText("A.", None, None, None, "b", False), SourceText("B.", "HORROR", None, None, "b", False)]
    assert digest_of(texts) == digest_of(list(texts))
    assert digest_of(texts) != digest_of(texts[:1])


def test_a_mistyped_path_never_goes_out_to_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    for source in ("data/storys.jsonl", "data/storys", "nowhere/storys.txt"):
        with pytest.raises(CorpusError, match="There is no file or folder"):
            read(source)


def test_a_source_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match="There is no file or folder"):
        read(tmp_path / "nothing.txt")
    with pytest.raises(CorpusError, match="has no file that ends in"):
        read(tmp_path)


def test_stray_white_space_goes_and_paragraphs_stay() -> None:
    assert clean(" a  b\r\n \r\n\r\n\tc\nd \x00\n") == "a b\n\nc\nd"
