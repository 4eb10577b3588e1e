"""New weights say again what was said before, before they are taught anything."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional
from transformers import GPT2Config, GPT2LMHeadModel

from trainer.base import NEW_SIZES
from trainer.induction import can_have_induction, write_induction_heads


def new_model(layers: int, width: int, heads: int, n_positions: int = 448) -> GPT2LMHeadModel:
    torch.manual_seed(1)
    config = GPT2Config(
        vocab_size=1024, n_positions=n_positions, n_embd=width, n_layer=layers, n_head=heads, bos_token_id=0, eos_token_id=0
    )
    return GPT2LMHeadModel(config).eval()


def nats_of_two_tellings(model: GPT2LMHeadModel, length: int) -> tuple[float, float]:
    """The loss on random tokens, and on the same tokens said again."""
    once = torch.randint(0, 1024, (8, length), generator=torch.Generator().manual_seed(1))
    ids = torch.cat([once, once], 1)
    with torch.no_grad():
        logits = model(ids).logits[:, :-1]
    loss = functional.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten(), reduction="none").view(8, -1)
    return float(loss[:, : length - 1].mean()), float(loss[:, length:].mean())


@pytest.mark.parametrize("length", [10, 60, 200])
@pytest.mark.parametrize("size", ["mini", "small"])
def test_what_is_said_again_is_known(size: str, length: int) -> None:
    shape = NEW_SIZES[size]
    model = new_model(shape.layers, shape.width, shape.heads)
    plain = nats_of_two_tellings(model, length)
    assert plain[1] > plain[0] - 0.1
    write_induction_heads(model)
    first, second = nats_of_two_tellings(model, length)
    assert first < plain[0] + 1.0
    assert second < first - 2.5


def test_a_model_too_small_for_it_is_refused_and_left_alone() -> None:
    shape = NEW_SIZES["tiny"]
    model = new_model(shape.layers, shape.width, shape.heads)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    assert not can_have_induction(model)
    with pytest.raises(ValueError, match="two layers, and three heads"):
        write_induction_heads(model)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
