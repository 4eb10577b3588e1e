from __future__ import annotations

import threading
from concurrent.futures import CancelledError
from typing import Any, cast

import numpy as np
import pytest
import torch

from trainer.errors import CorpusError
from trainer.material import Passage, make_passages
from trainer.packing import IGNORED
from trainer.rows import PaddedLines, StoryRows, StoryTokens
from trainer.sources.reading import SourceText
from trainer.story_format import StoryCodec


def passages(codec: StoryCodec, texts: list[str], room: int = 80) -> list[Passage]:
    sources = [SourceText(text, "HORROR", None, f"Title {n}", str(n), False) for n, text in enumerate(texts)]
    return make_passages(sources, codec.format.genres, room, lambda parts: [len(ids) for ids in codec.encode_texts(parts)])


def rows_of(codec: StoryCodec, texts: list[str], seed: int = 1) -> StoryRows:
    return StoryRows(StoryTokens(passages(codec, texts), codec), 160, seed)


def dump(rows: StoryRows) -> list[list[int]]:
    return [rows[n]["input_ids"].tolist() for n in range(len(rows))]


def test_prompts_and_order_are_drawn_anew_each_epoch_and_come_again_with_the_number(
    codec: StoryCodec, texts: list[str]
) -> None:
    rows = rows_of(codec, texts)
    first = dump(rows)
    rows.set_epoch(1)
    second = dump(rows)
    rows.set_epoch(0)
    assert first != second
    assert dump(rows) == first
    again = rows_of(codec, texts)
    again.set_epoch(1)
    assert dump(again) == second


def test_the_next_epoch_is_drawn_while_the_second_half_of_one_is_read(
    codec: StoryCodec, texts: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[tuple[int, str]] = []
    draw = StoryRows._drawn

    def watched(self: StoryRows, epoch: int, **how: bool) -> Any:
        drawn.append((epoch, threading.current_thread().name))
        return draw(self, epoch, **how)

    monkeypatch.setattr(StoryRows, "_drawn", watched)
    here = threading.current_thread().name
    rows = rows_of(codec, texts)
    rows[len(rows) // 2 - 1]
    assert drawn == [(0, here)]
    dump(rows)
    rows.set_epoch(1)
    first = dump(rows)
    cast("Any", rows._next).result()
    rows.set_epoch(7)  # and not the one that was drawn
    assert drawn == [(0, here), (1, "next-epoch"), (2, "next-epoch"), (7, here)]
    assert dump(rows) != first
    rows.set_epoch(1)
    assert dump(rows) == first


def test_a_fault_in_a_draw_ahead_is_raised_where_the_epoch_begins(
    codec: StoryCodec, texts: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = rows_of(codec, texts)
    expected = rows_of(codec, texts)
    with monkeypatch.context() as patch:
        patch.setattr(StoryRows, "_arranged", lambda *_: 1 / 0)
        dump(rows)
        with pytest.raises(ZeroDivisionError):
            rows.set_epoch(1)
    rows.set_epoch(1)  # as a training that goes on with less memory does
    expected.set_epoch(1)
    assert dump(rows) == dump(expected)


def test_no_epoch_is_drawn_ahead_after_the_last(codec: StoryCodec, texts: list[str]) -> None:
    rows = StoryRows(StoryTokens(passages(codec, texts), codec), 160, 1, 2)
    dump(rows)
    assert rows._next is not None
    rows.set_epoch(1)
    dump(rows)
    assert rows._next is None


def test_a_process_that_ends_waits_for_no_epoch(codec: StoryCodec, texts: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    rows = rows_of(codec, texts)
    ended = threading.Thread()
    monkeypatch.setattr("trainer.rows.main_thread", lambda: ended)
    dump(rows)
    with pytest.raises(CancelledError):
        rows.set_epoch(1)


def test_every_epoch_has_the_same_number_of_rows(codec: StoryCodec, texts: list[str]) -> None:
    rows = rows_of(codec, texts)
    lengths = set()
    for epoch in range(6):
        rows.set_epoch(epoch)
        lengths.add(len(dump(rows)))
    assert len(lengths) == 1


def test_a_row_holds_whole_stories_as_the_codec_writes_them(codec: StoryCodec, texts: list[str]) -> None:
    made = passages(codec, texts)
    rows = StoryRows(StoryTokens(made, codec), 160, 1)
    separator, end = codec.opening(None, [])[-1], codec.end_id
    told = 0
    for number in range(len(rows)):
        row = rows[number]
        ids, first = row["input_ids"].tolist(), 0
        for length in row["story_lengths"]:
            story, first = ids[first : first + length], first + length
            if story[0] != end:  # what fills the row up
                text = codec.tokenizer.decode(story[story.index(separator) + 1 : -1])
                assert story == codec.story("HORROR", story[1 : story.index(separator)], codec.encode_text(text))
                told += 1
    assert told == len(made)
    assert sorted(rows.lengths()) == sorted(n for number in range(len(rows)) for n in _told(rows[number], end))


def _told(row: dict[str, Any], end: int) -> list[int]:
    starts = np.cumsum([0, *row["story_lengths"]])[:-1]
    return [n for start, n in zip(starts, row["story_lengths"], strict=True) if row["input_ids"][start] != end]


def test_rows_are_of_the_block_and_mostly_in_use(codec: StoryCodec, texts: list[str]) -> None:
    rows = rows_of(codec, texts)
    assert all(rows[0][name].shape == (160,) for name in ("input_ids", "position_ids", "labels"))
    assert sum(rows[0]["story_lengths"]) == 160
    assert rows.used > 0.8
    labels = torch.stack([rows[n]["labels"] for n in range(len(rows))])
    assert int((labels == codec.end_id).sum()) == len(texts)
    assert int((labels == codec.tag_id("HORROR")).sum()) == 0
    assert int((labels != IGNORED).sum()) > 0.7 * labels.numel()


def test_a_genre_that_is_not_taught_becomes_none(codec: StoryCodec) -> None:
    sources = [SourceText("A tale.", "CHILDREN", None, None, "b", False)]
    made = make_passages(sources, codec.format.genres, 80, lambda parts: [len(part) for part in parts])
    assert [passage.genre for passage in made] == [None]


def test_only_the_first_passage_of_a_text_has_its_prompt(codec: StoryCodec) -> None:
    text = "\n\n".join(f"Paragraph {n} about the sea and the ships." for n in range(12))
    sources = [SourceText(text, None, "the sea", None, "b", False)]
    made = make_passages(sources, codec.format.genres, 60, lambda parts: [len(ids) for ids in codec.encode_texts(parts)])
    assert len(made) > 2
    assert [passage.prompts.own for passage in made] == ["the sea"] + [None] * (len(made) - 1)


@pytest.mark.parametrize("at_once", [1, 700, 10**6])
def test_passages_are_the_same_however_many_texts_are_read_at_once(
    codec: StoryCodec, monkeypatch: pytest.MonkeyPatch, at_once: int
) -> None:
    monkeypatch.setattr("trainer.material._CHARACTERS_AT_ONCE", at_once)
    texts = ["\n\n".join(f"Paragraph {n} of story {k} is about the sea." for n in range(1 + 5 * (k % 3))) for k in range(9)]
    sources = [SourceText(text, None, f"story {k}", None, str(k), False) for k, text in enumerate(texts)]
    done: list[int] = []
    made = make_passages(sources, codec.format.genres, 60, codec.count, done.append)
    own = [passage.prompts.own for passage in made if passage.prompts.own is not None]
    assert own == [f"story {k}" for k in range(9)]
    assert "".join("".join(passage.text for passage in made).split()) == "".join("".join(texts).split())
    assert done[-1] == 9


def test_sources_without_a_story_are_refused(codec: StoryCodec) -> None:
    with pytest.raises(CorpusError, match="no story"):
        make_passages([], codec.format.genres, 60, lambda parts: [0 for _ in parts])


@pytest.mark.parametrize("end_taught", [True, False])
def test_the_reports_lines_are_cut_and_padded_and_their_end_is_taught_or_not(
    codec: StoryCodec, texts: list[str], end_taught: bool
) -> None:
    lines = PaddedLines(StoryTokens(passages(codec, texts), codec), 48, 1, end_taught)
    assert len(lines) == len(texts)
    whole = 0
    for number in range(len(lines)):
        row = lines[number]
        story = int(row["attention_mask"].sum())
        assert all(part.shape == (48,) for part in row.values())
        assert set(row["labels"][story:].tolist()) <= {IGNORED}
        assert set(row["input_ids"][story:].tolist()) <= {codec.end_id}
        if row["input_ids"][story - 1] == codec.end_id:
            whole += 1
            assert row["labels"][story - 1] == (codec.end_id if end_taught else IGNORED)
    assert 0 < whole < len(lines)  # some are cut before their end
