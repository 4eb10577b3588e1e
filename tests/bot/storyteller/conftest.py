"""A model directory without weights: all that the storyteller reads of it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers

from bot.model_dir import ModelDescription, describe
from trainer.story_format import END_TOKEN, GenreCalibration, StoryFormat

GENRES = ("FANTASY", "SCI-FI", "HORROR", "ADVENTURE")


def write_model_directory(directory: Path) -> Path:
    story_format = StoryFormat(GENRES, GenreCalibration(1.0, {}), ("LATIN",))
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer.train_from_iterator(
        ["a magic castle by the sea"] * 3,
        trainers.BpeTrainer(vocab_size=300, initial_alphabet=alphabet, special_tokens=[END_TOKEN], show_progress=False),
    )
    tokenizer.add_special_tokens([AddedToken(f"[{genre}]", special=True, normalized=False) for genre in GENRES])
    directory.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(directory / "tokenizer.json"))
    story_format.save(directory)
    (directory / "config.json").write_text(json.dumps({"model_type": "gpt2", "n_positions": 256, "vocab_size": 400}))
    (directory / "generation_config.json").write_text(json.dumps({"do_sample": True, "temperature": 0.8, "top_k": 40}))
    (directory / "model.safetensors").write_bytes(b"")
    return directory


@pytest.fixture
def model_directory(tmp_path: Path) -> Path:
    return write_model_directory(tmp_path / "model")


@pytest.fixture
def model(model_directory: Path) -> ModelDescription:
    return describe(model_directory)
