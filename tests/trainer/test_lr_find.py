"""The sweep suggests the rate at which the loss falls fastest, and ends where it goes away."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from trainer.__main__ import main
from trainer.lr_find import smooth, suggest


def sweep(loss_of: dict[float, float]) -> float:
    return suggest(list(smooth(iter(loss_of.items()))))


def test_the_suggestion_lies_on_the_slope_before_the_lowest_loss() -> None:
    rates = [10 ** (-6 + step / 20) for step in range(110)]
    losses = {rate: 3 + 3 / (1 + (rate / 1e-3) ** 2) + (rate / 0.05) ** 4 for rate in rates}
    assert 5e-4 < sweep(losses) < 1e-2


def test_a_sweep_ends_where_the_loss_goes_away_or_is_no_number() -> None:
    flat = [(10.0**-n, 4.0) for n in range(10, 0, -1)]
    assert len(list(smooth(iter([*flat, (1.0, math.nan), (2.0, 1.0)])))) == 10
    assert len(list(smooth(iter([*flat, (1.0, 400.0), (2.0, 400.0)])))) == 10


def test_lr_find_draws_its_sweep_and_prints_its_line(
    stories_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    picture = tmp_path / "sweep.png"
    arguments = ["lr-find", "--data", str(stories_file), "--base", "new:tiny", "--out", str(picture), "--steps", "30"]
    assert main([*arguments, "--batch-size", "2", "--threads", "1", "--json"]) == 0
    line = json.loads(capsys.readouterr().out.strip().splitlines()[-1])
    assert picture.read_bytes().startswith(b"\x89PNG")
    rates = [rate for rate, _ in line["points"]]
    assert rates == sorted(rates)
    assert line["learning_rate"] in rates


def test_rates_that_are_no_sweep_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["lr-find", "--lowest", "0.1", "--highest", "0.2", "--out", str(tmp_path / "x.png")]) == 2
    assert "--highest should be from 1 to 100" in capsys.readouterr().err
