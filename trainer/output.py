"""The output directory of a training: whose it is, where to go on, and what the training has behind it.

A directory that no training wrote is never touched, and settings that would give other weights are refused rather than mixed.
"""

from __future__ import annotations

import dataclasses
import json
import shlex
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from trainer import checkpoints
from trainer.errors import OutputError
from trainer.settings import TrainSettings
from trainer.talking import say

RECORD = "training.json"


@dataclass(frozen=True)
class Progress:
    """What a training has behind it: Trainer's log, and the time, that of earlier runs counted in."""

    curve: list[dict[str, Any]]
    seconds: float


@dataclass(frozen=True)
class Plan:
    """What the output directory says about this training."""

    checkpoint: Path | None = None
    seconds_before: float = 0.0
    finished: bool = False


def inspect_output(settings: TrainSettings) -> Plan:
    """Where to go on, or that all is new. Raises OutputError for a directory that holds something else."""
    out = settings.out
    record_file = out / RECORD
    directory = out / "checkpoints"
    try:
        if out.exists() and not out.is_dir():
            raise OutputError(f"{out} is a file: choose another --out.")
        if out.is_dir() and any(out.iterdir()) and not record_file.is_file():
            raise OutputError(f"{out} holds something that no training wrote: choose another --out, or empty it.")
        if settings.resume == "never" and record_file.is_file():
            shutil.rmtree(directory, ignore_errors=True)
            record_file.unlink()
        out.mkdir(parents=True, exist_ok=True)
        record = _read_record(record_file)
    except OSError as error:
        raise OutputError(f"{out} can't be written ({error.strerror}): choose another --out.") from None
    found = checkpoints.newest_whole(directory)
    for problem in found.torn:
        say(f"{problem}; passed over")
    if record is None or not (found.path or record["finished"]):
        return Plan()  # nothing was learnt yet, so nothing can be lost
    _check_same(settings, record)
    if not record["finished"]:
        say(f"Going on from {found.path}")
    return Plan(found.path, float(record["seconds"]), bool(record["finished"]))


def _check_same(settings: TrainSettings, record: dict[str, Any]) -> None:
    now, then = _identity(settings), cast("dict[str, Any]", record["settings"])
    different = [name for name in now if now[name] != then.get(name)]
    if different:
        changes = ", ".join(f"{name} was {then.get(name)!r} and is {now[name]!r}" for name in different)
        raise OutputError(
            f"{settings.out} was started with other settings ({changes}): use the same ones to go on, another --out, "
            "or --resume never to start over and delete it."
        )


def _identity(settings: TrainSettings) -> dict[str, Any]:
    """The settings that decide the weights, as JSON has them."""
    fields = dataclasses.asdict(settings)
    for name in ("out", "resume", "threads", "save_steps", "eval_steps"):
        del fields[name]
    return cast("dict[str, Any]", json.loads(json.dumps(fields)))


def _read_record(path: Path) -> dict[str, Any] | None:
    try:
        return cast("dict[str, Any]", json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None
    except ValueError:
        raise OutputError(f"{path} is damaged: start over with --resume never, or choose another --out.") from None


def write_record(settings: TrainSettings, progress: Progress, finished: bool) -> None:
    content = {
        "settings": _identity(settings),
        "finished": finished,
        "seconds": round(progress.seconds, 1),
        "curve": progress.curve,
    }
    staged = settings.out / f"{RECORD}.new"
    staged.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    staged.replace(settings.out / RECORD)


def command_line(settings: TrainSettings) -> str:
    """The command line of these settings, defaults left out."""
    words = ["python", "-m", "trainer", "train"]
    for field in dataclasses.fields(settings):
        value = getattr(settings, field.name)
        if value == field.default or field.name == "resume":
            continue
        parts = [str(part) for part in value] if isinstance(value, tuple) else [str(value)]
        words += [f"--{field.name.replace('_', '-')}", *parts]
    return shlex.join(words)
