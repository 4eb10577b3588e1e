from __future__ import annotations

import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
from filelock import FileLock

from trainer.__main__ import main
from trainer.corpus.building import _identity
from trainer.corpus.gathering import SourceUnit
from trainer.corpus.selection import choose, quotas
from trainer.corpus.stage import SCHEMA, Stage
from trainer.corpus.weights import weighted
from trainer.errors import BadSetting
from trainer.settings import CorpusSettings
from trainer.sources.reading import Unit
from trainer.sources.texts import read_texts


def corpus(*args: object) -> int:
    return main(["corpus", *map(str, args)])


def digest_of_tree(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def figures(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    return json.loads(capsys.readouterr().out.strip().splitlines()[-1])


GENRES = ("HORROR", "SCI-FI")
SUBJECTS = {
    "HORROR": "ghost corpse grave vampire scream skeleton cellar shadow",
    "SCI-FI": "robot planet rocket laser orbit android captain engine",
}
WHAT = "lamp boat letter garden clock horse bridge apple window kettle mirror ladder violin basket candle hammer"
LIKE = "old small green quiet broken heavy bright narrow golden dusty wooden gentle hollow crooked silver patient"
DID = "found carried painted dropped followed sold buried mended opened borrowed counted washed hid missed lifted kept"
WHERE = "mill harbor tower market station orchard bakery school forest valley kitchen river"


def story(genre: str, number: int) -> str:
    """Prose of a genre that a classifier can tell, no two alike."""
    random = Random(f"{genre} {number}")

    def one(words: str) -> str:
        return random.choice(words.split())

    lines = [
        f"In the {one(WHERE)} the {one(LIKE)} {one(SUBJECTS[genre])} {one(DID)} a {one(LIKE)} {one(WHAT)}, "
        f"and the {one(SUBJECTS[genre])} {one(DID)} the {one(WHAT)} of the {one(WHERE)}."
        for _ in range(6)
    ]
    return " ".join(lines[:3]) + "\n\n" + " ".join(lines[3:])


def write_books(folder: Path, books: int = 12, stories: int = 8, untagged: int = 0, first: int = 0) -> Path:
    """Books of either genre in turn, told from story `first` on, and stories of one book that nobody tagged."""
    folder.mkdir(parents=True, exist_ok=True)
    records = [
        {
            "text": story(GENRES[number // stories % 2], number),
            "genre": GENRES[number // stories % 2].lower(),
            "book": f"Book {number // stories}",
            "license": "CC BY 4.0",
        }
        for number in range(first, first + books * stories)
    ]
    records += [{"text": story(GENRES[number % 2], 100_000 + number), "book": "Untagged"} for number in range(untagged)]
    (folder / "books.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    return folder


def test_a_corpus_is_what_training_reads(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    books = write_books(tmp_path / "books")
    out = tmp_path / "corpus"
    assert corpus(books, "--out", out, "--text", tmp_path / "stories.txt", "--held-out", 0.2, "--json") == 0
    made = figures(capsys)
    texts = read_texts([str(out)])
    train = [text for text in texts if not text.held_out]
    held_out = [text for text in texts if text.held_out]
    assert (len(train), len(held_out)) == (made["train"], made["held_out"])
    assert made["train"] + made["held_out"] == 96
    assert not {text.book for text in train} & {text.book for text in held_out}
    assert {text.genre for text in texts} == {"HORROR", "SCI-FI"}
    assert {text.licence for text in texts} == {"CC BY 4.0"}

    lines = read_texts([str(tmp_path / "stories.txt"), str(tmp_path / "held-out-stories.txt")])
    assert Counter((text.text, text.genre, text.held_out) for text in lines) == Counter(
        (text.text, text.genre, text.held_out) for text in texts
    )
    assert "CC BY 4.0" in (out / "corpus.json").read_text()
    assert not list(tmp_path.glob("*.building"))


def test_a_corpus_without_a_held_out_side_is_read_back(tmp_path: Path) -> None:
    books = write_books(tmp_path / "books", books=2)
    out = tmp_path / "corpus"
    assert corpus(books, "--out", out, "--held-out", 0) == 0
    assert [text.held_out for text in read_texts([str(out)])] == [False] * 16


def test_a_held_out_side_is_never_taught_when_it_is_named_alone(tmp_path: Path) -> None:
    books = write_books(tmp_path / "books")
    out = tmp_path / "corpus"
    assert corpus(books, "--out", out, "--held-out", 0.2) == 0
    texts = read_texts([str(out / "train"), str(out / "held_out")])
    assert {text.text for text in texts if text.held_out} == {text.text for text in read_texts([str(out)]) if text.held_out}


def test_the_card_says_what_the_corpus_is_and_shows_it(tmp_path: Path) -> None:
    books = write_books(tmp_path / "books", books=24, untagged=40)
    (tmp_path / "short.txt").write_text("[HORROR] Too short a tale.\n")
    out = tmp_path / "corpus"
    assert corpus(books, tmp_path / "short.txt", "--out", out, "--held-out", 0.3, "--confidence", 0.5) == 0
    card = (out / "README.md").read_text()
    made = json.loads((out / "corpus.json").read_text())
    assert "--out corpus --held-out 0.3 --confidence 0.5\n```" in card
    assert "none named (40), CC BY 4.0 (192)" in card
    assert f"| HORROR | {made['genres']['HORROR']} | 0 | {made['genres']['HORROR']} |" in card
    assert "left out texts of less than 40 words; texts: 1. `Such as (4 words): Too short a tale.`" in card
    assert f"its macro-F1 is {made['tagging']['macro_f1']:.3f}" in card
    assert len(re.findall(r"^\*\*\[(?:HORROR|SCI-FI)\] ", card, re.MULTILINE)) == 10
    for picture in ("lengths.png", "genres.png", "confusion.png"):
        assert f"]({picture})" in card
        assert (out / picture).read_bytes().startswith(b"\x89PNG\r\n")


def test_the_same_inputs_and_seed_give_the_same_bytes(tmp_path: Path) -> None:
    books = write_books(tmp_path / "books", untagged=30)
    for name in ("one", "two"):
        folder = tmp_path / name
        folder.mkdir()
        assert corpus(books, "stories:@2", "--out", folder / "c", "--text", folder / "t.txt", "--lines", 200) == 0
    assert digest_of_tree(tmp_path / "one") == digest_of_tree(tmp_path / "two")


def test_untagged_text_is_tagged_or_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    books = write_books(tmp_path / "books", books=24, untagged=40)
    assert corpus(books, "--out", tmp_path / "c", "--held-out", 0.3, "--confidence", 0.5, "--json") == 0
    made = figures(capsys)
    assert made["tagging"]["tagged"] + made["tagging"]["left_out"] == 40
    assert made["tagging"]["tagged"] > 30
    found = [text for text in read_texts([str(tmp_path / "c")]) if text.book == "Untagged"]
    horror = set(SUBJECTS["HORROR"].split())
    right = sum((text.genre == "HORROR") == bool(horror & set(text.text.split())) for text in found)
    assert right >= 0.9 * len(found)


def test_of_two_copies_the_one_with_a_genre_is_kept(tmp_path: Path) -> None:
    books = write_books(tmp_path / "books")
    plain = tmp_path / "plain.jsonl"
    records = [json.loads(line) for line in (books / "books.jsonl").read_text().splitlines()]
    plain.write_text("".join(json.dumps({"text": record["text"], "book": record["book"]}) + "\n" for record in records))
    assert corpus(plain, books, "--out", tmp_path / "c") == 0
    assert Counter(text.genre for text in read_texts([str(tmp_path / "c")])) == {"HORROR": 48, "SCI-FI": 48}


def test_a_source_all_of_which_is_held_out_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (write_books(tmp_path) / "books.jsonl").rename(tmp_path / "test.jsonl")
    assert corpus(tmp_path / "test.jsonl", "--out", tmp_path / "c") == 2
    assert "is held out by the name of its file" in capsys.readouterr().err


def test_weights_that_change_nothing_are_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one, two = write_books(tmp_path / "one"), write_books(tmp_path / "two", first=1600)
    assert corpus(f"{one}@3", two, "--out", tmp_path / "c") == 0
    assert "change nothing without --lines" in capsys.readouterr().err


def test_copies_do_not_cross_the_split(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    books = write_books(tmp_path / "books")
    held = tmp_path / "held" / "valid.jsonl"
    held.parent.mkdir()
    copied = story("HORROR", 3)
    held.write_text(json.dumps({"text": copied.replace(", and the", ", but the", 1), "genre": "horror", "book": "Copy"}) + "\n")
    assert corpus(books, held.parent, "--out", tmp_path / "c", "--json") == 0
    made = figures(capsys)
    assert made["duplicates"]["copies_of_held_out"] == 1
    texts = read_texts([str(tmp_path / "c")])
    assert [text.book for text in texts if text.text.endswith(copied[-100:])] == ["Copy"]


def test_lines_are_shared_evenly_and_by_weight(tmp_path: Path) -> None:
    books = write_books(tmp_path / "books", books=20)
    more = write_books(tmp_path / "more", first=1600)
    told = {record["text"] for record in map(json.loads, (more / "books.jsonl").read_text().splitlines())}
    assert corpus(books, f"{more}@100", "--out", tmp_path / "c", "--lines", 60) == 0
    train = [text for text in read_texts([str(tmp_path / "c")]) if not text.held_out]
    assert Counter(text.genre for text in train) == {"HORROR": 30, "SCI-FI": 30}
    assert sum(text.text in told for text in train) > 45


def test_an_existing_corpus_is_kept_until_it_may_be_replaced(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    books = write_books(tmp_path / "books")
    out = tmp_path / "c"
    assert corpus(books, "--out", out) == 0
    before = digest_of_tree(out)
    assert corpus(books, "--out", out, "--seed", 2) == 2
    assert "--overwrite" in capsys.readouterr().err
    assert digest_of_tree(out) == before
    assert corpus(books, "--out", out, "--seed", 2, "--overwrite") == 0
    assert digest_of_tree(out) != before
    other = tmp_path / "photos"
    other.mkdir()
    (other / "cat.jpg").write_text("a cat")
    assert corpus(books, "--out", other, "--overwrite") == 2
    assert (other / "cat.jpg").read_text() == "a cat"


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["{tmp}/none.txt", "--out", "{tmp}/c"], "no file or folder"),
        (["{tmp}/empty.txt", "--out", "{tmp}/c"], "Nothing is left"),
        (["stories:"], "--out DIR"),
        (["--out", "{tmp}/c"], "Name a source"),
        (["stories:", "stories:", "--out", "{tmp}/c"], "named twice"),
        (["stories:@0", "--out", "{tmp}/c"], "over 0"),
        (["stories:", "--out", "{tmp}/c", "--lines", "0"], "--lines should be"),
        (["stories:", "--out", "{tmp}/c", "--label", "western"], "--label western=ADVENTURE"),
        (["stories:", "--text", "{tmp}"], "is a folder"),
        (["grammar:", "--out", "{tmp}/c", "--genres", "WESTERN"], "The grammar writes"),
        (["stories:", "--out", "{tmp}/c", "--text", "{tmp}/c"], "put the text beside it"),
        (["stories:", "--out", "{tmp}/c", "--text", "{tmp}/c/s.txt"], "put the text beside it"),
        (["stories:", "--text", "{tmp}/none/s.txt"], "There is no folder"),
        (["stories:", "--text", "."], "is a folder"),
        (["stories:", "--text", "{tmp}/" + 250 * "x"], "can't be used (File name too long)"),
        (["{tmp}/" + 300 * "x", "--out", "{tmp}/c"], "can't be used (File name too long)"),
    ],
)
def test_bad_input_is_a_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str], args: list[str], says: str) -> None:
    (tmp_path / "empty.txt").write_text("\n\n")
    assert corpus(*(arg.replace("{tmp}", str(tmp_path)) for arg in args)) == 2
    err = capsys.readouterr().err
    assert says in err
    assert "Traceback" not in err
    assert not list(tmp_path.glob("c*"))  # no corpus, and nothing of one in the making


def test_a_label_that_says_no_known_genre_is_named_with_its_place(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "tales.csv"
    path.write_text(f"story,label\n{json.dumps(story('HORROR', 1))},zine\n{json.dumps(story('HORROR', 2))},zine\n")
    assert corpus(path, "--out", tmp_path / "c") == 2
    assert f"'zine' (2, first in {path}:2). For one that does: --label zine=GENRE" in capsys.readouterr().err
    assert corpus(path, "--out", tmp_path / "c", "--label", "zine=mystery") == 0
    assert {text.genre for text in read_texts([str(tmp_path / "c")])} == {"MYSTERY"}


def test_genres_may_be_asked_for_in_words(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    books = write_books(tmp_path / "books")
    assert corpus(books, "--out", tmp_path / "c", "--genres", "scifi", "western") == 0
    assert {text.genre for text in read_texts([str(tmp_path / "c")])} == {"SCI-FI"}
    assert "There is no story of WESTERN in" in capsys.readouterr().err


def test_one_bad_record_never_loses_the_others(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    books = write_books(tmp_path / "books")
    path = books / "books.jsonl"
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines[:10], '{"text": broken', *lines[10:], '{"story_id": 5}']) + "\n")
    assert corpus(books, "--out", tmp_path / "c", "--json") == 0
    captured = capsys.readouterr()
    made = json.loads(captured.out.strip().splitlines()[-1])
    assert made["train"] + made["held_out"] == 96
    assert made["bad"] == 2
    assert "books.jsonl:11" in captured.err
    assert corpus(books, "--out", tmp_path / "d", "--strict") == 2
    assert "books.jsonl:11" in capsys.readouterr().err


def test_a_stage_goes_on_from_its_last_commit(tmp_path: Path) -> None:
    def row(number: int) -> dict[str, Any]:
        return dict.fromkeys(SCHEMA.names) | {"text": f"story {number}", "lot": 0.5, "held_out": False}

    stage = Stage(tmp_path / "s", "a")
    for number in range(2500):
        stage.add(row(number))
    stage.commit(1, 0, {"seen": 2500})
    stage.add(row(9999))
    again = Stage(tmp_path / "s", "a")
    assert (again.state.rows, again.state.unit, again.state.tallies) == (2500, 1, {"seen": 2500})
    again.add(row(2500))
    again.commit(1, 1, {})
    assert again.staged().column("text").to_pylist()[-2:] == ["story 2499", "story 2500"]
    assert Stage(tmp_path / "s", "b").state.rows == 0


def many_books(folder: Path, files: int) -> Path:
    for number in range(files):
        write_books(folder / f"part{number:02}", books=2, first=1600 * number)
    return folder


@pytest.mark.parametrize("when", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_corpus_that_was_cut_off_goes_on_and_is_the_same(tmp_path: Path, when: signal.Signals) -> None:
    books = many_books(tmp_path / "books", 40)
    out = tmp_path / "c"
    command = [sys.executable, "-m", "trainer", "corpus", str(books), "--out", str(out)]
    first = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    state = tmp_path / "c.building" / "stage" / "state.json"
    deadline = time.monotonic() + 100
    while time.monotonic() < deadline and not (state.exists() and json.loads(state.read_text())["unit"] >= 3):
        time.sleep(0.005)
    first.send_signal(when)
    _, err = first.communicate(timeout=60)  # also: no worker lives on and holds the pipe
    assert not out.exists()
    assert first.returncode == {signal.SIGINT: 130, signal.SIGTERM: 143}.get(when, -when)
    assert when is signal.SIGKILL or "goes on" in err

    again = subprocess.run(command, capture_output=True, text=True)
    assert (again.returncode, "Going on after" in again.stderr) == (0, True), again.stderr
    made = digest_of_tree(out)
    assert corpus(books, "--out", out, "--overwrite") == 0
    assert digest_of_tree(out) == made


def test_two_runs_never_make_one_corpus_at_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    books = write_books(tmp_path / "books")
    staging = tmp_path / "c.building"
    staging.mkdir()
    with FileLock(staging / "lock"):
        assert corpus(books, "--out", tmp_path / "c") == 2
        assert "Another run works in" in capsys.readouterr().err
        assert staging.exists()  # what the other run has there is its own
    assert corpus(books, "--out", tmp_path / "c") == 0
    assert not staging.exists()


def test_an_output_that_cannot_be_made_is_a_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    books = write_books(tmp_path / "books")
    (tmp_path / "file").write_text("no folder")
    assert corpus(books, "--out", tmp_path / "file" / "c") == 2
    assert "can't be made (Not a directory)" in capsys.readouterr().err


def test_a_file_whose_name_is_no_text_is_read_and_such_a_source_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    odd = os.fsdecode(b"\xff")
    books = write_books(tmp_path / "books")
    try:
        (books / "books.jsonl").rename(books / f"{odd}.jsonl")
    except OSError:
        pytest.skip("this file system takes names in UTF-8 only")
    assert corpus(books, "--out", tmp_path / "c") == 0
    assert len(read_texts([str(tmp_path / "c")])) == 96
    assert corpus(books / f"{odd}.jsonl", "--out", tmp_path / "d") == 2
    assert "is no UTF-8: rename it" in capsys.readouterr().err


def test_no_passage_loses_the_end_of_its_story(tmp_path: Path) -> None:
    paragraphs = ["\n\n".join(story("HORROR", number) for number in range(start, start + 9)) for start in range(0, 90, 9)]
    texts = [f"{text}\n\nThe end of tale {number} came at last." for number, text in enumerate(paragraphs)]
    path = tmp_path / "long.jsonl"
    path.write_text("".join(json.dumps({"text": text, "genre": "horror", "book": text[:40]}) + "\n" for text in texts))
    for least in (1, 60, 150):
        assert corpus(path, "--out", tmp_path / "c", "--passage-words", 160, "--min-words", least, "--overwrite") == 0
        words = Counter(word for text in read_texts([str(tmp_path / "c")]) for word in text.text.split())
        assert words == Counter(word for text in texts for word in text.split())


def test_what_a_grammar_tells_about_is_read_anew_when_it_changed(tmp_path: Path) -> None:
    subjects = tmp_path / "subjects.txt"
    subjects.write_text("clockwork octopus\n")
    unit = [SourceUnit(f"grammar:{subjects}", Unit(f"grammar:{subjects} 84", lambda _: iter(())))]
    before = _identity(CorpusSettings((f"grammar:{subjects}",), tmp_path / "c"), unit)
    subjects.write_text("purple walrus hat\n")
    assert _identity(CorpusSettings((f"grammar:{subjects}",), tmp_path / "c"), unit) != before


def test_quotas_are_even_and_what_one_lacks_the_others_give() -> None:
    assert quotas([5, 100, 100], 65) == [5, 30, 30]
    assert quotas([100, 100, 100], 100) == [33, 34, 33]
    assert sum(quotas([1, 2, 3], 6)) == 6


def test_a_choice_depends_on_nothing_but_the_seed() -> None:
    genres = np.zeros(100, np.int64)
    some = choose(genres, np.ones(100), np.arange(100), 10, 1)
    assert some.tolist() == choose(genres, np.ones(100), np.arange(100), 10, 1).tolist()
    assert some.tolist() != choose(genres, np.ones(100), np.arange(100), 10, 2).tolist()
    # without one that was not chosen, the same ones are
    rest = np.setdiff1d(np.arange(100), np.setdiff1d(np.arange(100), some)[:1])
    assert some.tolist() == choose(genres, np.ones(100), rest, 10, 1).tolist()


def test_a_weight_is_read_off_the_source(tmp_path: Path) -> None:
    odd = tmp_path / "a@2"
    odd.write_text("")
    found = weighted(("stories:@2.5", "books", str(odd)))
    assert [(source.name, source.weight) for source in found] == [("stories:", 2.5), ("books", 1.0), (str(odd), 1.0)]
    with pytest.raises(BadSetting, match="over 0"):
        weighted(("books@-1",))
