"""What comes after the last step: calibrate the genre odds, write the model directory, score it, write its card."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from trainer.calibration import calibrate, known_prompts
from trainer.evaluation import HeldOut, by_genre
from trainer.lessons import Lessons
from trainer.material import spread
from trainer.model_card import CardFacts, write_card
from trainer.model_directory import write_model
from trainer.output import SAMPLES, Progress, command_line, python
from trainer.report import write_report
from trainer.samples import read_samples
from trainer.settings import TrainSettings
from trainer.talking import bar, say

if TYPE_CHECKING:
    from transformers import GPT2LMHeadModel

SCORED_AT_MOST = 2000
"""Held-out passages that the card's loss is of; `evaluate` scores all."""


def finish(settings: TrainSettings, lessons: Lessons, model: GPT2LMHeadModel, progress: Progress) -> None:
    """Write all that the output directory is for. Raises OutputError."""
    calibrated = calibrate(model, lessons.codec, known_prompts(lessons.held_out, settings.seed))
    story_format = lessons.codec.format
    if calibrated is not None:
        story_format = dataclasses.replace(story_format, calibration=calibrated.calibration)
        say(f"Genre of {calibrated.prompts} held-out prompts: {calibrated.accuracy:.0%} right after calibration on them")
    write_model(settings.out, model, lessons.base.tokenizer, story_format)
    asked = spread(lessons.held_out, SCORED_AT_MOST)
    held_out = HeldOut(asked, lessons.codec, lessons.block)
    with bar("Scoring held-out passages", held_out.rows, "rows") as report:
        scores = by_genre(asked, held_out.score(model, progress=report))
    counts = lessons.passages_by_genre()
    facts = CardFacts(
        command=command_line(settings),
        data=settings.data,
        base=settings.base,
        passages={genre: counts[genre] for genre in story_format.genres},
        untagged=counts[None],
        held_out=len(lessons.held_out),
        parameters=model.num_parameters(),
        curve=progress.curve,
        seconds=progress.seconds,
        scores=scores,
        calibrated=calibrated,
    )
    write_card(settings.out / "README.md", facts)
    found = write_report(settings.out, progress.curve, read_samples(settings.out / SAMPLES), facts.command)
    say(f"{found.sentence} Pictures and samples: {settings.out / 'report.md'}")
    say(f"The model is in {settings.out}. Try it: {python()} -m bot console --model {settings.out}")
