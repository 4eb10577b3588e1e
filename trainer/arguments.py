"""How transformers' Trainer is told what the settings say."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from trainer.processes import process_count
from trainer.recipe import recipe_of

if TYPE_CHECKING:
    from transformers import GPT2LMHeadModel, TrainingArguments

    from trainer.layout import Layout
    from trainer.precision import Precision
    from trainer.settings import TrainSettings


_UNLOGGED_STEPS = 50
"""At most: a loss that is no number any more is found when it is logged."""


def arguments(settings: TrainSettings, precision: Precision, layout: Layout, evaluated: bool) -> TrainingArguments:
    """Trainer's arguments; `evaluated` where there are held-out stories to score."""
    from transformers import TrainingArguments

    recipe = recipe_of(settings)
    args = TrainingArguments(
        output_dir=str(settings.out / "checkpoints"),
        num_train_epochs=recipe.epochs,
        max_steps=settings.max_steps,
        per_device_train_batch_size=layout.micro_batch,
        gradient_accumulation_steps=settings.accumulate * recipe.batch_size // layout.micro_batch,
        activation_checkpointing=layout.checkpointing,
        activation_checkpointing_kwargs={"use_reentrant": False},
        learning_rate=recipe.learning_rate,
        max_grad_norm=1.0,
        logging_steps=10,
        logging_nan_inf_filter=False,  # it would sync the device in every step
        eval_strategy="steps" if evaluated else "no",
        eval_steps=settings.eval_steps,
        metric_for_best_model="eval_loss" if evaluated else None,
        greater_is_better=False,
        save_strategy="steps",
        save_steps=settings.save_steps,
        seed=settings.seed,
        report_to=list(settings.report_to) or "none",
        remove_unused_columns=False,  # the packed forward takes what the model's own does not name
        use_cpu=not torch.cuda.is_available(),
        ddp_find_unused_parameters=False,
        dataloader_pin_memory=torch.cuda.is_available(),
        accelerator_config={"non_blocking": torch.cuda.is_available()},  # or each batch would wait for the step before it
        **recipe.schedule,
        **precision.flags,
    )
    args.mixed_precision = precision.name if precision.flags else "no"  # not what `accelerate launch` left in the environment
    # One process teaches on one GPU: for several Trainer would copy the model in threads, which packed rows do not survive.
    args._n_gpu = min(args.n_gpu, 1)  # pyright: ignore[reportPrivateUsage]
    return args


def log_seldom(args: TrainingArguments, pass_s: float, steps: int) -> None:
    """About once a second on CUDA, and a hundred times in all so many `steps`; not more often than by default.

    To read the loss is to wait for the device, which then waits for the next pass to be started: an H100 for more than 3 ms,
    where GPT-2 124M's steps took 24. Processes that teach together have to log at the same steps, and keep the default.
    """
    if process_count() == 1:
        step_s = pass_s * args.gradient_accumulation_steps
        args.logging_steps = max(int(args.logging_steps), min(_UNLOGGED_STEPS, round(1 / step_s), steps // 100))


def optimizer(settings: TrainSettings, model: GPT2LMHeadModel, args: TrainingArguments) -> torch.optim.Optimizer | None:
    """What Trainer shall take rather than its own AdamW; None for that. The model is on its device already."""
    if settings.chosen_optimizer == "adamw":
        return None
    from trainer.muon import MuonAdamW

    return MuonAdamW(model, args.learning_rate, args.weight_decay, dtype=torch.bfloat16 if args.bf16 else torch.float32)
