"""A training that does not fit at once is the same training in smaller parts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from trainer import memory, story_loss, teaching
from trainer.__main__ import main
from trainer.layout import Layout
from trainer.memory import Choice, layouts, needs

DEVICE = torch.device("cpu")


def command(data: Path, out: Path, *more: str) -> list[str]:
    return [
        *("train", "--data", str(data), "--base", "new:tiny", "--out", str(out), "--max-steps", "4", "--batch-size", "4"),
        *("--held-out", "0.2", "--threads", "1", "--dropout", "0", "--save-steps", "2", *more),
    ]


def test_layouts_go_from_fast_to_small_and_every_one_divides_the_batch() -> None:
    found = list(layouts(6, 256, 768, DEVICE))
    assert found == [Layout(3), Layout(2), Layout(1), Layout(1, True)]
    assert next(layouts(64, 256, 768, DEVICE)) == Layout(4)  # 1,024 tokens: more make a CPU no faster
    assert next(layouts(64, 256, 384, DEVICE)) == Layout(8)  # a smaller model bears more
    assert next(layouts(3, 4096, 768, DEVICE)) == Layout(1)


def test_less_is_predicted_for_smaller_layouts_and_muon() -> None:
    from transformers import GPT2Config, GPT2LMHeadModel

    model = GPT2LMHeadModel(GPT2Config(vocab_size=500, n_positions=64, n_embd=32, n_layer=3, n_head=2))
    totals = [
        needs(model, "adamw", layout, 64, torch.float32).total for layout in (Layout(4), Layout(2), Layout(1), Layout(1, True))
    ]
    assert totals == sorted(totals, reverse=True)
    assert len(set(totals)) == 4
    assert (
        needs(model, "muon", Layout(1), 64, torch.float32).optimizer
        < needs(model, "adamw", Layout(1), 64, torch.float32).optimizer
    )


@pytest.mark.parametrize(
    ("layout", "dtype", "taken"),
    [
        (Layout(1), torch.float32, 3.2e9),
        (Layout(1, True), torch.float32, 2.4e9),
        (Layout(1, lora_rank=16), torch.float32, 2.4e9),
        (Layout(1), torch.bfloat16, 3.09e9),
        (Layout(1, lora_rank=16), torch.bfloat16, 2.02e9),
    ],
    ids=["whole", "computed again", "LoRA", "whole in bf16", "LoRA in bf16"],
)
def test_what_gpt2_took_is_predicted_but_for_the_fifth_that_is_left_for_it(
    layout: Layout, dtype: torch.dtype, taken: float
) -> None:
    """`taken` was the peak of trainings on two cores, rows of 1,024 tokens, less what a process has before its first step."""
    from transformers import GPT2Config, GPT2LMHeadModel

    with torch.device("meta"):
        model = GPT2LMHeadModel(GPT2Config()).requires_grad_(not layout.lora_rank)
    assert memory._USABLE["cpu"] * taken < needs(model, "adamw", layout, 1024, dtype).total < taken


@pytest.mark.timeout(200)
def test_memory_that_runs_out_halves_the_rows_at_once_and_teaches_the_same(
    stories_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(command(stories_file, tmp_path / "whole")) == 0
    real, seen = story_loss.summed_loss, []

    def full(hidden: torch.Tensor, weight: torch.Tensor, labels: torch.Tensor, *_: object) -> torch.Tensor:
        seen.append(len(labels))
        if len(seen) > 2 and len(labels) > 300:  # in the third step, for more than one row of 256
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes.")
        return real(hidden, weight, labels)

    monkeypatch.setattr(story_loss, "summed_loss", full)
    out = tmp_path / "parts"
    assert main(command(stories_file, out)) == 0
    said = capsys.readouterr().err
    assert f"On from {out / 'checkpoints' / 'checkpoint-2'} with 2 rows at once" in said
    assert "with 1 rows at once" in said
    parts, whole = load_file(out / "model.safetensors"), load_file(tmp_path / "whole" / "model.safetensors")
    for name, tensor in whole.items():
        torch.testing.assert_close(parts[name], tensor, rtol=0.02, atol=2e-4)  # sums in another order, then four steps of Muon


def test_memory_that_is_too_small_for_one_row_is_a_sentence(
    stories_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(*_: Any) -> torch.Tensor:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 8 bytes.")

    monkeypatch.setattr(story_loss, "summed_loss", full)
    assert main(command(stories_file, tmp_path / "out")) == 2
    said = capsys.readouterr().err
    assert "with 1 rows at once and activations computed again" in said
    assert "The memory is full. Halve --batch-size" in said
    assert "Traceback" not in said


def test_activations_computed_again_teach_the_same(stories_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def recomputing(*_: Any, **__: Any) -> Choice:
        return Choice(Layout(4, True), True, "recomputing")

    assert main(command(stories_file, tmp_path / "kept")) == 0
    monkeypatch.setattr(teaching, "choose", recomputing)
    assert main(command(stories_file, tmp_path / "again")) == 0
    kept, again = (load_file(tmp_path / name / "model.safetensors") for name in ("kept", "again"))
    assert all(bool((kept[name] == again[name]).all()) for name in kept)


def test_a_container_s_limit_counts_where_it_is_less_than_the_machine_has(tmp_path: Path) -> None:
    assert memory._container_room(tmp_path) is None
    (tmp_path / "memory.max").write_text("max\n")
    (tmp_path / "memory.current").write_text("1000\n")
    (tmp_path / "memory.stat").write_text("anon 300\nfile 700\nfile_mapped 50\n")
    assert memory._container_room(tmp_path) is None
    (tmp_path / "memory.max").write_text("5000\n")
    assert memory._container_room(tmp_path) == 4700


def test_activations_computed_again_are_not_tried_without(
    stories_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[object] = []
    monkeypatch.setattr(teaching, "choose", lambda *_: Choice(Layout(1, checkpointing=True), True, ""))
    monkeypatch.setattr(teaching, "choose_kernels", lambda *asked: tried.append(asked))
    assert main(command(stories_file, tmp_path / "out")) == 0
    assert not tried
