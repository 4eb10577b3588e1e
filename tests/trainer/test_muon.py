"""The optimizer of new weights: Muon on the matrices of the blocks, torch's AdamW on all else."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel

from trainer.muon import MuonAdamW, orthogonalised


@pytest.fixture
def model() -> GPT2LMHeadModel:
    torch.manual_seed(1)
    return GPT2LMHeadModel(
        GPT2Config(
            vocab_size=64, n_positions=32, n_embd=16, n_layer=2, n_head=2, resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0
        )
    )


def learn(model: GPT2LMHeadModel, optimizer: torch.optim.Optimizer, seed: int) -> None:
    ids = torch.randint(0, 64, (4, 32), generator=torch.Generator().manual_seed(seed))
    loss = model(input_ids=ids, labels=ids).loss
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("shape", [(16, 16), (16, 64), (64, 16)])
def test_all_singular_values_come_near_one(shape: tuple[int, int], dtype: torch.dtype) -> None:
    matrices = torch.randn((2, *shape), generator=torch.Generator().manual_seed(1)) * 1e-3
    values = torch.linalg.svdvals(orthogonalised(matrices.to(dtype)).float())
    assert values.min() > 0.5
    assert values.max() < 1.3


def test_a_step_turns_each_map_of_the_attention_by_as_much(model: GPT2LMHeadModel) -> None:
    weight = model.transformer.h[0].attn.c_attn.weight
    before = weight.detach().clone()
    learn(model, MuonAdamW(model, lr=1e-2, weight_decay=0.0), seed=1)
    for change in (weight.detach() - before).chunk(3, 1):
        values = torch.linalg.svdvals(change) / (1e-2 * 0.2 * 16**0.5)
        assert values.median() > 0.5
        assert values.max() < 1.3


@pytest.mark.parametrize(("dtype", "same"), [(torch.bfloat16, False), (torch.float16, True)])
def test_half_the_bits_make_nearly_the_same_step(model: GPT2LMHeadModel, dtype: torch.dtype, same: bool) -> None:
    before, other = copy.deepcopy(model), copy.deepcopy(model)
    learn(model, MuonAdamW(model, lr=1e-2, weight_decay=0.1), seed=1)
    learn(other, MuonAdamW(other, lr=1e-2, weight_decay=0.1, dtype=dtype), seed=1)
    for name in ("attn.c_attn", "mlp.c_fc", "mlp.c_proj"):
        was, is_now, half = (one.get_parameter(f"transformer.h.0.{name}.weight").detach() for one in (before, model, other))
        off = ((half - is_now).norm() / (is_now - was).norm()).item()
        assert off == 0 if same else 0 < off < 0.1


def test_what_is_no_matrix_of_a_block_is_adamws(model: GPT2LMHeadModel) -> None:
    other = copy.deepcopy(model)
    learn(model, MuonAdamW(model, lr=1e-2, weight_decay=0.1), seed=1)
    learn(other, torch.optim.AdamW(other.parameters(), lr=1e-2, betas=(0.9, 0.95), weight_decay=0.0), seed=1)
    same = {name: bool(torch.equal(value, other.state_dict()[name])) for name, value in model.state_dict().items()}
    assert {name for name, equal in same.items() if not equal} == {
        f"transformer.h.{block}.{part}.weight"
        for block in (0, 1)
        for part in ("attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj")
    }


def test_a_state_that_was_saved_goes_on_to_the_same_weights(model: GPT2LMHeadModel, tmp_path: Path) -> None:
    optimizer = MuonAdamW(model, lr=1e-2, weight_decay=0.1)
    learn(model, optimizer, seed=1)
    torch.save(optimizer.state_dict(), tmp_path / "optimizer.pt")
    resumed = copy.deepcopy(model)
    again = MuonAdamW(resumed, lr=1e-3, weight_decay=0.0)
    again.load_state_dict(torch.load(tmp_path / "optimizer.pt", weights_only=True))
    for seed in (2, 3):
        learn(model, optimizer, seed)
        learn(resumed, again, seed)
    assert all(torch.equal(value, resumed.state_dict()[name]) for name, value in model.state_dict().items())
