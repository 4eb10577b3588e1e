"""How a training uses a pass that is a graph, tried without a GPU: a stand-in has the graphs' fixed memory, and computes anew.

What is captured and replayed on a GPU is in test_training_on_cuda.py.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from itertools import pairwise
from typing import Any, cast

import pytest
import torch
import torch.nn.attention.varlen
from torch import Tensor
from torch.nn import functional
from transformers import GPT2Config, GPT2LMHeadModel

from trainer import compiling, cuda_blocks, cuda_pass, packed_attention
from trainer.cuda_blocks import PLAIN, Kernels
from trainer.packed_model import taught_packed
from trainer.packing import IGNORED

BLOCK, ROWS = 64, 2
made: list[int] = []
ran: list[int] = []
"""The stories of each pass that was a graph, of which some are empty."""


def by_story(query: Tensor, key: Tensor, value: Tensor, ends: Tensor, *_: Any, **__: Any) -> Tensor:
    """torch's kernel for stories of any length, which a CPU has not."""
    borders = ends.tolist()
    parts = [
        functional.scaled_dot_product_attention(*(part[a:b].transpose(0, 1) for part in (query, key, value)), is_causal=True)
        for a, b in pairwise(borders)
        if b > a
    ]
    return torch.cat([part.transpose(0, 1) for part in parts])


def with_fixed_memory(compute: Callable[..., Tensor], sample: tuple[Tensor, ...], *_: Any) -> Callable[..., Tensor]:
    """As torch.cuda.make_graphed_callables: what goes in, the result and the gradients each have one place for ever."""
    made.append(len(sample[3]) - 1)
    taught = [part for part in sample if part.requires_grad]
    result = torch.zeros(())
    gradients = {part: torch.zeros_like(part) for part in taught}

    class Graphed(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, *given: Tensor) -> Tensor:
            for place, part in zip(sample, given, strict=True):
                if place.data_ptr() != part.data_ptr():
                    assert not place.requires_grad
                    place.copy_(part)
            ran.append(len(given[3]) - 1)
            with torch.enable_grad():
                ctx.inside = compute(*sample)
            result.copy_(ctx.inside.detach())
            return result.detach()

        @staticmethod
        def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor | None, ...]:
            for place, new in zip(taught, torch.autograd.grad(ctx.inside, taught, upstream[0]), strict=True):
                gradients[place].copy_(new)
            return tuple(gradients[part].detach() if part.requires_grad else None for part in sample)

    return cast("Callable[..., Tensor]", Graphed.apply)


@pytest.fixture(autouse=True)
def _as_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    made.clear()
    ran.clear()
    monkeypatch.setattr(cuda_blocks, "fits", lambda _: True)
    monkeypatch.setattr(torch.nn.attention.varlen, "varlen_attn", by_story)
    monkeypatch.setattr(torch.cuda, "make_graphed_callables", with_fixed_memory)
    monkeypatch.setattr(torch.random, "fork_rng", lambda *_: nullcontext())


def new_model() -> GPT2LMHeadModel:
    torch.manual_seed(1)
    sizes = {
        "vocab_size": 99,
        "n_positions": BLOCK,
        "n_embd": 32,
        "n_layer": 2,
        "n_head": 2,
        "bos_token_id": 0,
        "eos_token_id": 0,
    }
    return GPT2LMHeadModel(GPT2Config(**sizes, resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0)).train()


def batch(*lengths: int, rows: int = ROWS) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(sum(lengths) + len(lengths))
    input_ids = torch.randint(0, 99, (rows, BLOCK), generator=generator)
    position_ids = torch.cat([torch.arange(n) for n in lengths]).view(rows, BLOCK)
    labels = input_ids.masked_fill(position_ids == 0, IGNORED)
    return {"input_ids": input_ids, "position_ids": position_ids, "labels": labels, "story_lengths": list(lengths)}


def taught(batches: Sequence[dict[str, Any]], kernels: Kernels, together: int = 1) -> tuple[list[float], GPT2LMHeadModel]:
    """The losses of plain gradient descent by so many batches a step, and the model after it."""
    model, losses = new_model(), list[Tensor]()
    with taught_packed(model, torch.float32, kernels):
        for number, one in enumerate(batches, 1):
            losses.append(model(**one).loss)
            (losses[-1] / together).backward()
            if number % together == 0:
                with torch.no_grad():
                    for parameter in model.parameters():
                        parameter.sub_(cast("Tensor", parameter.grad), alpha=0.5)
                model.zero_grad(set_to_none=True)
    return [loss.item() for loss in losses], model


def assert_the_same(batches: Sequence[dict[str, Any]], together: int = 1) -> None:
    expected, by_kernels = taught(batches, PLAIN, together)
    losses, as_graphs = taught(batches, Kernels(graphed=True), together)
    assert losses == pytest.approx(expected, rel=1e-5)
    assert len(set(expected)) == len(expected)
    for ours, theirs in zip(as_graphs.parameters(), by_kernels.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("together", [1, 3])
def test_gradients_and_losses_are_those_of_passes_kernel_by_kernel(together: int) -> None:
    assert_the_same([batch(40, 24, 64), batch(64, 60, 4), batch(64, 64)] * 2, together)
    assert len(made) == 1


def test_room_is_for_half_as_many_stories_again_and_more_go_without() -> None:
    few = batch(*[16] * 8)
    assert_the_same([few, batch(*[16] * 4, *[8] * 8), batch(*[8] * 16), few])
    assert (made, len(ran)) == ([12], 3)


def test_batches_without_room_have_it_made_anew_for_as_many() -> None:
    many = batch(*[4] * 32)
    assert_the_same([batch(64, 64), many, batch(40, 24, 64), batch(*[8] * 16), many, many, batch(*[4] * 30, 8), many])
    assert (made, len(ran)) == ([3, 48], 6)


def test_room_is_for_the_largest_of_those_that_had_none() -> None:
    many, fewer = batch(*[4] * 32), batch(*[8] * 16)
    assert_the_same([batch(64, 64), many, batch(*[4] * 30, 8), fewer, many])
    assert (made, len(ran)) == ([3, 48], 3)


def test_batches_without_room_that_are_rare_stay_without(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda_pass, "_MISSED_SHARE", 0.5)
    many = batch(*[4] * 32)
    few = [batch(n, 64 - n, 64) for n in (10, 20, 30, 40)]
    assert_the_same([batch(64, 64), many, few[0], many, *few[1:], many, many, many])
    assert (made, len(ran)) == ([3, 48], 7)


def test_room_for_longer_stories_takes_none_from_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packed_attention, "_SHORTEST", 8)
    many = batch(*[4] * 32)
    assert_the_same([many, batch(64, 64), batch(60, 4, 64), many, batch(40, 24, 64), many])
    assert (made, len(ran)) == ([48, 48], 4)


@pytest.mark.parametrize("shortest", [8, 128])
def test_fewer_rows_are_filled_up_with_what_teaches_nothing(shortest: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packed_attention, "_SHORTEST", shortest)
    batches = [batch(*[16] * 8), batch(16, 16, 16, 16, rows=1), batch(40, 24, rows=1), batch(*[16] * 8)]
    assert_the_same(batches[:2] + batches[3:])
    assert (made, len(ran)) == ([12], 3)
    assert_the_same(batches)


def test_more_rows_have_it_made_anew_at_last() -> None:
    assert_the_same([batch(40, 24, rows=1), *(batch(n, 64 - n, 64) for n in (10, 20, 30, 40)), batch(30, 34, rows=1)])
    assert (made, len(ran)) == ([3, 5], 4)


def test_where_it_can_not_be_made_the_training_goes_on_and_the_log_says_why(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refused(*_: Any) -> None:
        made.append(0)
        raise RuntimeError("operation not permitted when stream is capturing")

    monkeypatch.setattr(torch.cuda, "make_graphed_callables", refused)
    assert_the_same([batch(64, 64), batch(40, 24, 64)])
    assert len(made) == 1
    assert "not permitted when stream is capturing" in caplog.text


def test_memory_that_is_short_is_not_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(torch.cuda, "make_graphed_callables", refused)
    with pytest.raises(torch.OutOfMemoryError):
        taught([batch(64, 64)], Kernels(graphed=True))


def test_nothing_is_captured_where_no_gradient_is_asked_for() -> None:
    model = new_model()
    with taught_packed(model, torch.float32, Kernels(graphed=True)), torch.no_grad():
        loss = model(**batch(64, 64)).loss
    with taught_packed(model.eval(), torch.float32, Kernels(graphed=True)):
        assert model(**batch(64, 64)).loss.item() == pytest.approx(loss.item())
    assert not made


def test_where_packed_attention_does_not_work_no_graph_is_said_to_be_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packed_attention, "works_on", lambda *_: False)
    monkeypatch.setattr(compiling, "_timed", lambda *_: 1.0)
    with pytest.raises(RuntimeError, match="packed attention does not work on this GPU"):
        compiling._tried("as a CUDA graph", new_model(), torch.float32, batch(64, 64), Kernels(graphed=True))
    assert compiling._tried("kernel by kernel", new_model(), torch.float32, batch(64, 64), PLAIN).pass_s > 0
