from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from trainer.packing import IGNORED, lay_out, pack
from trainer.story_format import StoryCodec


@given(lengths=st.lists(st.integers(1, 64), max_size=200))
def test_every_story_is_in_one_row_and_no_row_is_over_full(lengths: list[int]) -> None:
    rows = pack(lengths, 64)
    assert sorted(index for row in rows for index in row) == list(range(len(lengths)))
    assert all(sum(lengths[index] for index in row) <= 64 for row in rows)
    # Best fit decreasing needs at most 11/9 of the best packing and 1 more row (Johnson 1973).
    assert (
        len(rows) <= -(-sum(lengths) // 64) * 11 / 9 + 1 or len(rows) <= sum(2 * length > 64 for length in lengths) * 11 / 9 + 1
    )


def test_a_story_longer_than_a_row_is_refused() -> None:
    with pytest.raises(ValueError, match="65 tokens does not fit a row of 64"):
        pack([65], 64)


def test_positions_restart_and_the_first_token_of_a_story_is_not_asked_for() -> None:
    input_ids, position_ids, labels = lay_out([[7, 1, 2], [8, 3]], 7, pad_id=0)
    assert input_ids.tolist() == [7, 1, 2, 8, 3, 0, 0]
    assert position_ids.tolist() == [0, 1, 2, 0, 1, 0, 1]
    assert labels.tolist() == [IGNORED, 1, 2, IGNORED, 3, IGNORED, IGNORED]


def test_the_end_is_supervised_in_every_story(codec: StoryCodec) -> None:
    stories = [codec.story("HORROR", [], codec.encode_text(text)) for text in ("A door.", "A lamp.", "A key.")]
    input_ids, _, labels = lay_out(stories, 64, codec.end_id)
    ends = [place for place, token in enumerate(input_ids[: sum(map(len, stories))]) if token == codec.end_id]
    assert len(ends) == 3
    assert all(labels[place] == codec.end_id for place in ends)


def test_packed_equals_unpacked_in_logits_and_gradients(codec: StoryCodec, texts: list[str]) -> None:
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(0)
    size = codec.tokenizer.get_vocab_size()
    config = GPT2Config(vocab_size=size, n_positions=256, n_embd=32, n_layer=2, n_head=2)
    config.resid_pdrop = config.embd_pdrop = config.attn_pdrop = 0.0
    model = GPT2LMHeadModel(config).double()
    stories = [codec.story(None, codec.encode_prompt("lamp"), codec.encode_text(text)) for text in texts[:4]]
    input_ids, position_ids, labels = (torch.from_numpy(part)[None] for part in lay_out(stories, 256, codec.end_id))

    packed = model(input_ids=input_ids, position_ids=position_ids, labels=labels, use_cache=False)
    packed.loss.backward()
    gradients = {name: parameter.grad.clone() for name, parameter in model.named_parameters()}
    model.zero_grad()
    alone = [model(input_ids=torch.tensor([story]), labels=torch.tensor([story]), use_cache=False) for story in stories]
    tokens = [len(story) - 1 for story in stories]
    loss = sum(output.loss * n for output, n in zip(alone, tokens, strict=True)) / sum(tokens)
    loss.backward()

    logits = torch.cat([output.logits[0] for output in alone])
    torch.testing.assert_close(packed.logits[0, : len(logits)], logits, rtol=1e-9, atol=1e-9)
    # transformers computes the loss in float32, whatever the model; a leak would be off by 25 %, not by 1e-6.
    torch.testing.assert_close(packed.loss, loss, rtol=1e-6, atol=1e-6)
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(gradients[name], parameter.grad, rtol=1e-4, atol=1e-7)
