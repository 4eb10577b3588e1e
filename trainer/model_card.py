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
    passages: Mapping[str, int]
    """Taught, of each genre; 0 for one that the model has only the tag of."""
    untagged: int
    held_out: int
    """Passages held out; `scores` may be of fewer."""
    parameters: int
    curve: Sequence[Mapping[str, Any]]
    seconds: float
    scores: Mapping[str, Score]
    calibrated: Calibrated | None


def write_card(path: Path, facts: CardFacts) -> None:
    """Write the card."""
    path.write_text("\n\n".join(filter(None, _sections(facts))) + "\n", encoding="utf-8")


def _sections(facts: CardFacts) -> list[str]:
    base = "" if facts.base.startswith("new:") else f"base_model: {facts.base}\n"
    return [
        f"---\nlibrary_name: transformers\npipeline_tag: text-generation\n{base}---",
        f"# A storyteller taught from {facts.base}",
        f"GPT-2 with {facts.parameters:,} parameters, taught for {facts.seconds / 60:.0f} minutes. It tells a story about a "
        "prompt, written to it as `[TAG] prompt`, a line end, the story, `<|endoftext|>`.",
        f"## How it was taught\n\n```\n{facts.command}\n```\n\nData: {', '.join(f'`{source}`' for source in facts.data)}. "
        "Its licence is the model's too; name it here before you publish the model.",
        _taught(facts),
        _held_out(facts),
        _genres(facts.calibrated),
        _curve(facts.curve),
    ]


def _taught(facts: CardFacts) -> str:
    rows = [f"| `[{genre}]` | {number:,} |" for genre, number in facts.passages.items()]
    return "\n".join(["| genre | passages taught |", "| --- | --- |", *rows, f"| without a tag | {facts.untagged:,} |"])


def _held_out(facts: CardFacts) -> str:
    if not facts.scores:
        return "## Held-out loss\n\nNone: no story was held out."
    total = sum(facts.scores.values(), Score(0.0, 0, 0, 0))
    rows = [
        f"| {name} | {score.stories} | {score.nats_per_token:.4f} | {score.bits_per_byte:.4f} |"
        for name, score in [*facts.scores.items(), ("all", total)]
    ]
    which = "all" if total.stories == facts.held_out else f"{total.stories:,}, evenly spread, of the"
    return "\n".join(
        [
            "## Held-out loss\n",
            f"On {which} {facts.held_out:,} passages that it was never taught, of the same sources: their text and its end, "
            "after their tag and own prompt.\n",
            "| genre | passages | nats per token | bits per byte |",
            "| --- | --- | --- | --- |",
            *rows,
        ]
    )


def _genres(calibrated: Calibrated | None) -> str:
    if calibrated is None:
        return "## Genre of a prompt\n\nNot calibrated: too few held-out prompts whose genre is known."
    from trainer.calibration import CORE_PRIOR

    return (
        f"## Genre of a prompt\n\nOf {calibrated.prompts} held-out prompts {calibrated.accuracy_before:.1%} are given their "
        f"genre by the model alone and {calibrated.accuracy:.1%} after calibration, which was fitted on these same prompts. "
        f"To that comes a prior: the core four are taken to be meant {CORE_PRIOR:g} times as often as any other."
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
    if not kept:
        return ""
    return "\n".join(
        [
            "## Curve\n",
            "In nats per token. The training loss is of prompts too and with dropout; the held-out one of texts only, on "
            "up to 400 passages.\n",
            "| step | training loss | held-out loss |",
            "| --- | --- | --- |",
            *kept,
        ]
    )


def _nearest(losses: Mapping[int, float], step: int) -> str:
    before = [s for s in losses if s <= step]
    return f"{losses[max(before)]:.3f}" if before else "-"
