"""Whether a training on CUDA compiles its kernels: tried for a few steps, and not assumed.

Compiling took 3 to 11 s on an H200, and needs Triton and a C compiler, which not every host has. It is tried where all steps of
the training would take longer than a minute, and kept where it was faster.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, cast

import torch

from trainer import cuda_blocks
from trainer.cuda_blocks import PLAIN, Kernels
from trainer.lora import inner
from trainer.memory import is_out_of_memory
from trainer.packed_model import taught_packed

if TYPE_CHECKING:
    from transformers import GPT2LMHeadModel

WORTH_IT_S = 60.0
"""Steps that take less than this in all are not worth compiling for."""
_TRIED = 5


@dataclass(frozen=True)
class Choice:
    """What the steps run, and the sentence that says why; empty where there was nothing to choose."""

    kernels: Kernels
    sentence: str


def choose_kernels(
    model: GPT2LMHeadModel,
    dtype: torch.dtype,
    batch: dict[str, Any],
    passes: int,
    asked: Literal["auto", "on", "off"],
) -> Choice:
    """For so many `passes` through the model, of batches like this one (trainer/rows.py). Weights and random state stay."""
    if asked == "off" or not cuda_blocks.fits(inner(model)):
        return Choice(PLAIN, "Not compiled: that is for a GPT-2 on CUDA without LoRA." if asked == "on" else "")
    batch = {name: part.to(model.device) if isinstance(part, torch.Tensor) else part for name, part in batch.items()}
    plain_s = _seconds(model, dtype, batch, PLAIN)[1]
    if asked == "auto" and plain_s * passes < WORTH_IT_S:
        return Choice(PLAIN, f"Not compiled: {passes:,} passes of {_ms(plain_s)} are over soon.")
    kernels = cuda_blocks.compiled()
    try:
        took_s, compiled_s = _seconds(model, dtype, batch, kernels)
    except Exception as error:  # noqa: BLE001 - compilers fail in many ways, and plain kernels do the same
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:120]
        missing = "" if is_out_of_memory(error) else " A C compiler may be missing."
        return Choice(PLAIN, f"Not compiled, which failed here ({reason}).{missing}")
    if compiled_s > plain_s:
        return Choice(PLAIN, f"Not compiled: {_ms(compiled_s)} for a pass, and {_ms(plain_s)} without.")
    return Choice(kernels, f"Compiled in {took_s:.0f} s: {_ms(compiled_s)} for a pass, and {_ms(plain_s)} without.")


def _ms(seconds: float) -> str:
    return f"{1000 * seconds:.1f} ms"


def _seconds(model: GPT2LMHeadModel, dtype: torch.dtype, batch: dict[str, Any], kernels: Kernels) -> tuple[float, float]:
    """What the first pass forward and backward takes, and another one in the mean. All gradients are dropped."""
    was_training = model.training
    model.train()

    def one_pass() -> None:
        with torch.autocast("cuda", dtype, enabled=dtype != torch.float32):
            loss = cast("torch.Tensor", model(**batch).loss)
        cast("Callable[[], None]", loss.backward)()

    try:
        with torch.random.fork_rng([model.device]), taught_packed(model, dtype, kernels):
            first_s = _timed(one_pass, 1)
            _timed(one_pass, 2)
            return first_s, _timed(one_pass, _TRIED) / _TRIED
    finally:
        model.zero_grad(set_to_none=True)
        model.train(was_training)


def _timed(work: Callable[[], None], times: int) -> float:
    torch.cuda.synchronize()
    start = time.perf_counter()
    for _ in range(times):
        work()
    torch.cuda.synchronize()
    return time.perf_counter() - start
