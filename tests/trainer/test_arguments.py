"""How often a training on a GPU is logged."""

from __future__ import annotations

from pathlib import Path

import pytest

from trainer.arguments import arguments, log_seldom
from trainer.layout import Layout
from trainer.precision import precision
from trainer.settings import TrainSettings


@pytest.mark.parametrize(
    ("pass_s", "micro_batch", "steps", "logged"),
    [
        (0.05, 8, 10**6, 20),  # once a second
        (0.05, 2, 10**6, 10),  # where a step is four passes, and never more often than by default
        (0.002, 8, 10**6, 50),  # a loss that is none is found in time
        (0.05, 8, 1200, 12),  # a hundred points of a curve
        (0.05, 8, 40, 10),
        (3.0, 8, 10**6, 10),
    ],
)
def test_it_is_logged_once_a_second_and_a_hundred_times_in_all(
    pass_s: float, micro_batch: int, steps: int, logged: int, tmp_path: Path
) -> None:
    args = arguments(TrainSettings(tmp_path, base="gpt2"), precision("auto"), Layout(micro_batch), evaluated=False)
    log_seldom(args, pass_s, steps)
    assert args.logging_steps == logged


def test_processes_that_teach_together_log_at_the_same_steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    args = arguments(TrainSettings(tmp_path, base="gpt2"), precision("auto"), Layout(8), evaluated=False)
    monkeypatch.setenv("WORLD_SIZE", "2")
    log_seldom(args, 0.002, 10**6)
    assert args.logging_steps == 10
