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
from transformers import GPT2Config, GPT2LMHeadModel

from trainer import cuda_loss, precision, story_loss
from trainer.__main__ import main
from trainer.arguments import arguments
from trainer.cheap_dropout import CheapDropout
from trainer.layout import Layout
from trainer.lora import with_lora
from trainer.packed_attention import Stories, attend
from trainer.packed_model import taught_packed
from trainer.packing import IGNORED
from trainer.settings import TrainSettings
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
    numbers = precision.precision(asked)  # pyright: ignore[reportArgumentType]
    assert numbers.dtype == dtype
    assert numbers.flags == ({"bf16": True} if dtype == torch.bfloat16 else {})


@pytest.mark.parametrize("shift", [0.0, 40.0], ids=["around 0", "around -100, as GPT-2's"])
@pytest.mark.parametrize(("tokens", "vocabulary"), [(300, 5000), (1030, 4100)])
@pytest.mark.parametrize("cuda_s", [False, True], ids=["the CPU's", "CUDA's, on the CPU"])
def test_the_loss_in_bf16_is_near_fp32_s_wherever_the_logits_lie(
    cuda_s: bool, tokens: int, vocabulary: int, shift: float, monkeypatch: pytest.MonkeyPatch
) -> None:
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
    if cuda_s:
        monkeypatch.setattr(cuda_loss, "_product", lambda left, right: left.float() @ right.float())  # torch's is CUDA's alone
        monkeypatch.setattr(cuda_loss, "TOKENS", 512)
        ours = cuda_loss.LossByRows.apply(hidden, weight, labels, torch.bfloat16, cuda_loss.softmax_by_slices)
    else:
        with torch.autocast("cpu", torch.bfloat16):
            ours = summed_loss(hidden, weight, labels)
    assert isinstance(ours, torch.Tensor)
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
    torch.testing.assert_close(got, expected.bfloat16(), rtol=2**-8, atol=1e-6)  # rounded once, at the end
    up = torch.randn_like(expected)
    ours, theirs = torch.autograd.grad(got, parts, up.bfloat16()), torch.autograd.grad(expected, wide, up.bfloat16().float())
    for our, their in zip(ours, theirs, strict=True):
        torch.testing.assert_close(our, their.bfloat16(), rtol=2**-8, atol=1e-6)


def test_dropout_of_bf16_scales_what_it_keeps_exactly() -> None:
    torch.manual_seed(0)
    dropped = CheapDropout(0.1)(torch.ones(1000, dtype=torch.bfloat16))
    kept = dropped[dropped > 0]
    assert kept.unique().tolist() == pytest.approx([1 / 0.9], rel=1e-4)  # and not bf16's nearest to it, 1.109


@no_gpu
def test_the_report_s_recipe_stays_in_fp32_and_so_does_what_was_begun_in_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "cpu_has_bf16", lambda: True)
    assert precision.precision("auto").name == "bf16"
    assert precision.precision("auto", begun_in="bf16").name == "bf16"
    assert precision.precision("auto", "report").name == "fp32"
    assert precision.precision("auto", "report-with-end").name == "fp32"
    assert precision.precision("auto", begun_in="fp32").name == "fp32"


@no_gpu
def test_one_cpu_without_bf16_is_enough_to_teach_all_in_fp32(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[bool] = []
    monkeypatch.setattr(precision, "cpu_has_bf16", lambda: True)
    monkeypatch.setattr(precision, "anywhere", lambda lacking: asked.append(lacking) or True)
    assert precision.precision("auto").name == "fp32"
    assert asked == [False]


@no_gpu
def test_fp32_is_fp32_whatever_a_launcher_left_in_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "bf16")
    settings = TrainSettings(tmp_path, base="gpt2")
    assert arguments(settings, precision.precision("fp32"), Layout(1), evaluated=False).mixed_precision == "no"
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "no")
    monkeypatch.setattr(precision, "cpu_has_bf16", lambda: True)
    assert arguments(settings, precision.precision("auto"), Layout(1), evaluated=False).mixed_precision == "bf16"


@no_gpu
@pytest.mark.parametrize("lora", [False, True], ids=["whole", "LoRA"])
def test_products_with_weights_are_in_bf16_and_logits_that_are_kept_in_fp32(lora: bool) -> None:
    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=90, n_positions=32, n_embd=32, n_layer=1, n_head=2, attn_pdrop=0.0, resid_pdrop=0.0, embd_pdrop=0.0
    )
    model = GPT2LMHeadModel(config)
    with torch.no_grad():  # as in GPT-2, whose logits are about -100
        model.transformer.ln_f.bias += 1
        model.transformer.wte.weight -= 3
    if lora:
        model = with_lora(model, 2, [1, 2])
    seen: dict[str, torch.Tensor] = {}
    whole: Any = model
    body = (whole.get_base_model() if lora else whole).transformer.h[0]
    body.attn.c_attn.register_forward_hook(lambda *parts: seen.update(product=parts[2]))
    ids = torch.randint(90, (1, 32))
    batch = {"input_ids": ids, "position_ids": torch.arange(32)[None], "labels": ids}
    plain = model.eval()(input_ids=ids).logits.detach()
    assert plain.mean() < -80
    with taught_packed(model, torch.bfloat16), torch.autocast("cpu", torch.bfloat16):
        logits = model(input_ids=ids, position_ids=batch["position_ids"]).logits
        loss = model.train()(**batch).loss
    assert seen["product"].dtype == torch.bfloat16
    assert logits.dtype == torch.float32
    spread = (logits - logits.mean(2, keepdim=True)) - (plain - plain.mean(2, keepdim=True))
    assert spread.abs().max() < 0.1  # rounded to bf16, logits of -90 are 0.25 off
    expected = functional.cross_entropy(plain[0, :-1], ids[0, 1:])
    assert off(loss, expected) < 2e-3


@no_gpu
@pytest.mark.timeout(200)
def test_a_training_in_bf16_learns_as_one_in_fp32_and_goes_on_bit_for_bit(
    stories_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(precision, "cpu_has_bf16", lambda: True)

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

    formats: list[torch.dtype] = []
    real_loss = story_loss.summed_loss

    def watched(hidden: torch.Tensor, *parts: Any) -> torch.Tensor:
        formats.append(torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else hidden.dtype)
        return real_loss(hidden, *parts)

    monkeypatch.setattr(story_loss, "summed_loss", watched)
    half = teach("half")
    assert set(formats) == {torch.bfloat16}
    assert "Number format: bf16: this CPU has instructions for it" in capsys.readouterr().err
    assert all(tensor.dtype == torch.float32 for tensor in half.values())

    formats.clear()
    wide = teach("wide", "--precision", "fp32")
    assert set(formats) == {torch.float32}
    assert "Number format: fp32, as asked" in capsys.readouterr().err
    assert any(bool((half[name] != wide[name]).any()) for name in half)
    assert held_out("half") == pytest.approx(held_out("wide"), abs=0.01)

    real = StoryTrainer._save_checkpoint

    def die_after_the_first(self: StoryTrainer, *parts: Any) -> None:
        real(self, *parts)
        raise KeyboardInterrupt

    def cut_off(name: str) -> None:
        with monkeypatch.context() as patched:
            patched.setattr(StoryTrainer, "_save_checkpoint", die_after_the_first)
            teach(name, status=130)

    cut_off("again")
    again = teach("again")
    assert "Going on from" in capsys.readouterr().err
    assert all(torch.equal(again[name], half[name]) for name in half)

    cut_off("moved")
    monkeypatch.setattr(precision, "cpu_has_bf16", lambda: False)
    teach("moved")
    assert "It was begun in bf16: what it learns from here on" in capsys.readouterr().err
