"""The settings of a training: one frozen object, from which the command line is made.

The names are those that people of transformers know. A default of None is chosen from the base.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro


@dataclass(frozen=True)
class TrainSettings:
    """Fine-tune GPT-2 on stories, or teach new weights."""

    data: tuple[str, ...]
    """What to learn from: files, folders, or data sets of the Hugging Face hub (hf:owner/name)."""
    out: Path
    """The model directory to write, with its checkpoints; a training that was cut off goes on from there."""
    base: str = "gpt2"
    """A hub name, a directory, or new weights: new:tiny, new:mini, new:small."""
    genres: tuple[str, ...] = ()
    """The genres to teach; the stories of others are taught without a tag. Default: the core four and all in the data."""
    epochs: int = 3
    """Passes over the data."""
    max_steps: int = -1
    """Stop after so many steps, whatever the epochs; -1 is off."""
    batch_size: int = 8
    """Rows for each device and step."""
    accumulate: int = 1
    """Steps whose gradients are summed before the weights change."""
    block_size: int | None = None
    """Tokens in a row, and the context of new weights. Default: the base's context."""
    passage_tokens: int | None = None
    """Cut texts into passages of at most so many tokens. Default: as fits a row."""
    learning_rate: float | None = None
    """The highest learning rate. Default: 1e-4 for a base that was taught already, 1e-3 for new weights."""
    dropout: float = 0.1
    """Dropout while training."""
    held_out: float = 0.05
    """The share of books that is never trained on, chosen by a hash of the book."""
    save_steps: int = 200
    """Steps between checkpoints."""
    eval_steps: int = 200
    """Steps between held-out losses."""
    seed: int = 1
    """Of weights, order, dropout and prompts."""
    resume: Literal["auto", "never"] = "auto"
    """auto goes on from the newest whole checkpoint in OUT; never starts over and deletes what this trainer wrote there."""
    threads: int | None = None
    """CPU threads. Default: as torch chooses."""


@dataclass(frozen=True)
class EvaluateSettings:
    """Held-out loss of a model, per genre and in all."""

    model: Annotated[Path, tyro.conf.Positional]
    """The model directory."""
    data: tuple[str, ...]
    """What to score it on: files, folders or hf:owner/name."""
    json: bool = False
    """Print one line of JSON, last on stdout."""
    held_out_only: float = 0.0
    """Score only the books that a training with this --held-out share keeps out; 0 scores all."""
    passage_tokens: int | None = None
    """Cut texts into passages of at most so many tokens. Default: as fits the model's context."""
    max_stories: int = 0
    """Score at most so many passages, evenly spread over the data; 0 scores all."""
    threads: int | None = None
    """CPU threads. Default: as torch chooses."""


def set_threads(threads: int | None) -> None:
    """Tell torch and the tokenizer how many cores to use."""
    import torch

    if threads is not None:
        torch.set_num_threads(threads)
        os.environ["RAYON_NUM_THREADS"] = str(threads)
