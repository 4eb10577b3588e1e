"""What only a GPU can show. Skipped, with the reason, where there is none."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional
from transformers import GPT2Config, GPT2LMHeadModel

from trainer import cuda_blocks
from trainer.__main__ import main
from trainer.arguments import precision
from trainer.compiling import choose_kernels
from trainer.cuda_blocks import PLAIN, Kernels
from trainer.packed_model import taught_packed
from trainer.packing import IGNORED
from trainer.story_loss import summed_loss

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device on this machine")

BLOCK, ROWS = 128, 4


def new_model() -> GPT2LMHeadModel:
    torch.manual_seed(1)
    config = GPT2Config(
        vocab_size=515, n_positions=BLOCK, n_embd=128, n_layer=3, n_head=2, resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0
    )
    return GPT2LMHeadModel(config).cuda().train()


def packed_batch() -> dict[str, Any]:
    generator = torch.Generator().manual_seed(2)
    lengths = [70, 40, 18, 128, 1, 127, 60, 68]
    input_ids = torch.randint(0, 515, (ROWS, BLOCK), generator=generator)
    position_ids = torch.cat([torch.arange(n) for n in lengths]).view(ROWS, BLOCK)
    labels = input_ids.masked_fill(position_ids == 0, IGNORED)
    whole = {"input_ids": input_ids, "position_ids": position_ids, "labels": labels}
    return {name: part.cuda() for name, part in whole.items()} | {"story_lengths": lengths}


def alone(model: GPT2LMHeadModel, batch: dict[str, Any]) -> torch.Tensor:
    """The mean loss with each story in a forward of its own, by transformers, in fp32."""
    losses: list[torch.Tensor] = []
    first = 0
    for length in batch["story_lengths"]:
        ids = batch["input_ids"].flatten()[first : first + length][None]
        logits = model(ids).logits[0, :-1]
        losses.append(functional.cross_entropy(logits, ids[0, 1:], reduction="sum"))
        first += length
    return torch.stack(losses).sum() / int((batch["labels"] != IGNORED).sum())


def loss_and_gradients(model: GPT2LMHeadModel, batch: dict[str, Any], kernels: Kernels) -> tuple[float, list[torch.Tensor]]:
    with taught_packed(model, torch.bfloat16, kernels), torch.autocast("cuda", torch.bfloat16):
        assert cuda_blocks.fits(model)
        loss = model(**batch).loss
    gradients = torch.autograd.grad(loss, list(model.parameters()))
    return loss.item(), list(gradients)


@pytest.mark.parametrize("compiled", [False, True], ids=["plain", "compiled"])
def test_stories_packed_in_bf16_teach_what_each_teaches_alone_in_fp32(compiled: bool) -> None:
    model, batch = new_model(), packed_batch()
    expected = alone(model, batch)
    expected_gradients = torch.autograd.grad(expected, list(model.parameters()))
    loss, gradients = loss_and_gradients(model, batch, cuda_blocks.compiled() if compiled else PLAIN)
    assert loss == pytest.approx(expected.item(), rel=2e-3)
    for ours, theirs in zip(gradients, expected_gradients, strict=True):
        assert (ours - theirs).norm() < 0.03 * theirs.norm() + 1e-6


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_the_loss_by_rows_is_that_of_all_logits(dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(3)
    hidden = torch.randn(9000, 64, generator=generator).cuda().requires_grad_()
    weight = (torch.randn(515, 64, generator=generator) / 8).cuda().requires_grad_()
    labels = torch.randint(0, 515, (9000,), generator=generator).cuda()
    labels[::7] = IGNORED
    with torch.autocast("cuda", dtype):
        ours = summed_loss(hidden, weight, labels)
    theirs = functional.cross_entropy(hidden @ weight.t(), labels, ignore_index=IGNORED, reduction="sum")
    assert ours.item() == pytest.approx(theirs.item(), rel=1e-3)
    for a, b in zip(torch.autograd.grad(ours, (hidden, weight)), torch.autograd.grad(theirs, (hidden, weight)), strict=True):
        assert (a - b).norm() < 0.02 * b.norm()


def test_trying_what_is_faster_changes_neither_weights_nor_random_state() -> None:
    model, batch = new_model(), packed_batch()
    before = [parameter.detach().clone() for parameter in model.parameters()]
    state = torch.cuda.get_rng_state()
    choice = choose_kernels(model, torch.bfloat16, batch, 10**6, "auto")
    assert "ompiled" in choice.sentence
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))
    assert all(parameter.grad is None for parameter in model.parameters())
    assert torch.equal(state, torch.cuda.get_rng_state())


def test_a_short_training_is_not_compiled() -> None:
    choice = choose_kernels(new_model(), torch.bfloat16, packed_batch(), 3, "auto")
    assert choice.kernels is PLAIN
    assert "Not compiled" in choice.sentence


@pytest.mark.parametrize("compiled", ["off", "on"])
def test_training_on_a_gpu_is_in_bf16_where_it_computes_in_it(stories_file: Path, tmp_path: Path, compiled: str) -> None:
    numbers = precision()
    assert numbers.flags.get("bf16") or numbers.flags.get("fp16")
    assert torch.cuda.get_device_name() in numbers.reason
    out = tmp_path / "model"
    command = ["train", "--data", str(stories_file), "--base", "new:tiny", "--out", str(out), "--max-steps", "40"]
    assert main([*command, "--compile", compiled, "--learning-rate", "5e-3"]) == 0
    assert (out / "model.safetensors").is_file()
    curve = json.loads((out / "training.json").read_text())["curve"]
    losses = [entry["loss"] for entry in curve if "loss" in entry]
    assert losses[-1] < losses[0] - 0.5
