"""What the model directory says about itself, read without torch: its genres, context and sampling.

The bot learns all of it here, never from a list of its own, so its commands show the genres of whatever model it is pointed to.
A directory that can't be a storyteller's is refused at the start, before Discord is asked for anything.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from bot.engine.interface import Sampling
from bot.engine.model_files import COPY_AGAIN, read_config, read_tokenizer, weights_file
from bot.errors import ModelUnavailable
from trainer.story_format import FormatError, StoryCodec, StoryFormat

_HOW_TO = "Set MODEL_DIR to a model directory, or teach one: make train DATA=stories.txt"


@dataclass(frozen=True)
class ModelDescription:
    """A model as its directory describes it."""

    directory: Path
    n_positions: int
    sampling: Sampling
    codec: StoryCodec

    @property
    def name(self) -> str:
        """The directory's name."""
        return self.directory.name

    @property
    def genres(self) -> tuple[str, ...]:
        """The genres it was taught."""
        return self.codec.format.genres


def describe(directory: Path, *, with_weights: bool = True) -> ModelDescription:
    """Read a model directory, whose weights may be elsewhere. Raises ModelUnavailable, which says what is missing or torn."""
    if not directory.is_dir():
        raise ModelUnavailable(f"There is no model directory {directory}. {_HOW_TO}")
    config = read_config(directory)
    tokenizer = read_tokenizer(directory, config)
    if with_weights:
        weights_file(directory)
    try:
        codec = StoryCodec(tokenizer, StoryFormat.load(directory))
    except FormatError as error:
        raise ModelUnavailable(f"{directory} is no storyteller's model: {error}. {_HOW_TO}") from None
    return ModelDescription(directory, config.n_positions, _sampling(directory), codec)


def _sampling(directory: Path) -> Sampling:
    """The sampling that suits this model, from generation_config.json; plain sampling where it says nothing."""
    path = directory / "generation_config.json"
    if not path.is_file():
        return Sampling()
    content = _json(path)
    if content.get("do_sample") is False:
        return Sampling(temperature=0.0)

    def number(name: str, default: float) -> float:
        value = content.get(name)
        if value is None:
            return default
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ModelUnavailable(f"{path}: {name} should be a number and is {value!r}.")
        return float(value)

    return Sampling(
        repetition_penalty=number("repetition_penalty", 1.0),
        no_repeat_ngram=int(number("no_repeat_ngram_size", 0)),
        temperature=number("temperature", 1.0),
        top_k=int(number("top_k", 0)),
        top_p=number("top_p", 1.0),
        min_p=number("min_p", 0.0),
    )


def _json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelUnavailable(f"{path} is torn ({error}). {COPY_AGAIN}") from None
    if not isinstance(content, dict):
        raise ModelUnavailable(f"{path} is no JSON object. {COPY_AGAIN}")
    return cast("dict[str, Any]", content)
