"""The bench measures the real training: its line has what it promises, and its parts add up."""

from __future__ import annotations

import json
from collections.abc import Generator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch

from trainer import bench
from trainer.__main__ import main
from trainer.rows import StoryRows, StoryTokens
from trainer.settings import BenchSettings
from trainer.speed import flops_per_token, matrix_rate


class Pipe:
    """A bench that asks for one turn, in the worker's own process."""

    def __init__(self) -> None:
        self.answers: list[Any] = []

    def recv(self) -> str:
        if self.answers:
            raise EOFError
        return "on"

    def send(self, answer: Any) -> None:
        self.answers.append(answer)


@pytest.mark.timeout(240)
def test_the_bench_measures_both_trainings_and_prints_its_line_of_json(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    codec, passages = bench._lines()
    assert len(passages) == 40_000
    lengths = StoryRows(StoryTokens(passages, codec), 448, 1).lengths()
    assert 43 < sum(lengths) / len(lengths) < 47  # as the report's lines
    monkeypatch.setattr(bench, "_lines", lambda: (codec, passages[::50]))
    monkeypatch.setattr(bench, "_TURN_S", 0.5)

    @contextmanager
    def worker(recipe: str, settings: BenchSettings) -> Generator[Any]:
        pipe = Pipe()
        bench._teach(recipe, settings, cast("Any", pipe))
        (turn,) = pipe.answers
        yield SimpleNamespace(send=lambda _: None, recv=lambda: turn)

    monkeypatch.setattr(bench, "_worker", worker)
    assert main(["bench", "--seconds", "1", "--json"]) == 0
    printed = capsys.readouterr().out.strip().splitlines()
    line: dict[str, Any] = json.loads(printed[-1])
    assert line["size"] == "bundled"
    assert line["recipe_tok_per_s"] > 0
    assert line["ratio"] == pytest.approx(line["tok_per_s"] / line["recipe_tok_per_s"], rel=0.01)
    assert line["share_of_limit"] == pytest.approx(line["tok_per_s"] / line["limit_tok_per_s"], rel=0.01)
    assert 0.1 < line["peak_gb"] < 4
    assert any("times as fast" in row for row in printed)


def test_the_last_step_of_an_epoch_counts_by_the_rows_that_it_has(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench, "_TURN_S", 0.0)  # a turn is one step
    assert bench.rows_of_steps(10, 4) == [4, 4, 2]
    assert bench.rows_of_steps(8, 4) == [4, 4]
    sent: list[bench.Turn] = []
    turns = bench._turns(cast("Any", SimpleNamespace(recv=lambda: "on", send=sent.append)), [40.0, 40.0, 20.0], 1.0)
    args = SimpleNamespace(device=torch.device("cpu"))
    turns.on_train_begin()
    for step in range(1, 8):
        turns.on_step_end(args, SimpleNamespace(global_step=step))
    assert [turn.tokens for turn in sent] == [40, 40, 20, 40, 40, 20, 40]


def test_operations_are_those_of_weights_and_attention() -> None:
    from transformers import GPT2Config, GPT2LMHeadModel

    model = GPT2LMHeadModel(GPT2Config(vocab_size=100, n_positions=64, n_embd=32, n_layer=3, n_head=2))
    weights = sum(p.numel() for p in model.parameters()) - 64 * 32
    assert flops_per_token(model, [1, 1]) == 6 * weights + 12 * 3 * 32
    assert flops_per_token(model, [3]) == 6 * weights + 12 * 3 * 32 * 2  # 1, 2 and 3 tokens are looked back on


def test_matrix_products_have_a_rate() -> None:
    assert 1e8 < matrix_rate(torch.device("cpu"), torch.float32, 0.05) < 1e14
