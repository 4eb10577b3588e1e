"""What was staged is read back by number, in any order, whichever file and part it lies in."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from trainer.corpus.stage import SCHEMA, Stage
from trainer.corpus.staged import Staged


@pytest.fixture
def staged(tmp_path: Path) -> Staged:
    """2,600 passages in two files, the first of three parts."""
    stage = Stage(tmp_path / "s", "a")
    for number in range(2600):
        row: dict[str, Any] = dict.fromkeys(SCHEMA.names)
        stage.add(row | {"text": f"story {number}", "genre": ["HORROR", None][number % 2], "lot": 0.5, "held_out": False})
        if number == 2299:
            stage.commit(0, 2300, {})
    stage.commit(1, 0, {})
    return stage.staged()


def test_passages_come_in_the_order_asked_for(staged: Staged) -> None:
    order = np.random.default_rng(1).permutation(2600)
    order = np.concatenate((order, order[:5]))
    assert list(staged.texts(order)) == [f"story {number}" for number in order]
    rows = [row for batch in staged.batches(order, ["text", "genre"]) for row in batch]
    assert rows == [{"text": f"story {number}", "genre": ["HORROR", None][number % 2]} for number in order]


def test_all_fields_are_there_unless_some_are_asked_for(staged: Staged) -> None:
    ((row,),) = staged.batches(np.array([2599]))
    assert list(row) == SCHEMA.names
    assert row["text"] == "story 2599"


def test_nothing_asked_for_is_nothing_read(staged: Staged) -> None:
    assert list(staged.batches(np.empty(0, np.int64))) == []


def test_a_name_that_occurs_often_is_in_memory_once(staged: Staged) -> None:
    genres = staged.names("genre")
    assert genres.tolist() == ["HORROR", None] * 1300
    assert len({id(genre) for genre in genres}) == 2


def test_an_empty_stage_reads_back_empty(tmp_path: Path) -> None:
    empty = Stage(tmp_path / "s", "a").staged()
    assert len(empty) == 0
    assert empty.names("genre").tolist() == []
