"""Fit what turns log P(prompt | tag) into the odds of each genre, on held-out prompts whose genre is known.

Noisy-channel classification (Min et al. 2022): no second model. One scale and one bias for each tag, by maximum
likelihood with a little pull to zero, since a held-out set may have few prompts of a genre.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING, Any, cast

import torch
from torch.nn import functional

from trainer.story_format import CORE_GENRES, GenreCalibration

if TYPE_CHECKING:
    from transformers import GPT2LMHeadModel

    from trainer.material import Passage
    from trainer.story_format import StoryCodec

CORE_PRIOR = 3.0
"""log P(tag): who names no genre is taken to mean one of the core four three times as often as any other. Held-out stories have
all genres alike, people who type two words do not: by them alone "magic castle" is as likely a fairy tale as a fantasy."""
FEWEST = 30
"""Under so many prompts a fit would be noise, and the odds stay as the model gives them."""


@dataclass(frozen=True)
class Calibrated:
    """A fit with the prior added, and what the fit alone does on the prompts it was fitted on."""

    calibration: GenreCalibration
    prompts: int
    accuracy_before: float
    accuracy: float


def known_prompts(passages: Sequence[Passage], seed: int, most: int = 400) -> list[tuple[str, str]]:
    """(prompt, genre) pairs, at most `most`, chosen at random: prompts that people wrote, or drawn ones where these are few."""
    random = Random(seed)
    tagged = [passage for passage in passages if passage.genre is not None]
    own = [passage for passage in tagged if passage.prompts.own]
    chosen = own if len(own) >= FEWEST else tagged
    pairs = [(passage.prompts.draw(random), cast("str", passage.genre)) for passage in chosen]
    pairs = [pair for pair in pairs if pair[0]]
    return random.sample(pairs, most) if len(pairs) > most else pairs


@torch.no_grad()
def log_likelihood(model: GPT2LMHeadModel, codec: StoryCodec, prompt: str) -> torch.Tensor:
    """Log P(prompt | tag) in nats for each tag of the format, in its order; one forward of a row for each tag."""
    prompt_ids = codec.encode_prompt(prompt)[: model.config.n_positions - 1]
    rows = torch.tensor([[codec.tag_id(genre), *prompt_ids] for genre in codec.format.genres], device=model.device)
    output: Any = model(input_ids=rows, use_cache=False)
    log_p = functional.log_softmax(cast("torch.Tensor", output.logits)[:, :-1].float(), dim=-1)
    return log_p.gather(-1, rows[:, 1:, None]).sum((1, 2)).cpu()


def calibrate(model: GPT2LMHeadModel, codec: StoryCodec, pairs: Sequence[tuple[str, str]]) -> Calibrated | None:
    """The fit, or None with too few prompts."""
    if len(pairs) < FEWEST:
        return None
    model.eval()
    scores = torch.stack([log_likelihood(model, codec, prompt) for prompt, _ in pairs])
    truth = torch.tensor([codec.format.genres.index(genre) for _, genre in pairs])
    scale, bias = _fit(scores, truth)
    fitted = scale * scores + bias
    return Calibrated(
        GenreCalibration(
            round(scale, 4),
            {
                genre: round(value + _log_prior(genre), 4)
                for genre, value in zip(codec.format.genres, bias.tolist(), strict=True)
            },
        ),
        len(pairs),
        (scores.argmax(1) == truth).float().mean().item(),
        (fitted.argmax(1) == truth).float().mean().item(),
    )


def _log_prior(genre: str) -> float:
    return math.log(CORE_PRIOR) if genre in CORE_GENRES else 0.0


def _fit(scores: torch.Tensor, truth: torch.Tensor) -> tuple[float, torch.Tensor]:
    """The scale, and a bias for each genre; a genre without a prompt in `truth` gets the mean bias, for nothing is known of it.

    `scores` has shape (prompts, genres), `truth` (prompts,).
    """
    seen = truth.unique()  # sorted
    known, targets = scores[:, seen], torch.searchsorted(seen, truth)
    log_scale = torch.zeros(1, requires_grad=True)
    bias = torch.zeros(len(seen), requires_grad=True)
    optimizer = torch.optim.LBFGS([log_scale, bias], max_iter=200, line_search_fn="strong_wolfe")

    def loss() -> torch.Tensor:
        optimizer.zero_grad()
        value = functional.cross_entropy(log_scale.exp() * known + bias, targets) + 0.002 * bias.square().sum()
        value.backward()
        return value

    with torch.enable_grad():
        optimizer.step(loss)
    full = bias.detach().mean().repeat(scores.shape[1])
    full[seen] = bias.detach()
    return log_scale.exp().item(), full
