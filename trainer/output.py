"""The output directory of a training: whose it is, where to go on, and what the training has behind it.

A directory that no training wrote is never touched, and settings that would give other weights are refused rather than mixed.
"""

from __future__ import annotations

import dataclasses
import json
import shlex
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from trainer import checkpoints
from trainer.alone import LOCK
from trainer.errors import OutputError
from trainer.layout import Layout
from trainer.recipe import recipe_of
from trainer.settings import TrainSettings
from trainer.talking import say

RECORD = "training.json"
SAMPLES = "samples.json"
"""The stories told while it was taught."""
_BEFORE_IT_WAS_A_SETTING = {"optimizer": "adamw", "recipe": "ours"}
"""What a record that has no such setting was taught with."""


@dataclass(frozen=True)
class Progress:
    """What a training has behind it: Trainer's log, and the time, that of earlier runs counted in."""

    curve: list[dict[str, Any]]
    seconds: float


@dataclass(frozen=True)
class Plan:
    """What the output directory says about this training."""

    digest: str
    """Of the texts that are taught."""
    checkpoint: Path | None = None
    seconds_before: float = 0.0
    finished: bool = False
    layout: Layout | None = None
    """How the rows went through the model before; None where that is still to be chosen."""
    number_format: str | None = None
    """What it was taught in so far (precision.py); None where nothing is learnt yet, or was before this was written down."""


def inspect_output(settings: TrainSettings, digest: str) -> Plan:
    """Where to go on, or that all is new; changes nothing. Raises OutputError for a directory that holds something else."""
    out = settings.out
    try:
        if out.exists() and not out.is_dir():
            raise OutputError(f"{out} is a file: choose another --out.")
        if out.is_dir() and not (out / RECORD).is_file() and not _holds_only_a_lock(out):
            raise OutputError(f"{out} holds something that no training wrote: choose another --out, or empty it.")
        if settings.resume == "never":
            return Plan(digest)
        record = _read_record(out / RECORD)
    except OSError as error:
        raise OutputError(f"{out} can't be read ({error.strerror}): choose another --out.") from None
    found = checkpoints.newest_whole(out / "checkpoints")
    for problem in found.torn:
        say(f"{problem}; passed over")
    if record is None or not (found.path or record["finished"]):
        return Plan(digest)  # nothing was learnt yet, so nothing can be lost
    _check_same(settings, digest, record)
    if not record["finished"]:
        say(f"Going on from {found.path}")
    seconds, finished = float(record["seconds"]), bool(record["finished"])
    return Plan(digest, found.path, seconds, finished, _layout(record), record.get("number_format"))


def _holds_only_a_lock(out: Path) -> bool:
    """Whether there is nothing there, or no more than a run leaves that was killed before it wrote anything down."""
    return all(path.name in ("checkpoints", LOCK) for path in out.rglob("*"))


def claim_output(settings: TrainSettings, plan: Plan) -> None:
    """Make the directory this training's own, and delete old checkpoints that it does not go on from. Raises OutputError.

    Called last, when sources and base were read: nothing is deleted for a training that can't begin.
    """
    try:
        settings.out.mkdir(parents=True, exist_ok=True)
        write_record(settings, plan, Progress([], plan.seconds_before), finished=False)
        if plan.checkpoint is None:
            for old in (settings.out / "checkpoints").glob("*/"):  # but not the lock of this very run
                shutil.rmtree(old, ignore_errors=True)
            (settings.out / SAMPLES).unlink(missing_ok=True)
    except OSError as error:
        raise OutputError(f"{settings.out} can't be written ({error.strerror}): choose another --out.") from None


def _check_same(settings: TrainSettings, digest: str, record: dict[str, Any]) -> None:
    now, then = _identity(settings), {**_BEFORE_IT_WAS_A_SETTING, **record["settings"]}
    changes = [f"{name} was {then.get(name)!r} and is {now[name]!r}" for name in now if now[name] != then.get(name)]
    layout = _layout(record)
    if layout and settings.lora_rank not in (None, layout.lora_rank):  # what was not asked for was chosen by the memory
        changes.append(f"lora_rank was {layout.lora_rank} and is {settings.lora_rank}")
    if record.get("digest", digest) != digest:
        changes.append("the texts of --data have changed")
    if changes:
        raise OutputError(
            f"{settings.out} was started differently ({', '.join(changes)}). Undo that to go on, choose another --out, or "
            "say --resume never to start over and delete what it has learnt."
        )


def _identity(settings: TrainSettings) -> dict[str, Any]:
    """The settings that decide the weights, as JSON has them."""
    fields = dataclasses.asdict(settings)
    for name in (
        "out",
        "resume",
        "threads",
        "compile",
        "precision",
        "save_steps",
        "eval_steps",
        "report_to",
        "config",
        "lora_rank",
    ):
        del fields[name]
    recipe = recipe_of(settings)
    fields |= {"optimizer": settings.chosen_optimizer, "epochs": recipe.epochs, "batch_size": recipe.batch_size}
    fields["dropout"] = recipe.dropout
    return cast("dict[str, Any]", json.loads(json.dumps(fields)))


def _read_record(path: Path) -> dict[str, Any] | None:
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(record["settings"], dict) and isinstance(record["finished"], bool) and float(record["seconds"]) >= 0:
            return cast("dict[str, Any]", record)
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError):
        pass
    raise OutputError(f"{path} is damaged: start over with --resume never, or choose another --out.")


def _layout(record: dict[str, Any]) -> Layout | None:
    """The layout of a record; one from before there were layouts was of whole batches, and dropout is drawn by the layout."""
    if layout := record.get("layout"):
        return Layout(int(layout["micro_batch"]), bool(layout["checkpointing"]), int(layout["lora_rank"]))
    return Layout(int(record["settings"]["batch_size"])) if record["curve"] and "layout" not in record else None


def write_record(settings: TrainSettings, plan: Plan, progress: Progress, finished: bool) -> None:
    """Replace training.json as a whole. Raises OSError."""
    content = {
        "settings": _identity(settings),
        "digest": plan.digest,
        "finished": finished,
        "seconds": round(progress.seconds, 1),
        "layout": dataclasses.asdict(plan.layout) if plan.layout else None,
        "number_format": plan.number_format,
        "curve": progress.curve,
    }
    staged = settings.out / f"{RECORD}.new"
    staged.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    staged.replace(settings.out / RECORD)


def python() -> str:
    """The Python that runs, as a person in this folder would type it."""
    here = Path(sys.prefix) / "bin" / "python"
    return str(here.relative_to(Path.cwd())) if here.is_relative_to(Path.cwd()) else "python"


def command_line(settings: TrainSettings) -> str:
    """The command line of these settings, defaults left out."""
    words = [python(), "-m", "trainer", "train"]
    for field in dataclasses.fields(settings):
        value = getattr(settings, field.name)
        if value == field.default or field.name in ("resume", "config"):
            continue
        parts = [str(part) for part in value] if isinstance(value, tuple) else [str(value)]
        words += [f"--{field.name.replace('_', '-')}", *parts]
    return shlex.join(words)
