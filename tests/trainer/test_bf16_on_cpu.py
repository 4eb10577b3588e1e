"""Training in bf16 on a CPU: chosen where it has instructions for that, and near to what fp32 teaches."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from llvmlite import binding
from safetensors.torch import load_file
from torch.nn import functional

from trainer import arguments
from trainer.__main__ import main
from trainer.cheap_dropout import CheapDropout
from trainer.packed_attention import Stories, attend
from trainer.packing import IGNORED
from trainer.story_loss import summed_loss
from trainer.story_trainer import StoryTrainer

no_gpu = pytest.mark.skipif(torch.cuda.is_available(), reason="a CUDA device is taught on before the CPU")


def off(ours: torch.Tensor, theirs: torch.Tensor) -> float:
    """The relative error of all of `ours`."""
    return ((ours - theirs).norm() / theirs.norm()).item()


@no_gpu
@pytest.mark.parametrize(
    ("features", "onednn", "asked", "dtype"),
    [
        ({"avx512bf16": True}, True, "auto", torch.bfloat16),
        ({"amx-bf16": True}, True, "auto", torch.bfloat16),
        ({"avx512bf16": False, "avx512f": True}, True, "auto", torch.float32),
        ({"avx512bf16": True}, False, "auto", torch.float32),
        ({"avx512bf16": True}, True, "fp32", torch.float32),
    ],
)
def test_bf16_is_for_cpus_that_have_instructions_for_it(
    features: dict[str, bool], onednn: bool, asked: str, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(binding, "get_host_cpu_features", lambda: features)
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: onednn)
    numbers = arguments.precision(asked)  # pyright: ignore[reportArgumentType]
    assert numbers.dtype == dtype
    assert numbers.flags == ({"bf16": True} if dtype == torch.bfloat16 else {})


@pytest.mark.parametrize("shift", [0.0, 40.0], ids=["around 0", "around -100, as GPT-2's"])
@pytest.mark.parametrize(("tokens", "vocabulary"), [(300, 5000), (1030, 4100)])
def test_the_loss_in_bf16_is_near_fp32_s_wherever_the_logits_lie(tokens: int, vocabulary: int, shift: float) -> None:
    torch.manual_seed(0)
    direction = functional.normalize(torch.randn(64), dim=0)
    hidden = (torch.randn(tokens, 64) + 2.5 * direction * (shift > 0)).requires_grad_()
    weight = (0.3 * torch.randn(vocabulary, 64) - shift * direction).requires_grad_()
    labels = torch.randint(vocabulary, (tokens,))
    labels[1] = IGNORED
    logits = hidden @ weight.t()
    assert logits.mean().item() == pytest.approx(-2.5 * shift, abs=10)
    expected = functional.cross_entropy(logits, labels, reduction="sum", ignore_index=IGNORED)
    gradients = torch.autograd.grad(expected, (hidden, weight))
    with torch.autocast("cpu", torch.bfloat16):
        ours = summed_loss(hidden, weight, labels)
    assert off(ours, expected) < 1e-3
    # the gradients of a token sum up to nothing over the vocabulary, so what its logits share has no part in them
    for our, their in zip(torch.autograd.grad(ours, (hidden, weight)), gradients, strict=True):
        assert our.dtype == torch.float32
        assert off(our, their) < 0.02


def test_a_row_without_a_label_teaches_nothing_in_bf16() -> None:
    hidden, weight = torch.randn(4, 8, requires_grad=True), torch.randn(9, 8, requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16):
        loss = summed_loss(hidden, weight, torch.full((4,), IGNORED))
    loss.backward()
    assert loss.item() == 0
    for tensor in (hidden, weight):
        assert tensor.grad is not None
        assert not tensor.grad.any()


def test_attention_is_in_fp32_whatever_the_products_are_in() -> None:
    torch.manual_seed(0)
    stories = Stories.of(torch.zeros(1, 40), [25, 15])
    parts = [torch.randn(1, 2, 40, 16, dtype=torch.bfloat16, requires_grad=True) for _ in range(3)]
    wide = [part.detach().float().requires_grad_() for part in parts]
    with torch.autocast("cpu", torch.bfloat16):
        got, _ = attend(torch.nn.Identity(), parts[0], parts[1], parts[2], None, stories=stories)
    each = zip(*(part.split([25, 15], dim=2) for part in wide), strict=True)
    alone = [functional.scaled_dot_product_attention(*some, is_causal=True) for some in each]
    expected = torch.cat(alone, dim=2).transpose(1, 2)
    assert got.dtype == torch.bfloat16
    torch.testing.assert_close(got, expected.bfloat16(), rtol=0, atol=0)  # rounded once, at the end
    up = torch.randn_like(expected)
    ours, theirs = torch.autograd.grad(got, parts, up.bfloat16()), torch.autograd.grad(expected, wide, up.bfloat16().float())
    for our, their in zip(ours, theirs, strict=True):
        torch.testing.assert_close(our, their.bfloat16(), rtol=0, atol=0)


def test_dropout_of_bf16_scales_what_it_keeps_exactly() -> None:
    torch.manual_seed(0)
    dropped = CheapDropout(0.1)(torch.ones(1000, dtype=torch.bfloat16))
    kept = dropped[dropped > 0]
    assert kept.unique().tolist() == pytest.approx([1 / 0.9], rel=1e-4)  # and not bf16's nearest to it, 1.109


@no_gpu
@pytest.mark.timeout(200)
def test_a_training_in_bf16_learns_as_one_in_fp32_and_goes_on_bit_for_bit(
    stories_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(arguments, "cpu_has_bf16", lambda: True)

    def teach(name: str, *more: str, status: int = 0) -> dict[str, torch.Tensor]:
        command = [
            "train",
            "--data",
            str(stories_file),
            "--base",
            "new:tiny",
            "--out",
            str(tmp_path / name),
            "--batch-size",
            "4",
        ]
        command += ["--held-out", "0.2", "--threads", "1", "--save-steps", "2", "--eval-steps", "2", "--max-steps", "6"]
        assert main([*command, *more]) == status
        return {} if status else load_file(tmp_path / name / "model.safetensors")

    def held_out(name: str) -> float:
        record = json.loads((tmp_path / name / "training.json").read_text())
        return [point["eval_loss"] for point in record["curve"] if "eval_loss" in point][-1]

    half = teach("half")
    assert "Number format: bf16: this CPU has instructions for it" in capsys.readouterr().err
    assert all(tensor.dtype == torch.float32 for tensor in half.values())

    wide = teach("wide", "--precision", "fp32")
    assert "Number format: fp32, as asked" in capsys.readouterr().err
    assert any(bool((half[name] != wide[name]).any()) for name in half)
    assert held_out("half") == pytest.approx(held_out("wide"), abs=0.01)

    real = StoryTrainer._save_checkpoint

    def die_after_the_first(self: StoryTrainer, *parts: Any) -> None:
        real(self, *parts)
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(StoryTrainer, "_save_checkpoint", die_after_the_first)
        teach("again", status=130)
    again = teach("again")
    assert "Going on from" in capsys.readouterr().err
    assert all(torch.equal(again[name], half[name]) for name in half)
