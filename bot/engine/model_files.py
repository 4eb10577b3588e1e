"""Read the light half of a model directory: config.json and tokenizer.json, without torch.

The engine trusts no directory: each file that is missing, torn or of another kind becomes one ModelUnavailable that
names the file, since the person who reads it copied that directory by hand. The weights, which need torch, are in
loading.py.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer
from tokenizers.decoders import ByteLevel

from bot.errors import ModelUnavailable

COPY_AGAIN = "Copy the model directory again, or train it again."


@dataclass(frozen=True)
class ModelConfig:
    """What the engine needs to know of config.json before any weight is read."""

    n_positions: int
    vocab_size: int
    eos_ids: frozenset[int]
    """The tokens that end a text; empty for a model that was never taught an end."""


def read_fields(model_dir: Path) -> dict[str, Any]:
    """All of config.json. Raises ModelUnavailable."""
    return _read_json(_existing(model_dir, "config.json"))


def read_config(model_dir: Path) -> ModelConfig:
    """The few fields of config.json that the engine relies on. Raises ModelUnavailable."""
    fields = read_fields(model_dir)
    if fields.get("model_type") != "gpt2":
        kind = fields.get("model_type")
        raise ModelUnavailable(f'config.json in {model_dir} is for a {kind!r} model; this engine runs only "gpt2".')
    n_positions, vocab_size = fields.get("n_positions"), fields.get("vocab_size")
    if not isinstance(n_positions, int) or not isinstance(vocab_size, int) or n_positions < 1 or vocab_size < 1:
        raise ModelUnavailable(
            f"config.json in {model_dir} does not say n_positions and vocab_size as whole numbers. {COPY_AGAIN}"
        )
    return ModelConfig(n_positions, vocab_size, _eos_ids(fields.get("eos_token_id")))


def read_tokenizer(model_dir: Path, config: ModelConfig) -> Tokenizer:
    """tokenizer.json, known to be byte-level and to fit the model. Raises ModelUnavailable."""
    path = _existing(model_dir, "tokenizer.json")
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # the Rust side raises Exception itself, whatever is wrong with the file
        raise ModelUnavailable(f"tokenizer.json in {model_dir} is torn or no tokenizer. {COPY_AGAIN}") from error
    if not isinstance(tokenizer.decoder, ByteLevel):
        raise ModelUnavailable(f"tokenizer.json in {model_dir} is not byte-level, as GPT-2's is; take one that is.")
    highest = max(tokenizer.get_vocab(with_added_tokens=True).values(), default=-1)
    if highest >= config.vocab_size:
        raise ModelUnavailable(
            f"tokenizer.json in {model_dir} has a token {highest}, but config.json says a vocabulary of "
            f"{config.vocab_size}: they are of two models. {COPY_AGAIN}"
        )
    return tokenizer


def weights_file(model_dir: Path) -> Path:
    """The safetensors file, or the index of a sharded one. Raises ModelUnavailable."""
    index = model_dir / "model.safetensors.index.json"
    return index if index.is_file() else _existing(model_dir, "model.safetensors")


def shard_files(file: Path) -> list[Path]:
    """The safetensors files behind `weights_file`: itself, or all that an index names. Raises ModelUnavailable."""
    if file.suffix != ".json":
        return [file]
    try:
        names = sorted(set(json.loads(file.read_text(encoding="utf-8"))["weight_map"].values()))
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
        raise ModelUnavailable(f"{file.name} in {file.parent} is torn or no index of weights. {COPY_AGAIN}") from error
    for name in names:
        if Path(str(name)).name != name or not (file.parent / name).is_file():
            raise ModelUnavailable(f"{name}, which {file.name} names, is missing in {file.parent}. {COPY_AGAIN}")
    return [file.parent / name for name in names]


def misfit(model_dir: Path, odd: list[str]) -> ModelUnavailable:
    """The error for weights that are not the ones config.json speaks of; `odd` names them, sorted."""
    return ModelUnavailable(
        f"{weights_file(model_dir).name} in {model_dir} does not fit its config.json: {len(odd)} weights are missing, left "
        f"over or of another shape, {odd[0]} among them. {COPY_AGAIN}"
    )


def _existing(model_dir: Path, name: str) -> Path:
    if not model_dir.is_dir():
        raise ModelUnavailable(f"There is no model directory at {model_dir}. Train a model, or name another directory.")
    if not (model_dir / name).is_file():
        raise ModelUnavailable(f"{name} is missing in {model_dir}. {COPY_AGAIN}")
    return model_dir / name


def _read_json(path: Path) -> dict[str, Any]:
    try:
        fields: object = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelUnavailable(f"{path.name} in {path.parent} is torn or no JSON. {COPY_AGAIN}") from error
    if not isinstance(fields, dict):
        raise ModelUnavailable(f"{path.name} in {path.parent} holds no JSON object. {COPY_AGAIN}")
    return fields


def _eos_ids(eos: object) -> frozenset[int]:
    several = eos if isinstance(eos, list) else [eos]
    return frozenset(token for token in several if isinstance(token, int))
