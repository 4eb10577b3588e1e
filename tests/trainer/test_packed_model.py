"""What is taught fast is taught the same: loss and gradients of the packed forward against transformers' own."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional

from trainer import packed_model
from trainer.cheap_dropout import CheapDropout
from trainer.packed_attention import attend, works_on
from trainer.packed_model import taught_packed
from trainer.packing import IGNORED, lay_out, story_lengths
from trainer.story_format import StoryCodec
from trainer.story_loss import summed_loss

BLOCK = 128


def small_model(vocabulary: int, **config: Any) -> Any:
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(0)
    rates = {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}
    return GPT2LMHeadModel(
        GPT2Config(vocab_size=vocabulary, n_positions=BLOCK, n_embd=32, n_layer=2, n_head=2, **rates | config)
    )


def rows(codec: StoryCodec, texts: list[str]) -> dict[str, torch.Tensor]:
    stories = [codec.story("HORROR", codec.encode_prompt("lamp"), codec.encode_text(text)) for text in texts[:6]]
    laid = [lay_out(some, BLOCK, codec.end_id) for some in (stories[:2], stories[2:3])]
    input_ids, position_ids, labels = (torch.from_numpy(np.stack(part)) for part in zip(*laid, strict=True))
    return {"input_ids": input_ids, "position_ids": position_ids, "labels": labels}


@pytest.mark.parametrize("batches", [1, 3])
def test_the_embedding_of_a_large_model_adds_its_few_rows_to_the_heads_gradient(
    codec: StoryCodec, texts: list[str], batches: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, batch = small_model(codec.tokenizer.get_vocab_size()), rows(codec, texts)

    def gradients(sparse: bool) -> dict[str, torch.Tensor]:
        model.zero_grad()
        with taught_packed(model, torch.float32):
            assert model.transformer.wte.sparse is sparse
            for _ in range(batches):
                model(**batch).loss.backward()
        assert not model.transformer.wte.sparse
        return {name: parameter.grad.clone() for name, parameter in model.named_parameters()}

    expected = gradients(sparse=False)
    monkeypatch.setattr(packed_model, "_MANY_WEIGHTS", 0)
    for name, gradient in gradients(sparse=True).items():
        assert not gradient.is_sparse
        torch.testing.assert_close(gradient, expected[name], rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("why", ["a head of its own", "a launcher"])
def test_an_embedding_whose_gradient_would_stay_sparse_is_left_alone(
    codec: StoryCodec, texts: list[str], why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packed_model, "_MANY_WEIGHTS", 0)
    if why == "a launcher":  # Trainer wraps the model then, and the wrapper looks at the flag
        monkeypatch.setenv("LOCAL_RANK", "0")
    model = small_model(codec.tokenizer.get_vocab_size(), tie_word_embeddings=why == "a launcher")
    with taught_packed(model, torch.float32):
        assert not model.transformer.wte.sparse
        model(**rows(codec, texts)).loss.backward()
    assert not model.transformer.wte.weight.grad.is_sparse


@pytest.mark.parametrize("scaled_by_layer", [False, True])
def test_the_packed_forward_has_the_loss_and_gradients_of_transformers_own(
    codec: StoryCodec, texts: list[str], scaled_by_layer: bool
) -> None:
    batch = rows(codec, texts)
    model = small_model(codec.tokenizer.get_vocab_size(), scale_attn_by_inverse_layer_idx=scaled_by_layer)
    plain = model(**batch, use_cache=False)
    plain.loss.backward()
    expected = {name: parameter.grad.clone() for name, parameter in model.named_parameters()}
    model.zero_grad()
    with taught_packed(model, torch.float32):
        assert model.config._attn_implementation == "packed_stories"
        packed = model(**batch)
        packed.loss.backward()
        logits = model(input_ids=batch["input_ids"], position_ids=batch["position_ids"]).logits
    torch.testing.assert_close(packed.loss, plain.loss, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(logits, plain.logits, rtol=1e-4, atol=1e-5)
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter.grad, expected[name], rtol=1e-3, atol=1e-6)
    assert model.config._attn_implementation != "packed_stories"
    torch.testing.assert_close(model(**batch, use_cache=False).loss, plain.loss, rtol=1e-5, atol=1e-6)


def test_eight_rows_at_once_are_taught_as_eight_times_one(codec: StoryCodec, texts: list[str]) -> None:
    many = {name: torch.cat([part] * 4) for name, part in rows(codec, texts).items()}
    items = int((many["labels"] != IGNORED).sum())
    model = small_model(codec.tokenizer.get_vocab_size())
    with taught_packed(model, torch.float32):
        model(**many, num_items_in_batch=items).loss.backward()
        at_once = {name: parameter.grad.clone() for name, parameter in model.named_parameters()}
        model.zero_grad()
        for row in range(8):
            one = {name: part[row : row + 1] for name, part in many.items()}
            model(**one, num_items_in_batch=items).loss.backward()
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter.grad, at_once[name], rtol=1e-4, atol=1e-6)


def test_the_loss_by_columns_is_the_cross_entropy_whatever_the_sizes() -> None:
    torch.manual_seed(0)
    for tokens, vocabulary in ((1, 5), (7, 4096), (1030, 4100), (3, 9000)):
        hidden = torch.randn(tokens, 8, dtype=torch.float64, requires_grad=True)
        weight = (3 * torch.randn(vocabulary, 8, dtype=torch.float64)).requires_grad_()
        labels = torch.randint(vocabulary, (tokens,))
        labels[0] = vocabulary - 1
        if tokens > 1:
            labels[1] = IGNORED
        expected = functional.cross_entropy(hidden @ weight.t(), labels, reduction="sum", ignore_index=IGNORED)
        gradients = torch.autograd.grad(expected / 3, (hidden, weight))
        ours = summed_loss(hidden, weight, labels)
        torch.testing.assert_close(ours, expected)
        torch.testing.assert_close(torch.autograd.grad(ours / 3, (hidden, weight)), gradients)


def test_a_row_without_a_label_has_no_loss_and_no_gradient() -> None:
    hidden, weight = torch.randn(4, 8, requires_grad=True), torch.randn(9, 8, requires_grad=True)
    loss = summed_loss(hidden, weight, torch.full((4,), IGNORED))
    loss.backward()
    assert loss.item() == 0
    assert hidden.grad is not None
    assert not hidden.grad.any()


def test_stories_are_told_apart_by_their_positions() -> None:
    assert story_lengths(torch.tensor([[0, 1, 2, 0, 0], [0, 1, 2, 3, 4]])) == [3, 1, 1, 5]


def test_packed_attention_refuses_what_it_would_mix() -> None:
    part = torch.randn(1, 2, 4, 8)
    with pytest.raises(ValueError, match="whole rows of stories"):
        attend(torch.nn.Identity(), part, part, part, None)


def test_packed_attention_works_here() -> None:
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    assert works_on(device, torch.bfloat16 if device.type == "cuda" else torch.float32)


def test_cheap_dropout_drops_its_share_and_keeps_the_mean() -> None:
    torch.manual_seed(0)
    dropout = CheapDropout(0.1)
    values = torch.ones(999, 333, requires_grad=True)
    dropped = dropout(values)
    assert (dropped == 0).float().mean().item() == pytest.approx(0.1, abs=0.003)  # three times the standard error
    assert dropped.mean().item() == pytest.approx(1, abs=0.004)
    dropped.sum().backward()
    assert torch.equal(values.grad, dropped.detach())
    columns = (dropped == 0).float().mean(0)
    assert columns.min() > 0.05
    assert columns.max() < 0.16
    torch.manual_seed(0)
    assert torch.equal(dropout(values), dropped)
    assert dropout.eval()(values) is values


def test_a_model_is_taught_with_cheap_dropout_on_a_cpu() -> None:
    model = small_model(64, resid_pdrop=0.1)
    with taught_packed(model, torch.float32):
        pass
    kinds = [type(module) for module in model.modules()]
    assert (CheapDropout in kinds) == (not torch.cuda.is_available())
