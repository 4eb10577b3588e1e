"""What a training starts from: a model of the hub, a directory, or new weights in a named size.

New weights come with a byte-level BPE learnt from the corpus: a small model can't afford GPT-2's 50,257 rows of embeddings,
which alone would be 13 million parameters at a width of 256.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers

from trainer.errors import BaseUnavailable
from trainer.story_format import END_TOKEN, StoryFormat
from trainer.talking import quieten_hub

if TYPE_CHECKING:
    from transformers import GPT2LMHeadModel


@dataclass(frozen=True)
class NewSize:
    """The shape of new weights."""

    layers: int
    width: int
    heads: int
    vocabulary: int
    n_positions: int


NEW_SIZES = {
    "tiny": NewSize(layers=2, width=64, heads=2, vocabulary=1024, n_positions=256),  # for tests: learns no language
    "mini": NewSize(layers=4, width=256, heads=4, vocabulary=4096, n_positions=512),  # 4.3M: hours on two cores
    "small": NewSize(layers=8, width=384, heads=6, vocabulary=8192, n_positions=512),  # 17M: a GPU, or days
}


@dataclass(frozen=True)
class Base:
    """Where a training starts: a name, and what it is made of."""

    name: str
    tokenizer: Tokenizer
    tokenizer_is_new: bool
    n_positions: int


def new_size(name: str) -> NewSize | None:
    """The size of "new:mini"; None for a base that is no new one. Raises BaseUnavailable for a size there is not."""
    if not name.startswith("new:"):
        return None
    try:
        return NEW_SIZES[name.removeprefix("new:")]
    except KeyError:
        sizes = ", ".join(f"new:{size}" for size in NEW_SIZES)
        raise BaseUnavailable(f"There is no size {name}; there are {sizes}.") from None


def check_base(name: str) -> None:
    """Find out whether a base can be had before anything slow is done. Raises BaseUnavailable."""
    if new_size(name) is None:
        quieten_hub()
        _from_hub(name, lambda: _config(name))


def load_base(name: str, texts: Iterable[str], block_size: int | None) -> Base:
    """The tokenizer and the context of a base; `texts` are what a new tokenizer is learnt from.

    Raises BaseUnavailable.
    """
    size = new_size(name)
    if size is not None:
        return Base(name, learn_tokenizer(texts, size.vocabulary), True, block_size or size.n_positions)
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    config = _from_hub(name, lambda: _config(name))
    tokenizer = _from_hub(name, lambda: AutoTokenizer.from_pretrained(name, use_fast=True))
    return Base(name, cast("PreTrainedTokenizerFast", tokenizer).backend_tokenizer, False, cast("int", config.n_positions))


def learn_tokenizer(texts: Iterable[str], vocabulary: int) -> Tokenizer:
    """A byte-level BPE with GPT-2's way of splitting words, so that any text can be written and read back unchanged.

    Raises nothing for a small corpus: the vocabulary is then smaller.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator(
        texts,
        trainers.BpeTrainer(
            vocab_size=vocabulary,
            min_frequency=2,
            show_progress=False,
            initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
            special_tokens=[END_TOKEN],
        ),
    )
    return tokenizer


def add_tags(tokenizer: Tokenizer, story_format: StoryFormat) -> None:
    """Make each genre's tag one special token; those that are there already stay where they are."""
    tokens = [END_TOKEN, *map(story_format.tag, story_format.genres)]
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in tokens])


def load_model(base: Base, end_id: int, dropout: float, attention_dropout: float) -> GPT2LMHeadModel:
    """The model, with a row for each token of the base's tokenizer, ready to be taught. Raises BaseUnavailable."""
    from transformers import GPT2Config, GPT2LMHeadModel

    rates: dict[str, Any] = {"resid_pdrop": dropout, "embd_pdrop": dropout, "attn_pdrop": attention_dropout}
    size = new_size(base.name)
    if size is not None:
        config = GPT2Config(
            vocab_size=base.tokenizer.get_vocab_size(),
            n_positions=base.n_positions,
            n_embd=size.width,
            n_layer=size.layers,
            n_head=size.heads,
            bos_token_id=end_id,
            eos_token_id=end_id,
            **rates,
        )
        from trainer.induction import can_have_induction, write_induction_heads

        model = GPT2LMHeadModel(config)
        if can_have_induction(model):
            write_induction_heads(model)
        return model
    model = _from_hub(
        base.name, lambda: GPT2LMHeadModel.from_pretrained(base.name, use_safetensors=True, dtype="float32", **rates)
    )
    model.resize_token_embeddings(base.tokenizer.get_vocab_size(), mean_resizing=True)
    model.config.bos_token_id = model.config.eos_token_id = end_id
    return model


def _config(name: str) -> Any:
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(name)
    if config.model_type != "gpt2":
        raise BaseUnavailable(f"{name} is a {config.model_type} model, and this trainer teaches GPT-2 only: choose a GPT-2.")
    return config


def _from_hub(name: str, load: Any) -> Any:
    from safetensors import SafetensorError

    try:
        return load()
    except BaseUnavailable:
        raise
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        if Path(name).is_dir():
            raise BaseUnavailable(f"The model in {name} can't be read ({_first_line(error)}): copy it again.") from error
        raise BaseUnavailable(
            f"The base {name} is no directory here and could not be fetched from the Hugging Face hub ({_first_line(error)}). "
            "Offline, give a directory that holds it, or new:mini for new weights."
        ) from error


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n", 1)[0][:160] or type(error).__name__
