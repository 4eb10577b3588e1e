"""`python -m trainer lr-find`: the loss while the learning rate rises from step to step, and the rate it suggests.

The learning-rate range test of Smith 2017 (Cyclical Learning Rates for Training Neural Networks): some steps from the base as
it is, each at a higher rate than the last, until the loss goes up and away. Suggested is the rate at which the smoothed loss
falls fastest, as fastai does. It is a place to begin, not the best rate: a short sweep sees no late damage.
"""

from __future__ import annotations

import json
import math
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainer.base import check_base, load_model
from trainer.drawing import ACCENT, INK, figure, save
from trainer.errors import OutputError, TrainerError
from trainer.lessons import prepare
from trainer.recipe import recipe_of
from trainer.settings import LrFindSettings, TrainSettings, set_threads
from trainer.sources.texts import read_texts
from trainer.talking import bar, quieten_transformers, say

if TYPE_CHECKING:
    import torch
    from transformers import GPT2LMHeadModel

    from trainer.rows import StoryRows

_SMOOTHING = 0.9
_AWAY = 1.5
"""The sweep ends where the smoothed loss is over so many times its lowest: nothing is learnt beyond."""


@dataclass(frozen=True)
class Point:
    """One step of the sweep."""

    rate: float
    loss: float
    smoothed: float


def lr_find(settings: LrFindSettings) -> int:
    """Sweep, print and draw; the exit status. Raises TrainerError."""
    set_threads(settings.threads)
    check_base(settings.base)
    with tempfile.TemporaryDirectory() as folder:
        train = TrainSettings(
            Path(folder),
            data=settings.data,
            base=settings.base,
            genres=settings.genres,
            batch_size=settings.batch_size,
            block_size=settings.block_size,
            optimizer=settings.optimizer,
            seed=settings.seed,
        )
        points = list(_sweep(settings, train))
    if len(points) < 5:
        raise TrainerError("The loss was no number within five steps: begin with a lower --lowest.")
    suggested = suggest(points)
    try:
        draw(settings.out, points, suggested)
    except OSError as error:
        raise OutputError(f"{settings.out} can't be written ({error.strerror}): choose another --out.") from None
    say(f"Suggested: --learning-rate {suggested:.1e}. The sweep is drawn in {settings.out}")
    if settings.json:
        line = {"learning_rate": suggested, "points": [[point.rate, round(point.loss, 4)] for point in points]}
        print(json.dumps(line))
    return 0


def suggest(points: Sequence[Point]) -> float:
    """The rate at which the smoothed loss falls fastest over the logarithm of the rate, before its lowest."""
    lowest = min(range(len(points)), key=lambda i: points[i].smoothed)
    falls = [(points[i + 1].smoothed - points[i - 1].smoothed, i) for i in range(1, max(2, lowest))]
    return points[min(falls)[1]].rate


def smooth(losses: Iterator[tuple[float, float]]) -> Iterator[Point]:
    """(rate, loss) pairs with an exponential mean of the loss; ends where it goes away or is no number."""
    mean, lowest = 0.0, math.inf
    for step, (rate, loss) in enumerate(losses, 1):
        mean = _SMOOTHING * mean + (1 - _SMOOTHING) * loss
        smoothed = mean / (1 - _SMOOTHING**step)
        lowest = min(lowest, smoothed)
        if not math.isfinite(loss) or smoothed > _AWAY * lowest:
            return
        yield Point(rate, loss, smoothed)


def _sweep(settings: LrFindSettings, train: TrainSettings) -> Iterator[Point]:
    import torch
    from transformers import set_seed

    from trainer.packed_model import taught_packed
    from trainer.precision import precision
    from trainer.rows import StoryRows, StoryTokens

    lessons = prepare(train, read_texts(settings.data, say))
    recipe = recipe_of(train)
    quieten_transformers()
    set_seed(settings.seed)
    model = load_model(lessons.base, lessons.codec.end_id, recipe.dropout, recipe.attention_dropout)
    rows = StoryRows(StoryTokens(lessons.train, lessons.codec), lessons.block, settings.seed)
    numbers = precision(settings.precision)
    say(f"Number format: {numbers.reason}")
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model.to(device)  # pyright: ignore[reportArgumentType]
    with taught_packed(model, numbers.dtype), bar("Sweeping", settings.steps, "steps") as report:
        for done, point in enumerate(smooth(_steps(settings, train, model, rows, numbers.dtype)), 1):
            report(done)
            yield point


def _steps(
    settings: LrFindSettings, train: TrainSettings, model: GPT2LMHeadModel, rows: StoryRows, dtype: torch.dtype
) -> Iterator[tuple[float, float]]:
    """Each step's rate and its loss before the step."""
    import torch

    from trainer.rows import collate

    batch_size = recipe_of(train).batch_size
    optimizer = _optimizer(train, model, dtype)
    scaler = torch.GradScaler(model.device.type, enabled=dtype == torch.float16)
    model.train()
    for step in range(settings.steps):
        rate = settings.lowest * (settings.highest / settings.lowest) ** (step / max(1, settings.steps - 1))
        for group in optimizer.param_groups:
            group["lr"] = rate
        places = ((step * batch_size + n) % len(rows) for n in range(batch_size))
        batch = {
            name: part.to(model.device) if isinstance(part, torch.Tensor) else part
            for name, part in collate([rows[place] for place in places]).items()
        }
        with torch.autocast(model.device.type, dtype, enabled=dtype != torch.float32):
            loss: Any = model(**batch).loss
        scaler.scale(loss).backward()
        scaler.unscale_(optimizer)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad()
        yield rate, loss.item()


def _optimizer(train: TrainSettings, model: GPT2LMHeadModel, dtype: torch.dtype) -> torch.optim.Optimizer:
    """As the training would have it."""
    import torch

    if train.chosen_optimizer == "muon":
        from trainer.muon import MuonAdamW

        return MuonAdamW(model, 1.0, 0.1, dtype=dtype)
    return torch.optim.AdamW(model.parameters(), betas=(0.9, 0.95), weight_decay=0.1)


def draw(path: Path, points: Sequence[Point], suggested: float) -> None:
    """The loss over the rate, and the suggestion. Raises OSError."""
    picture, axes = figure(7, 3.4)
    rates = [point.rate for point in points]
    axes.semilogx(rates, [point.loss for point in points], color=INK, alpha=0.3, label="loss")
    axes.semilogx(rates, [point.smoothed for point in points], color=INK, label="smoothed")
    axes.axvline(suggested, color=ACCENT, linestyle="--", label=f"suggested: {suggested:.1e}")
    axes.set(title="Loss while the learning rate rises", xlabel="learning rate", ylabel="nats a token")
    axes.legend()
    save(picture, path)
