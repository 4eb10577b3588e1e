"""What only a GPU can show. Skipped, with the reason, where there is none."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from torch.nn import functional
from transformers import GPT2Config, GPT2LMHeadModel

from trainer import compiling, cuda_blocks
from trainer.__main__ import main
from trainer.compiling import choose_kernels
from trainer.cuda_blocks import PLAIN, Kernels
from trainer.packed_model import taught_packed
from trainer.packing import IGNORED
from trainer.precision import precision
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


@pytest.mark.parametrize("graphed", [False, True], ids=["by kernels", "as a graph"])
@pytest.mark.parametrize("compiled", [False, True], ids=["plain", "compiled"])
def test_stories_packed_in_bf16_teach_what_each_teaches_alone_in_fp32(compiled: bool, graphed: bool) -> None:
    model, batch = new_model(), packed_batch()
    kernels = replace(cuda_blocks.compiled() if compiled else PLAIN, graphed=graphed)
    expected = alone(model, batch)
    expected_gradients = torch.autograd.grad(expected, list(model.parameters()))
    loss, gradients = loss_and_gradients(model, batch, kernels)
    assert loss == pytest.approx(expected.item(), rel=2e-3)
    for ours, theirs in zip(gradients, expected_gradients, strict=True):
        assert (ours - theirs).norm() < 0.03 * theirs.norm() + 1e-6


def steps(model: GPT2LMHeadModel, batches: Sequence[dict[str, Any]], kernels: Kernels, together: int = 1) -> list[float]:
    """The losses of plain gradient descent, so many batches' gradients a step."""
    losses: list[torch.Tensor] = []
    with taught_packed(model, torch.bfloat16, kernels):
        for number, batch in enumerate(batches, 1):
            with torch.autocast("cuda", torch.bfloat16):
                loss = model(**batch).loss
            (loss / together).backward()
            losses.append(loss)
            if number % together == 0:
                with torch.no_grad():
                    for parameter in model.parameters():
                        parameter.sub_(cast("torch.Tensor", parameter.grad), alpha=0.3)
                model.zero_grad(set_to_none=True)
    return [loss.item() for loss in losses]


@pytest.mark.parametrize("together", [1, 3])
def test_passes_as_graphs_teach_what_they_teach_kernel_by_kernel(together: int) -> None:
    first = packed_batch()
    second = first | {"input_ids": first["input_ids"].flip(0), "labels": first["labels"].flip(0)}
    second |= {"position_ids": first["position_ids"].flip(0), "story_lengths": [60, 68, 1, 127, 128, 70, 40, 18]}
    by_one = {"position_ids": torch.arange(BLOCK).expand(ROWS, -1).cuda(), "story_lengths": [BLOCK] * ROWS}
    third = first | by_one  # fewer stories, for which the same graph has room
    batches = [first, second, third] * 4
    by_kernels, as_graphs = new_model(), new_model()
    expected = steps(by_kernels, batches, PLAIN, together)
    assert expected[-1] < expected[0] - 0.3
    assert steps(as_graphs, batches, Kernels(graphed=True), together) == pytest.approx(expected, rel=5e-3)
    for ours, theirs in zip(as_graphs.parameters(), by_kernels.parameters(), strict=True):
        assert (ours - theirs).norm() < 0.02 * theirs.norm()


def test_a_graph_is_made_anew_where_more_stories_come() -> None:
    tiny = {
        "position_ids": torch.arange(BLOCK).remainder(2).expand(ROWS, -1).cuda(),
        "story_lengths": [2] * (ROWS * BLOCK // 2),
    }
    batches = [packed_batch(), packed_batch() | tiny] * 4  # the third is one too many to go without
    assert steps(new_model(), batches, Kernels(graphed=True)) == pytest.approx(steps(new_model(), batches, PLAIN), rel=5e-3)


def test_fewer_rows_go_through_a_graph_filled_up() -> None:
    whole = packed_batch()
    fewer = {name: part[:2] for name, part in whole.items() if name != "story_lengths"} | {"story_lengths": [70, 40, 18, 128]}
    batches = [whole, fewer, whole, fewer]
    assert steps(new_model(), batches, Kernels(graphed=True)) == pytest.approx(steps(new_model(), batches, PLAIN), rel=5e-3)


def test_a_graph_drops_others_each_time_and_making_it_draws_nothing() -> None:
    model, batch = new_model(), packed_batch()
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.2
    losses: list[list[float]] = []
    for _ in range(2):
        torch.cuda.manual_seed(5)
        with taught_packed(model, torch.bfloat16, Kernels(graphed=True)), torch.autocast("cuda", torch.bfloat16):
            losses.append([model(**batch).loss.item() for _ in range(3)])
    assert losses[0] == losses[1]
    assert len(set(losses[0])) == 3


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
    assert "kernel by kernel" in choice.sentence
    assert "as a CUDA graph" in choice.sentence
    assert "failed" not in choice.sentence
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))
    assert all(parameter.grad is None for parameter in model.parameters())
    assert torch.equal(state, torch.cuda.get_rng_state())


def test_a_short_training_is_not_compiled() -> None:
    choice = choose_kernels(new_model(), torch.bfloat16, packed_batch(), 3, "auto")
    assert choice.kernels is PLAIN
    assert "Not compiled: 3 passes" in choice.sentence


def test_passes_are_no_graphs_where_memory_is_short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiling.Memory, "now", classmethod(lambda cls, _: cls(free=10_000, taken=0)))
    choice = choose_kernels(new_model(), torch.bfloat16, packed_batch(), 10**6, "auto")
    assert not choice.kernels.graphed
    assert "Not as a CUDA graph" in choice.sentence


@pytest.mark.parametrize("compiled", ["off", "on"])
def test_training_on_a_gpu_is_in_bf16_where_it_computes_in_it(stories_file: Path, tmp_path: Path, compiled: str) -> None:
    numbers = precision("auto")
    assert numbers.flags.get("bf16") or numbers.flags.get("fp16")
    assert torch.cuda.get_device_name() in numbers.reason
    out = tmp_path / "model"
    command = ["train", "--data", str(stories_file), "--base", "new:tiny", "--out", str(out), "--max-steps", "40"]
    assert main([*command, "--compile", compiled, "--learning-rate", "5e-3"]) == 0
    assert (out / "model.safetensors").is_file()
    curve = json.loads((out / "training.json").read_text())["curve"]
    losses = [entry["loss"] for entry in curve if "loss" in entry]
    assert losses[-1] < losses[0] - 0.5
