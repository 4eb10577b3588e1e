"""How transformers' Trainer is told what the settings say, and in which number format this machine is taught."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import torch

from trainer.processes import process_count
from trainer.recipe import recipe_of

if TYPE_CHECKING:
    from transformers import GPT2LMHeadModel, TrainingArguments

    from trainer.layout import Layout
    from trainer.settings import TrainSettings


_UNLOGGED_STEPS = 50
"""At most: a loss that is no number any more is found when it is logged."""


@dataclass(frozen=True)
class Precision:
    """A number format, how Trainer calls it, and why it is the one."""

    dtype: torch.dtype
    flags: dict[str, Any]
    reason: str


def precision(asked: Literal["auto", "fp32"]) -> Precision:
    """What this machine computes in: bf16 or fp16 beside fp32 weights where it has instructions for that, else fp32 alone."""
    if asked == "fp32":
        return Precision(torch.float32, {}, "fp32, as asked")
    if not torch.cuda.is_available():
        if cpu_has_bf16():
            return Precision(torch.bfloat16, {"bf16": True}, "bf16: this CPU has instructions for it")
        return Precision(torch.float32, {}, "fp32: no CUDA device, and a CPU without instructions for bf16")
    name = torch.cuda.get_device_name()
    if torch.cuda.is_bf16_supported(including_emulation=False):
        return Precision(torch.bfloat16, {"bf16": True, "tf32": True}, f"bf16: {name} computes in it")
    return Precision(torch.float16, {"fp16": True}, f"fp16 with loss scaling: {name} has no bf16")


def cpu_has_bf16() -> bool:
    """Whether oneDNN, which torch multiplies by, finds instructions for bf16: AVX512-BF16 (Zen 4, Cooper Lake) or AMX.

    On two cores of a Zen 4 its products then have 2.2 times the rate of fp32. Without them it goes through fp32 value by
    value: a Zen 3 had a ninth of the rate.
    """
    from llvmlite import binding

    features = binding.get_host_cpu_features()
    return torch.backends.mkldnn.is_available() and any(features.get(name, False) for name in ("avx512bf16", "amx-bf16"))


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
