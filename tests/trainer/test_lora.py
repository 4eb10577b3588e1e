"""LoRA teaches a few weights beside the others, goes on after a stop, and leaves a plain model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from trainer import teaching
from trainer.__main__ import main
from trainer.layout import Layout
from trainer.lora import merged, with_lora
from trainer.memory import Choice
from trainer.packed_model import taught_packed


@pytest.fixture(scope="module")
def base(stories_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("lora") / "base"
    arguments = ["train", "--data", str(stories_file), "--base", "new:tiny", "--out", str(out)]
    assert main([*arguments, "--max-steps", "2", "--batch-size", "2", "--held-out", "0.2", "--threads", "1"]) == 0
    return out


def command(base: Path, data: Path, out: Path, *more: str) -> list[str]:
    return [
        *("train", "--data", str(data), "--base", str(base), "--out", str(out), "--max-steps", "4", "--batch-size", "2"),
        *("--held-out", "0.2", "--threads", "1", "--save-steps", "2", *more),
    ]


def test_a_merged_model_tells_what_the_taught_one_told() -> None:
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(0)
    rates = {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}
    plain = GPT2LMHeadModel(GPT2Config(vocab_size=60, n_positions=32, n_embd=16, n_layer=2, n_head=2, **rates))
    model: Any = with_lora(plain, 4, [3, 59])
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=0.01)
    ids = torch.randint(60, (2, 20))
    ids[0, 4] = 59
    positions = torch.arange(20).expand(2, -1)
    with taught_packed(model, torch.float32):
        for _ in range(3):
            loss = model(input_ids=ids, position_ids=positions, labels=ids).loss
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
    model.eval()
    told = model(input_ids=ids, use_cache=False)
    whole = merged(model)
    assert type(whole) is GPT2LMHeadModel
    torch.testing.assert_close(whole(input_ids=ids, use_cache=False).logits, told.logits)
    assert whole.lm_head.weight is whole.transformer.wte.weight


@pytest.mark.timeout(200)
def test_lora_teaches_few_weights_goes_on_and_is_merged(
    base: Path, stories_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = tmp_path / "whole"
    assert main(command(base, stories_file, whole, "--lora-rank", "4")) == 0
    said = capsys.readouterr().err
    assert "LoRA of rank 4" in said
    kept = load_file(whole / "checkpoints" / "checkpoint-4" / "model.safetensors")
    assert all("lora_" in name or "trainable_tokens" in name for name in kept)
    before, after = load_file(base / "model.safetensors"), load_file(whole / "model.safetensors")
    assert before.keys() == after.keys()
    assert not torch.equal(before["transformer.h.0.mlp.c_fc.weight"], after["transformer.h.0.mlp.c_fc.weight"])
    assert torch.equal(before["transformer.h.0.ln_1.weight"], after["transformer.h.0.ln_1.weight"])

    cut = tmp_path / "cut"
    real = teaching.StoryTrainer._save_checkpoint

    def stop_after_the_first(self: Any, *parts: Any) -> None:
        real(self, *parts)
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(teaching.StoryTrainer, "_save_checkpoint", stop_after_the_first)
        assert main(command(base, stories_file, cut, "--lora-rank", "4")) == 130
    assert main(command(base, stories_file, cut, "--lora-rank", "4")) == 0
    assert "Going on from" in capsys.readouterr().err
    assert main(command(base, stories_file, cut, "--lora-rank", "8")) == 2
    assert "lora_rank was 4 and is 8" in capsys.readouterr().err
    resumed = load_file(cut / "model.safetensors")
    assert all(bool((resumed[name] == after[name]).all()) for name in after)


def test_lora_is_chosen_where_all_weights_do_not_fit(
    base: Path, stories_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def choose(*parts: Any) -> Choice:
        return Choice(Layout(2, lora_rank=parts[-1]), bool(parts[-1]), "Memory: too little.")

    monkeypatch.setattr(teaching, "choose", choose)
    assert main(command(base, stories_file, tmp_path / "out")) == 0
    assert "All weights do not fit: LoRA of rank 16 instead" in capsys.readouterr().err
    again = command(base, stories_file, tmp_path / "all", "--lora-rank", "0")
    assert main(again) == 0
    assert "LoRA" not in capsys.readouterr().err


def test_lora_for_new_weights_is_refused(stories_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["train", "--data", str(stories_file), "--base", "new:tiny", "--out", str(tmp_path / "m"), "--lora-rank", "4"]
    assert main(arguments) == 2
    assert "new weights are taught whole" in capsys.readouterr().err
