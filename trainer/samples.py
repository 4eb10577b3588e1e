"""A story for each genre at each evaluation, from the same prompt and seed every time: what a loss does not show.

Sampling has a generator state of its own: a training with samples has the same weights, bit for bit, as one without.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from trainer.model_directory import sampling_of
from trainer.output import SAMPLES
from trainer.packed_model import as_published
from trainer.processes import is_first
from trainer.watching import clear_of_the_bar

if TYPE_CHECKING:
    from transformers import GPT2LMHeadModel

    from trainer.story_format import StoryCodec

_PROMPTS = {
    "FANTASY": "magic castle",
    "SCI-FI": "a robot on Mars",
    "HORROR": "a haunted house",
    "ADVENTURE": "the lost treasure",
    "MYSTERY": "a missing necklace",
    "ROMANCE": "a letter in the rain",
    "COMEDY": "the goat who became mayor",
    "FAIRY-TALE": "a talking well",
}
_ANY_PROMPT = "an old key"
_TOKENS = 160
_SEED = 1


@dataclass(frozen=True)
class Sample:
    """One story of a model that is being taught."""

    step: int
    genre: str
    prompt: str
    text: str


def tell(model: GPT2LMHeadModel, codec: StoryCodec, step: int) -> list[Sample]:
    """A story of each genre, at most 160 tokens long. Leaves the model's mode and all random states as they were."""
    prompts = {genre: _PROMPTS.get(genre, _ANY_PROMPT) for genre in codec.format.genres}
    openings = [codec.opening(genre, codec.encode_prompt(prompt)) for genre, prompt in prompts.items()]
    longest = max(map(len, openings))
    room = min(_TOKENS, int(model.config.n_positions) - longest)
    ids = torch.tensor([[codec.end_id] * (longest - len(o)) + o for o in openings], device=model.device)
    mask = torch.tensor([[0] * (longest - len(o)) + [1] * len(o) for o in openings], device=model.device)
    devices = [model.device] if model.device.type == "cuda" else []
    with torch.random.fork_rng(devices), as_published(model), torch.no_grad():
        torch.manual_seed(_SEED)
        told: Any = cast("Any", model).generate(
            ids,
            attention_mask=mask,
            max_new_tokens=room,
            eos_token_id=codec.end_id,
            pad_token_id=codec.end_id,
            **sampling_of(model),
        )
    texts = (_text(codec, row[longest:].tolist()) for row in told)
    return [Sample(step, genre, prompt, text) for (genre, prompt), text in zip(prompts.items(), texts, strict=True)]


def _text(codec: StoryCodec, ids: list[int]) -> str:
    return codec.tokenizer.decode(ids[: ids.index(codec.end_id)] if codec.end_id in ids else ids, skip_special_tokens=False)


class TellStories(TrainerCallback):
    """Tells the stories of each evaluation, shows the first and keeps them all."""

    def __init__(self, codec: StoryCodec, out: Path) -> None:
        """`out` is the model directory to be."""
        self._codec = codec
        self._path = out / SAMPLES

    def on_evaluate(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        model: Any = None,
        **_: Any,
    ) -> None:
        """Tell them."""
        if not is_first():
            return
        told = tell(model, self._codec, state.global_step)
        keep_samples(self._path, told)
        first = told[0]
        clear_of_the_bar(f"  [{first.genre}] {first.prompt}: {' '.join(first.text.split())[:300]}")


def read_samples(path: Path) -> list[Sample]:
    """What was kept; nothing where there is no file, or one that a power cut left."""
    try:
        return [Sample(**entry) for entry in json.loads(path.read_text(encoding="utf-8"))]
    except (OSError, ValueError, TypeError):
        return []


def keep_samples(path: Path, told: Sequence[Sample]) -> None:
    """Add them to the file; those of later steps go, which a training that was set back will tell again."""
    step = told[0].step
    kept: list[Mapping[str, Any]] = [asdict(sample) for sample in [*(s for s in read_samples(path) if s.step < step), *told]]
    staged = path.with_name(f"{path.name}.new")
    staged.write_text(json.dumps(kept, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    staged.replace(path)
