"""One training from sources to a model directory: read, cut, tokenise, pack, teach, calibrate, write.

models/NAME/                 the model, when it is taught
models/NAME/checkpoints/     where a training that was cut off goes on from
models/NAME/training.json    the settings it was started with, and the curve so far
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from trainer.base import check_base, load_model
from trainer.errors import OutOfMemory, OutputError
from trainer.lessons import Lessons, prepare
from trainer.material import digest_of, spread
from trainer.output import Plan, Progress, claim_output, command_line, inspect_output, write_record
from trainer.settings import TrainSettings, set_threads
from trainer.sources.texts import read_texts
from trainer.talking import bar, quieten_transformers, say

if TYPE_CHECKING:
    from transformers import GPT2LMHeadModel

    from trainer.rows import StoryRows

ASKED_WHILE_TRAINING = 400
"""Held-out passages of each evaluation: a loss to compare, in seconds rather than minutes."""


def train(settings: TrainSettings) -> int:
    """Teach a model; the exit status. 130 after Ctrl-C and 143 after SIGTERM, with everything saved.

    Raises TrainerError.
    """
    set_threads(settings.threads)
    check_base(settings.base)
    texts = read_texts(settings.data, say)
    plan = inspect_output(settings, digest_of(texts))
    if plan.finished:
        say(f"{settings.out} is taught already with these settings. To go on teaching it: --base {settings.out} --out another.")
        return 0
    lessons = prepare(settings, texts)

    import torch
    from transformers import set_seed

    quieten_transformers()
    set_seed(settings.seed)
    model = load_model(lessons.base, lessons.codec.end_id, settings.dropout)
    claim_output(settings, plan)
    try:
        progress, status = _teach(settings, plan, lessons, model)
        if status == 0:
            from trainer.finishing import finish

            finish(settings, lessons, model, progress)
            write_record(settings, plan, progress, finished=True)
    except torch.OutOfMemoryError as error:
        raise OutOfMemory(
            "The GPU's memory is full. Halve --batch-size and double --accumulate, which teaches the same; with --resume never "
            "if it happened at the start."
        ) from error
    except OSError as error:
        raise OutputError(
            f"{settings.out} can't be written ({error.strerror or error}). The last whole checkpoint is kept: make room, and "
            "give the same command again."
        ) from error
    return status


def _teach(settings: TrainSettings, plan: Plan, lessons: Lessons, model: GPT2LMHeadModel) -> tuple[Progress, int]:
    """All steps that are left; what is behind the training then, and the exit status: 0 when it is taught."""
    from safetensors.torch import load_model as load_model_weights

    from trainer.arguments import arguments, optimizer, precision
    from trainer.evaluation import HeldOut
    from trainer.packed_model import taught_packed
    from trainer.rows import StoryRows, StoryTokens, collate
    from trainer.story_trainer import AfterSave, StopCleanly, StoryTrainer

    if plan.checkpoint is not None and (curve := _curve_if_taught(plan.checkpoint)) is not None:
        load_model_weights(model, plan.checkpoint / "model.safetensors")
        return Progress(curve, plan.seconds_before), 0
    with bar("Tokenising", len(lessons.train), "passages") as report:
        rows = StoryRows(StoryTokens(lessons.train, lessons.codec, report), lessons.block, settings.seed)
    asked = spread(lessons.held_out, ASKED_WHILE_TRAINING)
    held_out = HeldOut(asked, lessons.codec, lessons.block) if asked else None
    stop = StopCleanly()
    numbers = precision()
    say(f"Number format: {numbers.reason}")
    args = arguments(settings, numbers, held_out is not None)
    model.to(args.device)  # pyright: ignore[reportArgumentType]
    with taught_packed(model, numbers.dtype), stop.listening():
        trainer = StoryTrainer(
            model=model,
            args=args,
            optimizers=(optimizer(settings, model, args), None),
            train_dataset=rows,
            data_collator=collate,
            held_out=held_out,
            callbacks=[stop],
        )
        _say_plan(settings, model, rows, trainer.args)
        started_s = time.monotonic()

        def record() -> Progress:
            progress = Progress(
                cast("list[dict[str, Any]]", trainer.state.log_history), plan.seconds_before + time.monotonic() - started_s
            )
            if trainer.is_world_process_zero():
                write_record(settings, plan, progress, finished=False)
            return progress

        trainer.add_callback(AfterSave(record))
        trainer.train(resume_from_checkpoint=str(plan.checkpoint) if plan.checkpoint else None)
    if stop.asked is not None and trainer.state.global_step < trainer.state.max_steps:
        say(f"\nStopped at step {trainer.state.global_step}, saved. To go on: {command_line(settings)}")
        return record(), 128 + int(stop.asked)
    return record(), 0


def _curve_if_taught(checkpoint: Path) -> list[dict[str, Any]] | None:
    """The log of a training that was cut off after its last step, before its model was written; None for any other.

    Trainer would take one step more than it was told to.
    """
    state = json.loads((checkpoint / "trainer_state.json").read_text(encoding="utf-8"))
    return state["log_history"] if state["global_step"] >= state["max_steps"] else None


def _say_plan(settings: TrainSettings, model: GPT2LMHeadModel, rows: StoryRows, args: Any) -> None:
    tokens = settings.batch_size * settings.accumulate * args.world_size * rows[0]["input_ids"].numel()
    say(
        f"{model.num_parameters():,} parameters, {len(rows):,} rows an epoch, {rows.used:.1%} of them in use, "
        f"{tokens:,} tokens a step"
    )
