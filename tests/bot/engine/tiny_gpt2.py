"""Tiny GPT-2 directories made on the spot: random weights, a byte-level tokenizer with an end token and two tags."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import GPT2Config, GPT2LMHeadModel

from bot.engine.cpu_forward import CpuForward
from bot.engine.cpu_linear import MakeLinear
from bot.engine.gpt2_weights import Gpt2Shape, covered_shape, read_weights
from bot.engine.int8_check import RECORD, Int8Record, fingerprint
from bot.engine.interface import Engine, FinishReason, GenerationRequest, Piece, Waiting
from bot.engine.model_files import read_fields

END = "<|endoftext|>"
TAGS = ("[FANTASY]", "[HORROR]")
N_POSITIONS = 64
SENTENCES = [
    "Once upon a time a magic castle stood — above the sea, and a naïve dragon slept in its café 🐉.",
    "The dragon woke; the castle burned, and the sea took the stones one by one.",
]


def tiny_tokenizer() -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=310, special_tokens=[END], initial_alphabet=alphabet, show_progress=False, min_frequency=1
    )
    tokenizer.train_from_iterator(SENTENCES, trainer)
    tokenizer.add_special_tokens([AddedToken(tag, special=True) for tag in TAGS])
    tokenizer.add_tokens([AddedToken("世界", special=False), AddedToken("naïve", special=False)])
    return tokenizer


def write_model(directory: Path, tokenizer: Tokenizer) -> None:
    torch.manual_seed(1)
    vocab_size = tokenizer.get_vocab_size() + 6  # some rows of the embedding are padding, as after pad_to_multiple_of
    end = tokenizer.token_to_id(END)
    config = GPT2Config(
        n_layer=2,
        n_embd=32,
        n_head=2,
        n_positions=N_POSITIONS,
        vocab_size=vocab_size,
        bos_token_id=end,
        eos_token_id=end,
        initializer_range=0.4,  # so that greedy text is not one token for ever
    )
    GPT2LMHeadModel(config).save_pretrained(directory)
    tokenizer.save(str(directory / "tokenizer.json"))


def cpu_forward(model_dir: Path, linear: MakeLinear, slots: int) -> CpuForward:
    shape = covered_shape(read_fields(model_dir))
    assert isinstance(shape, Gpt2Shape)
    return CpuForward(read_weights(model_dir, shape), linear, slots)


def refuse_int8(directory: Path) -> None:
    """Leave a record that int8 costs these weights too much, so that they run in fp32."""
    record = Int8Record(loss_fp32=1.0, loss_int8=2.0, tokens=1, weights=fingerprint(directory))
    (directory / RECORD).write_text(json.dumps(asdict(record)))


@dataclass(frozen=True, eq=False)
class Text:
    """What one reader got. Two are equal when their text and their end are: pieces are as the reader found time."""

    pieces: list[Piece] = field(default_factory=list)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Text) and (self.text, self.ending) == (other.text, other.ending)

    __hash__ = None

    @property
    def ending(self) -> tuple[int, FinishReason | None]:
        return self.last.new_tokens, self.finish_reason

    @property
    def places(self) -> list[Waiting]:
        return [piece.waiting for piece in self.pieces if piece.waiting is not None]

    @property
    def text(self) -> str:
        return "".join(piece.text for piece in self.pieces)

    @property
    def last(self) -> Piece:
        return self.pieces[-1]

    @property
    def finish_reason(self) -> FinishReason | None:
        return self.last.finish_reason


async def read(engine: Engine, request: GenerationRequest) -> Text:
    return Text([piece async for piece in engine.generate(request)])
