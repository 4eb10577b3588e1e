"""The settings of a training: one frozen object, from which the command line is made.

The names are those that people of transformers know. A default of None is chosen from the base.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from trainer.errors import BadSetting
from trainer.story_format import genre_name


@dataclass(frozen=True)
class TrainSettings:
    """Fine-tune GPT-2 on stories, or teach new weights."""

    out: Path
    """The model directory to write, with its checkpoints; a training that was cut off goes on from there."""
    data: tuple[str, ...] = ("stories:",)
    """What to learn from: files, folders, corpus directories, hf:owner/name, grammar:. Default: the project's own stories."""
    base: str = "gpt2"
    """A hub name, a directory, or new weights: new:tiny, new:mini, new:small."""
    genres: tuple[str, ...] = ()
    """The genres to teach; the stories of others are taught without a tag. Default: the core four and all in the data."""
    recipe: Literal["ours", "report", "report-without-end"] = "ours"
    """report is what ours is measured against: lines cut and padded to 128 tokens, four at a time; its end was not taught."""
    epochs: int | None = None
    """Passes over the data. Default: 3."""
    max_steps: int = -1
    """Stop after so many steps, whatever the epochs; -1 is off."""
    batch_size: int | None = None
    """Rows for each device and step. Default: 8."""
    accumulate: int = 1
    """Steps whose gradients are summed before the weights change."""
    block_size: int | None = None
    """Tokens in a row, and the context of new weights. Default: the base's context."""
    passage_tokens: int | None = None
    """Cut texts into passages of at most so many tokens. Default: as fits a row."""
    learning_rate: float | None = None
    """The highest learning rate. Default: 3e-4 for a base that was taught already, 1e-3 for new weights and with LoRA."""
    optimizer: Literal["auto", "adamw", "muon"] = "auto"
    """muon learns more in each step from new weights, adamw is what taught weights were taught by; auto chooses so."""
    lora_rank: int | None = None
    """Teach LoRA matrices of this rank, for large bases; 0 teaches all weights. Default: all where they fit, else 16."""
    dropout: float | None = None
    """Dropout while training. Default: 0.1."""
    compile: Literal["auto", "on", "off"] = "auto"
    """Run passes on CUDA as graphs, and compiled. auto tries each where the training is long enough, and keeps the fastest."""
    precision: Literal["auto", "fp32"] = "auto"
    """auto computes in bf16, or fp16 on an older GPU, where the machine has instructions for it; weights are fp32 either way.
    fp32 on a GPU is without packed attention, graphs and most of its speed."""
    held_out: float = 0.05
    """The share of books that is never trained on, chosen by a hash of the book."""
    save_steps: int = 200
    """Steps between checkpoints."""
    eval_steps: int = 200
    """Steps between held-out losses."""
    patience: int | None = None
    """Stop after so many evaluations without a lower held-out loss. Default: never. The best weights are kept either way."""
    report_to: tuple[str, ...] = ()
    """Where Trainer reports to beside report.md: tensorboard, wandb and others; their package has to be installed."""
    seed: int = 1
    """Of weights, order, dropout and prompts."""
    resume: Literal["auto", "never"] = "auto"
    """auto goes on from the newest whole checkpoint in OUT; never starts over and deletes what this trainer wrote there."""
    threads: int | None = None
    """CPU threads. Default: as torch chooses."""
    config: Path | None = None
    """A TOML file of these settings; what the command line says goes before it."""

    def __post_init__(self) -> None:
        """Raise BadSetting for what no training can have."""
        _check("epochs", self.epochs, 1)
        _check("batch-size", self.batch_size, 1)
        _check("accumulate", self.accumulate, 1)
        _check("block-size", self.block_size, 16)
        _check("passage-tokens", self.passage_tokens, 16)
        _check("learning-rate", self.learning_rate, 1e-8, 1)
        _check("dropout", self.dropout, 0, 0.9)
        _check("held-out", self.held_out, 0, 0.9)
        _check("save-steps", self.save_steps, 1)
        _check("eval-steps", self.eval_steps, 1)
        _check("lora-rank", self.lora_rank, 0, 1024)
        if self.lora_rank and (self.new_weights or self.optimizer == "muon"):
            raise BadSetting("--lora-rank is for a --base that was taught already, with adamw: new weights are taught whole.")
        _check("patience", self.patience, 1)
        _check("seed", self.seed, 0, 2**32 - 1)
        _check("threads", self.threads, 1)
        if self.max_steps != -1:
            _check("max-steps", self.max_steps, 1)
        _check_genres(self.genres)

    @property
    def new_weights(self) -> bool:
        """Whether the base has been taught nothing yet."""
        return self.base.startswith("new:")

    @property
    def chosen_optimizer(self) -> str:
        """Adamw or muon, whatever auto means here."""
        if self.optimizer != "auto":
            return self.optimizer
        return "muon" if self.new_weights and self.recipe == "ours" else "adamw"


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

    def __post_init__(self) -> None:
        """Raise BadSetting for what can't be scored."""
        _check("held-out-only", self.held_out_only, 0, 0.9)
        _check("passage-tokens", self.passage_tokens, 16)
        _check("max-stories", self.max_stories, 0)
        _check("threads", self.threads, 1)


@dataclass(frozen=True)
class LrFindSettings:
    """The loss while the learning rate rises step by step: a picture, and a rate to begin with."""

    data: tuple[str, ...] = ("stories:",)
    """What to learn from, as for train."""
    base: str = "gpt2"
    """What to start from, as for train."""
    out: Path = Path("lr-find.png")
    """Where to draw the sweep."""
    genres: tuple[str, ...] = ()
    """The genres to teach, as for train."""
    lowest: float = 1e-6
    """The rate of the first step."""
    highest: float = 0.3
    """The rate of the last one, if the loss does not go away before."""
    steps: int = 100
    """Steps of the sweep."""
    batch_size: int | None = None
    """Rows in a step. Default: 8, as for train."""
    block_size: int | None = None
    """Tokens in a row. Default: the base's context."""
    optimizer: Literal["auto", "adamw", "muon"] = "auto"
    """As for train."""
    precision: Literal["auto", "fp32"] = "auto"
    """As for train."""
    seed: int = 1
    """Of weights, order, dropout and prompts."""
    json: bool = False
    """Print one line of JSON, last on stdout."""
    threads: int | None = None
    """CPU threads. Default: as torch chooses."""

    def __post_init__(self) -> None:
        """Raise BadSetting for what no sweep can have."""
        _check("lowest", self.lowest, 1e-12, 1)
        _check("highest", self.highest, self.lowest * 10, 100)
        _check("steps", self.steps, 10)
        _check("threads", self.threads, 1)


@dataclass(frozen=True)
class BenchSettings:
    """How fast this machine teaches: the report's recipe and ours in turns, against the machine's limit."""

    size: Literal["bundled", "gpt2"] = "bundled"
    """The shape of the model: the bundled one, or GPT-2 with 124M parameters."""
    seconds: int = 30
    """So long for each of the two, and at least one step."""
    batch_size: int | None = None
    """Rows in a step of ours, as for train; the report's has its four lines."""
    precision: Literal["auto", "fp32"] = "auto"
    """Of both, as for train."""
    json: bool = False
    """Print one line of JSON, last on stdout."""
    threads: int | None = None
    """CPU threads. Default: as torch chooses."""

    def __post_init__(self) -> None:
        """Raise BadSetting for what can't be measured."""
        _check("seconds", self.seconds, 1)
        _check("batch-size", self.batch_size, 1)
        _check("threads", self.threads, 1)


@dataclass(frozen=True)
class CorpusSettings:
    """Build a corpus of tagged stories from sources of any form: clean, without duplicates, split without leaks."""

    sources: Annotated[tuple[str, ...], tyro.conf.Positional]
    """Files, folders, hf:owner/name, stories: (the project's own), grammar: (by plots). With --lines, SOURCE@2 is drawn from
    twice as readily."""
    out: Path | None = None
    """The corpus directory to write: data sets for training, a README with figures and pictures."""
    text: Path | None = None
    """Also (or only) write one story a line here, tag first; held-out ones beside it as held-out-NAME."""
    lines: int | None = None
    """So many stories to learn from, genres as even as can be; held-out ones come on top. Default: all."""
    genres: tuple[str, ...] = ()
    """Keep only these genres. Default: the core four and all that the sources have."""
    map: tuple[str, ...] = ()
    """Columns with odd names: text=body,genre=label."""
    label: tuple[str, ...] = ()
    """Labels with odd names: western=ADVENTURE,noir=MYSTERY."""
    held_out: float = 0.05
    """The share of books that is never trained on, chosen by a hash of the book."""
    passage_words: int = 600
    """Cut longer texts into passages of at most so many words, at the ends of paragraphs and sentences."""
    min_words: int = 40
    """Leave out shorter passages."""
    language: str = "en"
    """Leave out text in other languages; any keeps all."""
    punctuation: Literal["ascii", "keep"] = "ascii"
    """ascii makes quotes straight and dashes plain: a small model learns one kind sooner."""
    confidence: float | None = None
    """How sure the classifier must be of a genre that nobody named. Default: as makes 4 of 5 right on held-out books."""
    seed: int = 1
    """Of the choice, the order, the prompts and the grammar's stories."""
    strict: bool = False
    """End at the first bad record rather than report it."""
    overwrite: bool = False
    """Replace a corpus that is there."""
    json: bool = False
    """Print the figures as one line of JSON, last on stdout."""

    def __post_init__(self) -> None:
        """Raise BadSetting for what no corpus can have."""
        if not self.sources:
            raise BadSetting("Name a source: a file, a folder, hf:owner/name, stories: or grammar:.")
        _check("lines", self.lines, 1)
        _check("held-out", self.held_out, 0, 0.9)
        _check("passage-words", self.passage_words, 50)
        _check("min-words", self.min_words, 1, self.passage_words)
        _check("confidence", self.confidence, 0, 1)
        _check("seed", self.seed, 0, 2**32 - 1)
        _check_genres(self.genres)
        if self.out is None and self.text is None:
            raise BadSetting("Say where the corpus goes: --out DIR, --text FILE, or both.")


@dataclass(frozen=True)
class GrammarSettings:
    """Print stories of the grammar, or check its plots."""

    about: Annotated[tuple[str, ...], tyro.conf.Positional] = ()
    """What the stories are about, as a person would type it. Default: whatever the grammar draws."""
    genre: str | None = None
    """The genre. Default: each in turn."""
    count: int = 1
    """How many stories."""
    seed: int = 1
    """The same seed tells the same stories."""
    check: bool = False
    """Tell every plot many times and print what is wrong with it, and how alike the stories of a genre are."""
    folder: Path | None = None
    """A grammar of your own, laid out like trainer/data/grammar."""

    def __post_init__(self) -> None:
        """Raise BadSetting for what can't be told."""
        _check("count", self.count, 1)
        _check("seed", self.seed, 0, 2**32 - 1)


def _check_genres(labels: tuple[str, ...]) -> None:
    for label in labels:
        if genre_name(label) is None:
            raise BadSetting(f"--genres {label!r} can't be a genre: use letters, digits and hyphens.")


def _check(name: str, value: float | None, least: float, most: float = float("inf")) -> None:
    if value is not None and not least <= value <= most:
        allowed = f"at least {least:g}" if most == float("inf") else f"from {least:g} to {most:g}"
        raise BadSetting(f"--{name} should be {allowed}, and is {value:g}.")


def set_threads(threads: int | None) -> None:
    """Tell torch and the tokenizer how many cores to use."""
    import torch

    if threads is not None:
        torch.set_num_threads(threads)
        os.environ["RAYON_NUM_THREADS"] = str(threads)
