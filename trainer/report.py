"""`report.md`: how a training went, with pictures, and the sentence that says whether it learns, has stopped or memorises.

The sentence is by rules that anyone can check against the curve, and names the figures it is from:

- memorises: the held-out loss ends over 1 % above its lowest, while the training loss went on falling;
- still learns: the held-out loss fell by over 1 % from two thirds of the evaluations to the last;
- has stopped: neither.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainer.drawing import ACCENT, INK, figure, save
from trainer.samples import Sample

FOLDER = "report"
_NOTICEABLE = 0.01
Curve = Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Verdict:
    """Whether it still learns, has stopped or memorises; and why that is said."""

    word: str
    sentence: str


def verdict(curve: Curve) -> Verdict:
    """By the rules above."""
    held_out = _series(curve, "eval_loss")
    training = _series(curve, "loss")
    if len(held_out) < 3 or not training:
        return Verdict("unknown", "Too short to say whether it learns or memorises: three evaluations say it, by --eval-steps.")
    best_step, best = min(held_out, key=lambda point: point[1])
    last_step, last = held_out[-1]
    earlier_step, earlier = held_out[(2 * len(held_out)) // 3 - 1]
    at_best, at_end = _near(training, best_step), _near(training, last_step)
    gap = (
        f"The held-out loss, {last:.3f}, is {abs(last - at_end):.3f} nats {'above' if last > at_end else 'below'} the training "
        f"loss, {at_end:.3f}."
    )
    if last > best * (1 + _NOTICEABLE) and at_end < at_best:
        return Verdict(
            "memorises",
            f"It memorises: since step {best_step} the held-out loss rose from {best:.3f} to {last:.3f} while the training "
            f"loss fell from {at_best:.3f} to {at_end:.3f}. {gap} More stories, fewer epochs or more dropout help; the weights "
            f"of step {best_step} are the model's.",
        )
    if last < earlier * (1 - _NOTICEABLE):
        return Verdict(
            "still learns",
            f"It still learns: the held-out loss fell from {earlier:.3f} at step {earlier_step} to {last:.3f} at the end. "
            f"{gap} More epochs would lower it further.",
        )
    return Verdict(
        "has stopped",
        f"It has stopped learning: the held-out loss was {earlier:.3f} at step {earlier_step} and is {last:.3f} at the end. "
        f"{gap} More of the same will not help; more stories or a larger base may.",
    )


def write_report(out: Path, curve: Curve, samples: Sequence[Sample], command: str) -> Verdict:
    """Write report.md and its pictures into the model directory. Raises OSError."""
    folder = out / FOLDER
    folder.mkdir(exist_ok=True)
    found = verdict(curve)
    drawn = _draw(folder, curve)
    parts = [
        "# How the training went",
        found.sentence,
        f"```\n{command}\n```",
        *(f"![{title}]({FOLDER}/{name})" for name, title in drawn.items()),
        _losses(curve),
        _stories(samples),
    ]
    (out / "report.md").write_text("\n\n".join(part for part in parts if part) + "\n", encoding="utf-8")
    return found


def _draw(folder: Path, curve: Curve) -> dict[str, str]:
    """The pictures that there are figures for: {file name: title}."""
    drawn: dict[str, str] = {}
    losses = {"training": _series(curve, "loss"), "held-out": _series(curve, "eval_loss")}
    if any(losses.values()):
        _plot(folder / "loss.png", losses, "Loss", "nats a token")
        drawn["loss.png"] = "Loss, training and held-out"
    for key, title, unit in (
        ("learning_rate", "Learning rate", ""),
        ("tok_per_s", "Speed", "real tokens a second"),
        ("peak_gb", "Peak memory", "GB"),
    ):
        if points := _series(curve, key):
            _plot(folder / f"{key}.png", {"": points}, title, unit)
            drawn[f"{key}.png"] = title
    return drawn


def _plot(path: Path, lines: Mapping[str, Sequence[tuple[int, float]]], title: str, unit: str) -> None:
    picture, axes = figure(7, 3.2)
    for (name, points), colour in zip(lines.items(), (INK, ACCENT), strict=False):
        if points:
            steps, values = zip(*points, strict=True)
            axes.plot(steps, values, color=colour, label=name, marker="o" if len(points) < 40 else None, markersize=3)
    axes.set(title=title, xlabel="step", ylabel=unit)
    if title == "Peak memory" or title == "Speed":
        axes.set_ylim(bottom=0)
    if len(lines) > 1:
        axes.legend()
    save(picture, path)


def _losses(curve: Curve) -> str:
    training = _series(curve, "loss")
    rows = [f"| {step} | {_near(training, step):.3f} | {loss:.3f} |" for step, loss in _series(curve, "eval_loss") if training]
    return "\n".join(["| step | training loss | held-out loss |", "| --- | --- | --- |", *rows]) if rows else ""


def _stories(samples: Sequence[Sample]) -> str:
    """For each genre the story at the first, the middle and the last evaluation."""
    steps = sorted({sample.step for sample in samples})
    if not steps:
        return ""
    shown = sorted({steps[0], steps[len(steps) // 2], steps[-1]})
    parts = ["## The same prompts, as it learnt"]
    for genre in dict.fromkeys(sample.genre for sample in samples):
        of_genre = {sample.step: sample for sample in samples if sample.genre == genre}
        told = [of_genre[step] for step in shown if step in of_genre]
        parts.append(f"### [{genre}] {told[0].prompt}")
        parts += [f"Step {sample.step}:\n\n{_quoted(sample.text)}" for sample in told]
    return "\n\n".join(parts)


def _quoted(text: str) -> str:
    return "\n".join(f"> {line}".rstrip() for line in text.strip().split("\n")) or "> (nothing)"


def _series(curve: Curve, key: str) -> list[tuple[int, float]]:
    return [(int(entry["step"]), float(entry[key])) for entry in curve if key in entry]


def _near(points: Sequence[tuple[int, float]], step: int) -> float:
    """The last value up to a step, or the first one."""
    return next((value for at, value in reversed(points) if at <= step), points[0][1])
