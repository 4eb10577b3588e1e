"""The steps of a training, from its newest checkpoint to its end, dealt out so that they fit into memory.

When memory runs out all the same, the step is not lost and the training not another one: fewer rows go through the model at
once, their gradients add up to the same step, and it goes on from the newest checkpoint or, without one, from the beginning.
"""

from __future__ import annotations

import gc
import json
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch

from trainer import checkpoints
from trainer.arguments import arguments, log_seldom, optimizer
from trainer.compiling import choose_kernels
from trainer.cuda_blocks import PLAIN, Kernels
from trainer.errors import OutOfMemory
from trainer.evaluation import HeldOut
from trainer.layout import Layout
from trainer.lessons import Lessons
from trainer.lora import DEFAULT_RANK, merged
from trainer.material import spread
from trainer.memory import choose, is_out_of_memory
from trainer.output import Plan, Progress, command_line, write_record
from trainer.packed_model import taught_packed
from trainer.precision import Precision, precision
from trainer.processes import as_the_first_says, is_first, process_count
from trainer.recipe import Recipe, recipe_of
from trainer.rows import PaddedLines, StoryRows, StoryTokens, collate
from trainer.samples import TellStories
from trainer.settings import TrainSettings
from trainer.speed import flops_per_token, matrix_rate
from trainer.story_format import StoryCodec
from trainer.story_trainer import BEST, AfterSave, StopCleanly, StoryTrainer
from trainer.talking import bar, say
from trainer.watching import Meter, StopWhenWorse, Watch, evaluations_since_best
from trainer.weights import load_weights

if TYPE_CHECKING:
    from transformers import GPT2LMHeadModel, TrainingArguments

ASKED_WHILE_TRAINING = 400
"""Held-out passages of each evaluation: a loss to compare, in seconds rather than minutes."""


@dataclass(frozen=True)
class Taught:
    """What a training comes to."""

    model: GPT2LMHeadModel
    progress: Progress
    status: int
    """0 when it is taught, 128 and the signal when it was stopped."""
    plan: Plan
    """As it was carried out."""


@dataclass(frozen=True)
class Work:
    """All that the steps are made of; the same whenever they are tried."""

    asked: TrainSettings
    """As the person gave them: what records and commands say."""
    settings: TrainSettings
    """With what was chosen for them."""
    started_s: float
    recipe: Recipe
    codec: StoryCodec
    rows: StoryRows
    held_out: HeldOut | None
    numbers: Precision
    device: torch.device

    def with_lora(self, rank: int) -> Work:
        """The same with LoRA, whose learning rate is its own."""
        settings = replace(self.settings, lora_rank=rank)
        return replace(self, settings=settings, recipe=recipe_of(settings))


NewModel = Callable[[int], "GPT2LMHeadModel"]


def teach(settings: TrainSettings, plan: Plan, lessons: Lessons, new_model: NewModel) -> Taught:
    """All steps that are left. Raises OutOfMemory when not even one row fits, OutputError and OSError when nothing is saved.

    `new_model` makes the model as it is before its first step, with LoRA of a rank.
    """
    may_choose_lora = (
        settings.lora_rank is None
        and not settings.new_weights
        and settings.chosen_optimizer == "adamw"
        and settings.recipe == "ours"  # the report's stays what it is, or it would be no measure
    )
    rank = plan.layout.lora_rank if plan.layout else settings.lora_rank or 0
    asked, settings = settings, replace(settings, lora_rank=rank)  # its learning rate is another
    if plan.checkpoint is not None and (curve := _curve_if_taught(settings, plan.checkpoint)) is not None:
        model = new_model(rank)
        load_weights(model, plan.checkpoint)
        return Taught(merged(_best(settings.out, model, curve)), Progress(curve, plan.seconds_before), 0, plan)
    work = _work(asked, settings, lessons, plan)
    plan = replace(plan, number_format=work.numbers.name)
    if plan.layout is None:
        work, layout = _choose_layout(work, new_model, may_choose_lora)
        plan = replace(plan, layout=layout)
    while True:
        if is_first():  # before the first step: whoever goes on has to deal the rows out as this one did
            write_record(asked, plan, Progress([], plan.seconds_before), finished=False)
        try:
            return _steps(work, plan, new_model(work.settings.lora_rank or 0))
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
        plan = _with_less_memory(work, plan)


def _work(asked: TrainSettings, settings: TrainSettings, lessons: Lessons, plan: Plan) -> Work:
    recipe = recipe_of(settings)
    with bar("Tokenising", len(lessons.train), "passages") as report:
        stories = StoryTokens(lessons.train, lessons.codec, report)
    rows = (
        PaddedLines(stories, recipe.line_tokens, settings.seed, recipe.end_taught)
        if recipe.line_tokens
        else StoryRows(stories, lessons.block, settings.seed, None if settings.max_steps > 0 else recipe.epochs)
    )
    some = spread(lessons.held_out, ASKED_WHILE_TRAINING)
    held_out = HeldOut(some, lessons.codec, lessons.block) if some else None
    begun_in = plan.number_format
    if plan.checkpoint is not None and begun_in is None and not torch.cuda.is_available():
        begun_in = "fp32"  # a CPU had no other before it was written down
    numbers = precision(settings.precision, settings.recipe, begun_in)
    say(f"Number format: {numbers.reason}")
    if begun_in not in (None, numbers.name):
        say(f"It was begun in {begun_in}: what it learns from here on is near to what it would have learnt, and not the same.")
    device = arguments(settings, numbers, Layout(1), evaluated=False).device
    return Work(asked, settings, time.monotonic(), recipe, lessons.codec, rows, held_out, numbers, device)


def _steps(work: Work, plan: Plan, model: GPT2LMHeadModel) -> Taught:
    """One try at the steps that are left."""
    settings, recipe = work.settings, work.recipe
    model.to(work.device)  # pyright: ignore[reportArgumentType]
    args = arguments(settings, work.numbers, cast("Layout", plan.layout), evaluated=work.held_out is not None)
    stop = StopCleanly()
    kernels = PLAIN if recipe.line_tokens else _kernels(work, plan, model, args)
    packed = nullcontext() if recipe.line_tokens else taught_packed(model, work.numbers.dtype, kernels)
    with packed, stop.listening():
        trainer = StoryTrainer(
            model=model,
            args=args,
            optimizers=(optimizer(settings, model, args), None),
            train_dataset=work.rows,
            data_collator=collate,
            held_out=work.held_out,
            meter=(meter := _meter(work, model)),
            callbacks=[Watch(meter), stop, TellStories(work.codec, settings.out)],
        )
        if settings.patience:
            trainer.add_callback(StopWhenWorse(settings.patience))

        def record() -> Progress:
            curve = cast("list[dict[str, Any]]", trainer.state.log_history)
            progress = Progress(curve, plan.seconds_before + time.monotonic() - work.started_s)
            if is_first():
                write_record(work.asked, plan, progress, finished=False)
            return progress

        trainer.add_callback(AfterSave(record))
        trainer.train(resume_from_checkpoint=str(plan.checkpoint) if plan.checkpoint else None)
    if stop.asked is not None and trainer.state.global_step < trainer.state.max_steps:
        say(f"\nStopped at step {trainer.state.global_step}, saved. To go on: {command_line(work.asked)}")
        return Taught(model, record(), 128 + int(stop.asked), plan)
    progress = record()
    return Taught(merged(_best(settings.out, model, progress.curve)), progress, 0, plan)


def _kernels(work: Work, plan: Plan, model: GPT2LMHeadModel, args: TrainingArguments) -> Kernels:
    """What the steps run on CUDA, tried with the first rows; how often `args` have them logged follows from that."""
    layout, settings = cast("Layout", plan.layout), work.settings
    if layout.checkpointing:  # which Trainer sets only when it begins: a trial before would fill the memory
        return PLAIN
    if settings.max_steps > 0:
        rows = settings.max_steps * work.recipe.batch_size * settings.accumulate
    else:
        rows = len(work.rows) * work.recipe.epochs // process_count()
    batch = collate([work.rows[n] for n in range(layout.micro_batch)])
    choice = choose_kernels(model, work.numbers.dtype, batch, rows // layout.micro_batch, settings.compile)
    if choice.sentence:
        say(choice.sentence)
    if choice.pass_s is not None:
        log_seldom(args, choice.pass_s, rows // (work.recipe.batch_size * settings.accumulate))
    return choice.kernels


def _meter(work: Work, model: GPT2LMHeadModel) -> Meter:
    """Measures the machine's matrix products for a moment, for the limit."""
    lengths = work.rows.lengths()
    rows = work.recipe.batch_size * work.settings.accumulate * process_count()
    limit = matrix_rate(work.device, work.numbers.dtype) / flops_per_token(model, lengths) * process_count()
    return Meter(sum(lengths) / len(work.rows) * rows, limit, work.device)


def _best(out: Path, model: GPT2LMHeadModel, curve: list[dict[str, Any]]) -> GPT2LMHeadModel:
    """The weights of the lowest held-out loss, where those are not the last ones."""
    best = out / "checkpoints" / BEST
    if not evaluations_since_best(curve):
        return model
    if problem := checkpoints.fault(best):
        say(f"The last weights are the model's, though not the best ones: {problem}.")
        return model
    entries = [entry for entry in curve if "eval_loss" in entry]
    lowest = min(entries, key=lambda entry: entry["eval_loss"])
    say(
        f"The held-out loss was lowest at step {lowest['step']} ({lowest['eval_loss']:.3f}; {entries[-1]['eval_loss']:.3f} at "
        "the end): those weights are the model's."
    )
    load_weights(model, best)
    return model


def _choose_layout(work: Work, new_model: NewModel, may_choose_lora: bool) -> tuple[Work, Layout]:
    """How the rows are dealt out, and the work as it then is: with LoRA where all weights don't fit and nobody forbade it."""
    rank = work.settings.lora_rank or 0
    model = new_model(rank)
    model.to(work.device)  # pyright: ignore[reportArgumentType]
    _say_rows(work, model)
    choice = as_the_first_says(
        choose(
            model,
            work.settings.chosen_optimizer,
            work.recipe.batch_size,
            work.rows.block,
            work.numbers.dtype,
            process_count(),
            rank,
        )
    )
    say(choice.sentence)
    if choice.fits or not may_choose_lora:
        return work, choice.layout
    del model
    say(f"All weights do not fit: LoRA of rank {DEFAULT_RANK} instead. --lora-rank 0 tries them all the same.")
    return _choose_layout(work.with_lora(DEFAULT_RANK), new_model, False)


def _with_less_memory(work: Work, plan: Plan) -> Plan:
    """The plan for the next try. Raises OutOfMemory when there is no smaller one, or other processes would not know of it."""
    newest = checkpoints.newest_whole(work.settings.out / "checkpoints").path
    layout = plan.layout.smaller(work.recipe.batch_size) if plan.layout else None
    if layout is None or process_count() > 1:
        raise OutOfMemory(
            "The memory is full. Halve --batch-size and double --accumulate, which teaches the same, or take a shorter "
            f"--block-size, a smaller --base or --lora-rank 16. What is in {work.settings.out} is kept."
        )
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    again = " and activations computed again" if layout.checkpointing else ""
    say(
        f"\nThe memory is full. On from {newest or 'the start'} with {layout.micro_batch} rows at once{again}, whose gradients "
        "add up to the same steps."
    )
    return replace(plan, checkpoint=newest, layout=layout)


def _curve_if_taught(settings: TrainSettings, checkpoint: Path) -> list[dict[str, Any]] | None:
    """The log of a training that was cut off after its last step, before its model was written; None for any other.

    Trainer would take one step more than it was told to.
    """
    state = json.loads((checkpoint / "trainer_state.json").read_text(encoding="utf-8"))
    curve = state["log_history"]
    enough = settings.patience is not None and evaluations_since_best(curve) >= settings.patience
    return curve if enough or state["global_step"] >= state["max_steps"] else None


def _say_rows(work: Work, model: GPT2LMHeadModel) -> None:
    rows = work.rows
    tokens = work.recipe.batch_size * work.settings.accumulate * process_count() * rows.block
    say(
        f"{model.num_parameters():,} parameters, {len(rows):,} rows an epoch, {rows.used:.1%} of them in use, "
        f"{tokens:,} tokens a step"
    )
