from __future__ import annotations

from pathlib import Path

import pytest

from trainer.checkpoints import MARK, fault, keep_newest, newest_whole, publish


def write(directory: Path, step: int) -> Path:
    staged = directory / "being-written" / f"checkpoint-{step}"
    staged.mkdir(parents=True)
    (staged / "model.safetensors").write_bytes(b"weights" * step)
    (staged / "trainer_state.json").write_text("{}")
    final = directory / f"checkpoint-{step}"
    publish(staged, final)
    return final


def test_a_published_checkpoint_is_whole(tmp_path: Path) -> None:
    path = write(tmp_path, 10)
    assert fault(path) is None
    assert newest_whole(tmp_path).path == path


@pytest.mark.parametrize("damage", ["no mark", "torn mark", "empty mark", "missing", "shorter", "flipped"])
def test_a_checkpoint_that_is_not_whole_is_named_and_passed_over(tmp_path: Path, damage: str) -> None:
    older, newer = write(tmp_path, 9), write(tmp_path, 10)
    weights = newer / "model.safetensors"
    if damage == "no mark":
        (newer / MARK).unlink()
    elif damage == "torn mark":
        (newer / MARK).write_text("{")
    elif damage == "empty mark":
        (newer / MARK).write_text("[]")
    elif damage == "missing":
        weights.unlink()
    elif damage == "shorter":
        weights.write_bytes(weights.read_bytes()[:-1])
    else:
        weights.write_bytes(b"W" + weights.read_bytes()[1:])
    found = newest_whole(tmp_path)
    assert found.path == older
    assert len(found.torn) == 1
    assert "checkpoint-10" in found.torn[0]


def test_checkpoints_are_ordered_by_number_and_not_by_name(tmp_path: Path) -> None:
    write(tmp_path, 9)
    newer = write(tmp_path, 10)
    assert newest_whole(tmp_path).path == newer


def test_what_was_just_written_is_kept_and_torn_ones_from_a_lost_future_go(tmp_path: Path) -> None:
    for step in (2, 4, 6, 8):
        write(tmp_path, step)
    keep_newest(tmp_path, 2, tmp_path / "checkpoint-4")
    assert sorted(path.name for path in tmp_path.glob("checkpoint-*")) == ["checkpoint-2", "checkpoint-4"]


def test_only_the_newest_are_kept(tmp_path: Path) -> None:
    for step in (8, 9, 10, 11):
        write(tmp_path, step)
    keep_newest(tmp_path, 2, tmp_path / "checkpoint-11")
    assert sorted(path.name for path in tmp_path.glob("checkpoint-*")) == ["checkpoint-10", "checkpoint-11"]


def test_an_empty_directory_has_nothing_to_go_on_from(tmp_path: Path) -> None:
    assert newest_whole(tmp_path).path is None
    assert newest_whole(tmp_path / "missing").path is None
