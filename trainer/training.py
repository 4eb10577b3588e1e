"""One training from sources to a model directory: read, cut, tokenise, pack, teach, calibrate, write.

models/NAME/                 the model, when it is taught
models/NAME/checkpoints/     where a training that was cut off goes on from
models/NAME/training.json    the settings it was started with, and the curve so far
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from trainer.base import Base, add_tags, load_base, load_model
from trainer.corpus import PROMPT_ROOM, Passage, choose_genres, make_passages, split
from trainer.errors import CorpusError, OutputError
from trainer.output import Progress, command_line, inspect_output, write_record
from trainer.reading import read_sources
from trainer.settings import TrainSettings, set_threads
from trainer.story_format import StoryCodec, StoryFormat, genre_name, scripts_of
from trainer.talking import bar, quieten_transformers, say, shows_bars

if TYPE_CHECKING:
    from transformers import GPT2LMHeadModel

    from trainer.evaluation import HeldOut
    from trainer.rows import StoryRows


@dataclass(frozen=True)
class Lessons:
    """All that is taught and all that is asked, ready for the model."""

    base: Base
    codec: StoryCodec
    train: list[Passage]
    held_out: list[Passage]
    block: int


def prepare(settings: TrainSettings) -> Lessons:
    """Read the sources and make them fit the base. Raises CorpusError and BaseUnavailable."""
    genres = [genre_name(label) or label for label in settings.genres]
    texts = list(read_sources(settings.data, say))
    sides = split(texts, settings.held_out)
    if not sides.train:
        raise CorpusError(f"No story to learn from in {', '.join(settings.data)}: it is empty, or all of it is held out.")
    scripts = scripts_of(text.text for text in sides.train)
    story_format = StoryFormat(choose_genres(sides.train, genres), scripts=scripts)
    base = load_base(settings.base, (text.text for text in sides.train), settings.block_size)
    block = min(settings.block_size or base.n_positions, base.n_positions)
    if settings.block_size and settings.block_size > base.n_positions:
        raise OutputError(f"--block-size {settings.block_size} is over the {base.n_positions} positions of {base.name}.")
    add_tags(base.tokenizer, story_format)
    codec = StoryCodec(base.tokenizer, story_format)
    room = min(settings.passage_tokens or block, block - PROMPT_ROOM)
    if room < 16:
        raise OutputError(f"--block-size {block} leaves {room} tokens for a story; it must leave 16 beside {PROMPT_ROOM}.")

    def count(parts: Sequence[str]) -> list[int]:
        return [len(ids) for ids in codec.encode_texts(parts)]

    with bar("Cutting into passages", len(sides.train), "texts") as report:
        train = make_passages(sides.train, story_format.genres, room, count, report)
    held_out = make_passages(sides.held_out, story_format.genres, room, count) if sides.held_out else []
    say(f"{len(train):,} stories to learn from, {len(held_out):,} held out; genres: {', '.join(story_format.genres)}")
    return Lessons(base, codec, train, held_out, block)


def train(settings: TrainSettings) -> int:
    """Teach a model; the exit status. 130 after Ctrl-C and 143 after SIGTERM, with everything saved.

    Raises TrainerError.
    """
    set_threads(settings.threads)
    plan = inspect_output(settings)
    if plan.finished:
        say(f"{settings.out} is taught already with these settings. To go on teaching it: --base {settings.out} --out another.")
        return 0
    lessons = prepare(settings)

    from transformers import set_seed

    from trainer.evaluation import HeldOut
    from trainer.rows import StoryRows, StoryTokens
    from trainer.story_trainer import AfterSave, StopCleanly, StoryTrainer

    quieten_transformers()
    set_seed(settings.seed)
    model = load_model(lessons.base, lessons.codec.end_id, settings.dropout)
    use_fast_gelu(model)
    with bar("Tokenising", len(lessons.train), "stories") as report:
        rows = StoryRows(StoryTokens(lessons.train, lessons.codec, report), lessons.block, settings.seed)
    held_out = HeldOut(_spread(lessons.held_out, 400), lessons.codec, lessons.block) if lessons.held_out else None
    stop = StopCleanly()
    trainer = StoryTrainer(
        model=model,
        args=_arguments(settings, held_out is not None),
        train_dataset=rows,
        held_out=held_out,
        callbacks=[stop],
    )
    _say_plan(settings, model, rows, trainer.args)
    started = time.monotonic()

    def record(finished: bool = False) -> Progress:
        progress = Progress(
            cast("list[dict[str, Any]]", trainer.state.log_history), plan.seconds_before + time.monotonic() - started
        )
        if trainer.is_world_process_zero():
            write_record(settings, progress, finished)
        return progress

    record()
    trainer.add_callback(AfterSave(record))
    with stop.listening():
        trainer.train(resume_from_checkpoint=str(plan.checkpoint) if plan.checkpoint else None)
    progress = record()
    if stop.asked is not None and trainer.state.global_step < trainer.state.max_steps:
        say(f"\nStopped at step {trainer.state.global_step}, saved. To go on: {command_line(settings)}")
        return 128 + int(stop.asked)
    if trainer.is_world_process_zero():
        finish(settings, lessons, model, held_out, progress)
    record(finished=True)
    return 0


def finish(
    settings: TrainSettings,
    lessons: Lessons,
    model: GPT2LMHeadModel,
    held_out: HeldOut | None,
    progress: Progress,
) -> None:
    """Calibrate the genre odds, write the model directory and its card."""
    from trainer.calibration import calibrate, known_prompts
    from trainer.evaluation import by_genre
    from trainer.model_card import CardFacts, write_card
    from trainer.model_directory import write_model

    calibrated = calibrate(model, lessons.codec, known_prompts(lessons.held_out, settings.seed))
    story_format = lessons.codec.format
    if calibrated is not None:
        story_format = dataclasses.replace(story_format, calibration=calibrated.calibration)
        say(f"Genre of {calibrated.prompts} held-out prompts: {calibrated.accuracy:.0%} right after calibration on them")
    write_model(settings.out, model, lessons.base.tokenizer, story_format)
    scores = by_genre(held_out.passages, held_out.score(model)) if held_out else {}
    write_card(
        settings.out / "README.md",
        CardFacts(
            command=command_line(settings),
            data=settings.data,
            base=settings.base,
            genres=story_format.genres,
            parameters=model.num_parameters(),
            stories=len(lessons.train),
            curve=progress.curve,
            seconds=progress.seconds,
            scores=scores,
            calibrated=calibrated,
        ),
    )
    say(f"The model is in {settings.out}. Try it: python -m bot console --model {settings.out}")


def use_fast_gelu(model: GPT2LMHeadModel) -> None:
    """GPT-2's gelu_new is six operations; this is the same function in one. The config keeps the name that others read."""
    from torch import nn

    if model.config.activation_function in ("gelu_new", "gelu_pytorch_tanh"):
        for block in model.transformer.h:
            cast("Any", block).mlp.act = nn.GELU(approximate="tanh")


def precision() -> tuple[dict[str, Any], str]:
    """The Trainer flags for this machine's number format, and why."""
    import torch

    if not torch.cuda.is_available():
        return {}, "fp32: no CUDA device, and bf16 is slower than fp32 on most CPUs"
    name = torch.cuda.get_device_name()
    if torch.cuda.is_bf16_supported(including_emulation=False):
        return {"bf16": True, "tf32": True}, f"bf16: {name} computes in it"
    return {"fp16": True}, f"fp16 with loss scaling: {name} has no bf16"


def _arguments(settings: TrainSettings, evaluated: bool) -> Any:
    from transformers import TrainingArguments

    rate = settings.learning_rate or (1e-3 if settings.base.startswith("new:") else 1e-4)
    flags, reason = precision()
    say(f"Number format: {reason}")
    return TrainingArguments(
        output_dir=str(settings.out / "checkpoints"),
        num_train_epochs=settings.epochs,
        max_steps=settings.max_steps,
        per_device_train_batch_size=settings.batch_size,
        gradient_accumulation_steps=settings.accumulate,
        learning_rate=rate,
        lr_scheduler_type="cosine_with_min_lr",
        lr_scheduler_kwargs={"min_lr_rate": 0.1},
        warmup_steps=0.03,
        weight_decay=0.1,
        adam_beta2=0.95,
        max_grad_norm=1.0,
        logging_steps=20,
        logging_nan_inf_filter=False,  # it would sync the device in every step
        eval_strategy="steps" if evaluated else "no",
        eval_steps=settings.eval_steps,
        save_strategy="steps",
        save_steps=settings.save_steps,
        seed=settings.seed,
        report_to="none",
        dataloader_pin_memory=bool(flags),  # there are flags on a GPU only
        disable_tqdm=not shows_bars(),
        **flags,
    )


def _say_plan(settings: TrainSettings, model: GPT2LMHeadModel, rows: StoryRows, args: Any) -> None:
    tokens = settings.batch_size * settings.accumulate * args.world_size * rows[0]["input_ids"].numel()
    say(
        f"{model.num_parameters():,} parameters, {len(rows):,} rows an epoch, {rows.used:.1%} of them in use, "
        f"{tokens:,} tokens a step"
    )


def _spread(passages: list[Passage], most: int) -> list[Passage]:
    """At most so many, evenly spread: the held-out loss while training need not be exact, only comparable."""
    step = max(1, len(passages) // most)
    return passages[::step][:most]
