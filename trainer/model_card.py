"""The model card: what the model is, the exact command, the data, the losses, the curve. Only what the run itself saw."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainer.evaluation import Score

if TYPE_CHECKING:
    from trainer.calibration import Calibrated


@dataclass(frozen=True)
class CardFacts:
    """What a card tells, all of it measured by the training that writes it."""

    command: str
    data: Sequence[str]
    base: str
    genres: Sequence[str]
    parameters: int
    stories: int
    curve: Sequence[Mapping[str, Any]]
    seconds: float
    scores: Mapping[str, Score]
    calibrated: Calibrated | None


def write_card(path: Path, facts: CardFacts) -> None:
    """Write the card."""
    path.write_text("\n\n".join(filter(None, _sections(facts))) + "\n", encoding="utf-8")


def _sections(facts: CardFacts) -> list[str]:
    return [
        f"---\nlibrary_name: transformers\npipeline_tag: text-generation\nbase_model: {facts.base}\n---"
        if not facts.base.startswith("new:")
        else "---\nlibrary_name: transformers\npipeline_tag: text-generation\n---",
        f"# {path_title(facts)}",
        f"GPT-2 with {facts.parameters:,} parameters, taught from `{facts.base}` on {facts.stories:,} stories "
        f"({facts.seconds / 60:.0f} minutes). It writes one of {', '.join(f'`[{genre}]`' for genre in facts.genres)} "
        "about a prompt: `[TAG] prompt`, a line end, the story, `<|endoftext|>`.",
        f"## How it was taught\n\n```\n{facts.command}\n```\n\nData: {', '.join(f'`{source}`' for source in facts.data)}. "
        "Their licence is the licence of what it says; name it here before you publish the model.",
        _held_out(facts.scores),
        _genres(facts.calibrated),
        _curve(facts.curve),
    ]


def path_title(facts: CardFacts) -> str:
    """The title of the card."""
    return f"A storyteller taught from {facts.base}"


def _held_out(scores: Mapping[str, Score]) -> str:
    if not scores:
        return "## Held-out loss\n\nNone: no story was held out."
    total = sum(scores.values(), Score(0.0, 0, 0, 0))
    rows = [f"| {name} | {s.stories} | {s.nats_per_token:.3f} | {s.bits_per_byte:.3f} |" for name, s in scores.items()]
    return "\n".join(
        [
            "## Held-out loss\n",
            "On stories that it was never taught, after their tag and own prompt.\n",
            "| genre | stories | nats per token | bits per byte |",
            "| --- | --- | --- | --- |",
            *rows,
            f"| all | {total.stories} | {total.nats_per_token:.3f} | {total.bits_per_byte:.3f} |",
        ]
    )


def _genres(calibrated: Calibrated | None) -> str:
    if calibrated is None:
        return "## Genre of a prompt\n\nNot calibrated: too few held-out prompts whose genre is known."
    return (
        f"## Genre of a prompt\n\nOf {calibrated.prompts} held-out prompts {calibrated.accuracy_before:.1%} are given their "
        f"genre by the model alone and {calibrated.accuracy:.1%} after calibration, which was fitted on these same prompts."
    )


def _curve(curve: Sequence[Mapping[str, Any]], most: int = 24) -> str:
    losses = {int(entry["step"]): float(entry["loss"]) for entry in curve if "loss" in entry}
    rows = [
        f"| {entry['step']} | {_nearest(losses, int(entry['step']))} | {entry['eval_loss']:.3f} |"
        for entry in curve
        if "eval_loss" in entry
    ]
    step = max(1, -(-len(rows) // most))
    kept = rows[::-1][::step][::-1]
    return "\n".join(["## Curve\n", "| step | training loss | held-out loss |", "| --- | --- | --- |", *kept]) if kept else ""


def _nearest(losses: Mapping[int, float], step: int) -> str:
    before = [s for s in losses if s <= step]
    return f"{losses[max(before)]:.3f}" if before else "-"
