"""What several rooms of tests share: a storyteller's model with random weights, made on the spot."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

GENRES = ("FANTASY", "SCI-FI", "HORROR", "ADVENTURE")


@pytest.fixture(scope="session", autouse=True)
def _ctrl_c_reaches_children() -> None:
    """A job of a script in the background ignores Ctrl-C, and so would each process that a test starts, and interrupts."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def random_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole model directory as the trainer writes it; its weights are random, so its stories are noise.

    It never draws the end token, so each story runs to its length: a test that watches one grow has something to watch.
    """
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel

    from trainer.base import add_tags, learn_tokenizer
    from trainer.model_directory import write_model
    from trainer.story_format import StoryCodec, StoryFormat

    story_format = StoryFormat(GENRES, scripts=("LATIN",))
    words = "the castle by the sea was old and nobody knew who had built it. " * 20
    tokenizer = learn_tokenizer([words], 400)
    add_tags(tokenizer, story_format)
    end = StoryCodec(tokenizer, story_format).end_id
    torch.manual_seed(3)
    size = tokenizer.get_vocab_size()
    model = GPT2LMHeadModel(
        GPT2Config(vocab_size=size, n_positions=128, n_embd=32, n_layer=2, n_head=2, bos_token_id=end, eos_token_id=end)
    )
    with torch.no_grad():  # the last norm's output sums to 32, so the end's logit is -320 and the others stay about 0
        model.transformer.ln_f.bias.fill_(1.0)
        model.transformer.wte.weight[end] = -10.0
    directory = tmp_path_factory.mktemp("models") / "random"
    directory.mkdir()
    write_model(directory, model, tokenizer, story_format)
    return directory
