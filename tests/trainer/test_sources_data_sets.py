"""Data sets of the hub and on the disk, the project's own stories, folders, and the parts that a source is read in."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from math import ceil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import datasets
import pytest

from trainer.errors import CorpusError
from trainer.sources import reading
from trainer.sources.columns import ColumnMap
from trainer.sources.reading import SourceText, read_sources, units

SHARED = Path(__file__).resolve().parents[3] / "shared/data"


def read(source: Path | str, bad: list[str] | None = None) -> list[SourceText]:
    told = bad.append if bad is not None else None
    return [text for unit in units(str(source)) for text in unit.read(bad=told)]


class FakeHub:
    """Stands in for `datasets.load_dataset`."""

    def __init__(self, answer: object) -> None:
        self.answer = answer
        self.asked: list[tuple[Any, ...]] = []

    def __call__(self, name: str, config: str | None, *, streaming: bool) -> object:
        self.asked.append((name, config, streaming))
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> FakeHub:
    fake = FakeHub({"train": [{"text": "One."}], "validation": [{"text": "Two."}]})
    monkeypatch.setattr(datasets, "load_dataset", fake)
    return fake


def test_a_data_set_of_the_hub_is_streamed_with_its_own_held_out_splits(hub: FakeHub) -> None:
    texts = read("hf:roneneldan/TinyStories")
    assert [(text.text, text.held_out, text.origin) for text in texts] == [
        ("One.", False, "roneneldan/TinyStories row 1"),
        ("Two.", True, "roneneldan/TinyStories validation row 1"),
    ]
    read("hf:owner/name:simple")
    assert hub.asked == [("roneneldan/TinyStories", None, True), ("owner/name", "simple", True)]


def test_prompts_of_writing_prompts_are_taken_whatever_the_map_says(hub: FakeHub) -> None:
    hub.answer = {"train": [{"prompt": "[ WP ] You are a lamp .", "story": "I shine."}]}
    (unit,) = units("hf:euclaise/writingprompts")
    (text,) = unit.read(ColumnMap(text="body"))
    assert (text.prompt, text.text) == ("You are a lamp .", "I shine.")


def test_classes_of_a_data_set_are_read_by_their_names(hub: FakeHub) -> None:
    rows = datasets.Dataset.from_dict({"text": ["One.", "Two."], "label": [1, 0]})
    hub.answer = {"train": rows.cast_column("label", datasets.ClassLabel(names=["horror", "comedy"]))}
    assert [text.genre for text in read("hf:owner/name")] == ["COMEDY", "HORROR"]


def test_a_hub_that_cant_be_reached_always_ends_the_reading(hub: FakeHub) -> None:
    def torn() -> Iterator[dict[str, str]]:
        yield {"text": "One."}
        raise TimeoutError("no answer")

    for answer in (ConnectionError("offline"), {"train": torn()}):
        hub.answer = answer
        with pytest.raises(CorpusError, match=r"data set owner/name can't be read .* Check the id and the network"):
            read("hf:owner/name", [])


def test_a_bad_row_of_a_data_set_is_told_of(hub: FakeHub) -> None:
    hub.answer = {"train": [{"text": "One."}, {"text": 2}, {"text": "Three."}]}
    bad: list[str] = []
    assert [text.text for text in read("hf:owner/name", bad)] == ["One.", "Three."]
    assert bad == ["owner/name row 2: the field text should be text and is 2."]
    with pytest.raises(CorpusError, match="owner/name row 2"):
        read("hf:owner/name")


CORPUS = {
    "text": ["One.", "Two."],
    "genre": ["HORROR", None],
    "prompt": ["lamp", "drawn"],
    "own_prompt": [True, False],
    "title": [None, None],
    "book": ["A/Lamp", "two"],
    "source": ["somewhere", "somewhere"],
    "author": ["A", None],
    "licence": ["CC0-1.0", None],
}


def test_a_corpus_on_the_disk_is_read_with_its_splits_and_books_as_they_are(tmp_path: Path) -> None:
    corpus = datasets.Dataset.from_dict(CORPUS)
    datasets.DatasetDict({"train": corpus, "held_out": corpus.select([1])}).save_to_disk(tmp_path / "corpus")
    texts = read(tmp_path / "corpus")
    assert [(text.text, text.genre, text.prompt, text.book, text.held_out) for text in texts] == [
        ("One.", "HORROR", "lamp", "A/Lamp", False),
        ("Two.", None, None, "two", False),
        ("Two.", None, None, "two", True),
    ]
    assert texts[0].origin == f"{tmp_path / 'corpus'} train row 1"
    assert (texts[0].author, texts[0].licence) == ("A", "CC0-1.0")


def test_a_saved_data_set_in_a_folder_is_one_source(tmp_path: Path) -> None:
    datasets.Dataset.from_dict({"story": ["One."]}).save_to_disk(tmp_path / "saved")
    (tmp_path / "other.txt").write_text("Two.\n", encoding="utf-8")
    assert [text.text for text in read(tmp_path)] == ["Two.", "One."]


def test_a_damaged_data_set_on_the_disk_is_told_of(tmp_path: Path) -> None:
    datasets.Dataset.from_dict(CORPUS).save_to_disk(tmp_path / "saved")
    next((tmp_path / "saved").glob("*.arrow")).write_bytes(b"torn")
    bad: list[str] = []
    assert read(tmp_path / "saved", bad) == []
    assert "saved is no data set that can be loaded" in bad[0]


def test_a_fifth_of_each_genre_of_our_own_stories_is_held_out_and_always_the_same() -> None:
    stories = read("stories:")
    taught, held_out = (Counter(text.genre for text in stories if text.held_out is side) for side in (False, True))
    assert len(stories) > 2000
    assert len(held_out) == 8
    for genre, count in held_out.items():
        assert count == pytest.approx(ceil((count + taught[genre]) / 5), abs=1)
    assert {text.licence for text in stories} == {"CC0-1.0"}
    assert all(text.prompt and text.genre for text in stories)
    assert not {text.text for text in stories if text.held_out} & {text.text for text in stories if not text.held_out}
    assert stories == read("stories:")


def test_a_folder_is_read_file_by_file_in_one_order(tmp_path: Path) -> None:
    for name in ("b/one.txt", "a.csv", "b/HELD_OUT/two.TXT", ".hidden/no.txt", "README.txt", "c.jsonl", "notes.md"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text({"a.csv": "text\nFrom a.\n", "c.jsonl": '{"id": 1}\n'}.get(name, f"From {name}.\n"), encoding="utf-8")
    notes: list[str] = []
    names = [unit.name for unit in units(str(tmp_path))]
    texts = [(text.text, text.held_out) for unit in units(str(tmp_path)) for text in unit.read(note=notes.append)]
    assert names == sorted(names)
    assert texts == [("From a.", False), ("From b/HELD_OUT/two.TXT.", True), ("From b/one.txt.", False)]
    assert ["README.txt is passed over" in note or "c.jsonl is passed over" in note for note in notes] == [True, True]


def test_a_file_that_cant_be_read_does_not_lose_the_next_one(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl.gz").write_bytes(b"no gzip")
    (tmp_path / "b.epub").write_bytes(b"no zip")
    (tmp_path / "c.csv").write_text("words\nx\n", encoding="utf-8")
    (tmp_path / "d.jsonl").write_text(json.dumps({"text": "Read."}), encoding="utf-8")
    bad: list[str] = []
    assert [text.text for text in read(tmp_path, bad)] == ["Read."]
    assert len(bad) == 2


def test_a_grammar_is_asked_when_it_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    story = SourceText("Once.", "FANTASY", "lamp", None, "Once.", False)
    asked: list[str] = []

    def grammar(argument: str) -> list[SourceText]:
        asked.append(argument)
        return [story]

    monkeypatch.setattr(reading, "import_module", lambda _: SimpleNamespace(read=grammar))
    assert [unit.name for unit in units("grammar:plots.txt")] == ["grammar:plots.txt"]
    assert list(read_sources(["grammar:", "grammar:plots.txt"])) == [story, story]
    assert asked == ["", "plots.txt"]


@pytest.mark.skipif(not SHARED.is_dir(), reason="the shared story data is not beside this checkout")
def test_the_shared_stories_are_read_without_a_fault() -> None:
    texts = list(read_sources([str(SHARED / "simple"), str(SHARED / "written")]))
    assert len(texts) > 3500
    assert {text.licence for text in texts} >= {None, "CC-BY-4.0"}
    assert {text.genre for text in texts} >= {"HORROR", "CHILDREN", "FAIRY-TALE"}
    assert any(text.held_out for text in texts)
    books = next(iter(units(str(SHARED / "stories/train-000.jsonl.gz")))).read()
    assert next(books).book.startswith("standardebooks/")
