"""Which number of threads is taken, and that it stays: it decides on the last bits of a story."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from hash_forward import HashForward

from bot.engine import thread_choice
from bot.engine.thread_choice import choose_threads


@pytest.fixture(autouse=True)
def _threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture
def times(monkeypatch: pytest.MonkeyPatch) -> dict[int, float]:
    """The time of a step by the number of threads, in place of a clock's."""
    seconds = {1: 1.0, 2: 0.6, 4: 0.58, 8: 2.0}
    monkeypatch.setattr(thread_choice, "BUDGET_S", 0.001)
    monkeypatch.setattr(thread_choice, "_step_time_s", lambda _: seconds[torch.get_num_threads()])
    monkeypatch.setattr(thread_choice.os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    return seconds


def chosen(record: Path | None, weights: str = "a") -> int:
    choose_threads(HashForward(8, 30), weights, record)
    return torch.get_num_threads()


def test_the_fastest_is_taken_and_more_threads_only_where_they_pay(times: dict[int, float]) -> None:
    assert chosen(None) == 2  # four would save 3 %
    times[4] = 0.3
    assert chosen(None) == 4


def test_a_first_step_that_takes_longer_decides_nothing(times: dict[int, float], monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []

    def cold_at_first(_: object) -> float:
        calls.append(torch.get_num_threads())
        return 5.0 if len(calls) == 1 else 1.0

    monkeypatch.setattr(thread_choice, "_step_time_s", cold_at_first)
    assert chosen(None) == 1


def test_a_choice_is_kept_whatever_a_later_minute_would_measure(times: dict[int, float], tmp_path: Path) -> None:
    record = tmp_path / "state" / "threads.json"
    assert chosen(record) == 2
    times[8] = 0.01
    assert chosen(record) == 2
    assert chosen(record, weights="others") == 8
    assert chosen(record) == 2


@pytest.mark.parametrize("torn", ["", "[]", '{"8 cores', "{}"])
def test_a_torn_record_is_measured_anew(times: dict[int, float], tmp_path: Path, torn: str) -> None:
    record = tmp_path / "threads.json"
    record.write_text(torn)
    assert chosen(record) == 2
    assert list(json.loads(record.read_text()).values()) == [2]


@pytest.mark.usefixtures("times")
def test_where_nothing_can_be_written_the_log_says_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").touch()
    assert chosen(tmp_path / "file" / "threads.json") == 2
    assert "can't be written" in caplog.text
