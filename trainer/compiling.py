"""What the passes of a training on CUDA run: tried for a few steps, and not assumed.

    kernel by kernel    as PyTorch has them: always works
    as a CUDA graph     the same, started as a whole (cuda_pass.py): takes a second to make, and more memory
    compiled            fewer kernels (cuda_blocks.py): took 3 to 11 s on an H200, and needs Triton and a C compiler

Each is tried where the training would take long enough for it to pay, and the fastest is kept.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, cast

import torch

from trainer import cuda_blocks
from trainer.cuda_blocks import PLAIN, Kernels
from trainer.lora import inner
from trainer.memory import Memory, is_out_of_memory
from trainer.packed_model import taught_packed
from trainer.processes import is_launched

if TYPE_CHECKING:
    from transformers import GPT2LMHeadModel

GRAPH_WORTH_S, COMPILING_WORTH_S = 10.0, 60.0
"""Passes that take less than this in all are not worth it."""
_TRIED = 5


@dataclass(frozen=True)
class Choice:
    """What the passes run, and the sentence that says why; empty where there was nothing to choose."""

    kernels: Kernels
    sentence: str
    pass_s: float | None = None
    """What a pass took; None where none was tried."""


@dataclass(frozen=True)
class _Way:
    """One that was tried."""

    name: str
    kernels: Kernels
    made_s: float
    """What its first pass took."""
    pass_s: float


def choose_kernels(
    model: GPT2LMHeadModel,
    dtype: torch.dtype,
    batch: dict[str, Any],
    passes: int,
    asked: Literal["auto", "on", "off"],
) -> Choice:
    """For so many `passes` through the model, of batches like this one (trainer/rows.py). Weights and random state stay.

    `asked` is whether to compile: "off" tries nothing, "on" tries all however short the training is.
    """
    if asked == "off" or not cuda_blocks.fits(inner(model)):
        return Choice(PLAIN, "Not compiled: that is for a GPT-2 on CUDA without LoRA." if asked == "on" else "")
    batch = {name: part.to(model.device) if isinstance(part, torch.Tensor) else part for name, part in batch.items()}
    torch.cuda.reset_peak_memory_stats(model.device)
    before = torch.cuda.memory_allocated(model.device)
    best = _tried("kernel by kernel", model, dtype, batch, PLAIN)
    pass_bytes = torch.cuda.max_memory_allocated(model.device) - before
    tried, notes = [best], list[str]()

    def attempt(name: str, kernels: Kernels) -> None:
        nonlocal best
        try:
            tried.append(way := _tried(name, model, dtype, batch, kernels))
        except Exception as error:  # noqa: BLE001 - compilers and captures fail in many ways, and plain kernels do the same
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:120]
            missing = " A C compiler may be missing." if "compiled" in name and not is_out_of_memory(error) else ""
            notes.append(f"It failed {name} ({reason}).{missing}")
        else:
            best = min(best, way, key=lambda one: one.pass_s)
        gc.collect()
        torch.cuda.empty_cache()

    if asked == "on" or best.pass_s * passes > GRAPH_WORTH_S:
        if problem := _no_graphs(model, pass_bytes):
            notes.append(f"Not as a CUDA graph: {problem}.")
        else:
            attempt("as a CUDA graph", Kernels(graphed=True))
    if asked == "on" or best.pass_s * passes > COMPILING_WORTH_S:
        graphed = best.kernels.graphed
        name = "compiled and as a CUDA graph" if graphed else "compiled"
        attempt(name, replace(cuda_blocks.compiled(), graphed=graphed))
    else:
        notes.append(f"Not compiled: {passes:,} passes of {_ms(best.pass_s)} are over soon.")
    others = ", ".join(f"{_ms(way.pass_s)} {way.name}" for way in tried if way is not best)
    made = f" (made in {best.made_s:.0f} s)" if best.kernels != PLAIN else ""
    told = f"A pass takes {_ms(best.pass_s)} {best.name}{made}" + (f", and {others}." if others else ".")
    return Choice(best.kernels, " ".join([told, *notes]), best.pass_s)


def _no_graphs(model: GPT2LMHeadModel, pass_bytes: int) -> str:
    """Why passes that take so much memory can't be graphs; nothing where they can."""
    if is_launched():
        return "that is for one process without a launcher"
    weights = sum(parameter.numel() * 4 for parameter in model.parameters())
    # the optimizer's two moments, and a pass twice: one of another size is computed beside the graph's memory
    needed = 2 * weights + 2 * pass_bytes
    free = Memory.now(model.device).free
    return "" if needed < free else f"{needed / 1e9:.1f} GB of memory would be needed, and {free / 1e9:.1f} are free"


def _ms(seconds: float) -> str:
    return f"{1000 * seconds:.1f} ms"


def _tried(name: str, model: GPT2LMHeadModel, dtype: torch.dtype, batch: dict[str, Any], kernels: Kernels) -> _Way:
    """Some passes forward and backward. All gradients are dropped."""
    was_training = model.training
    model.train()

    def one_pass() -> None:
        with torch.autocast("cuda", dtype, enabled=dtype != torch.float32):
            loss = cast("torch.Tensor", model(**batch).loss)
        cast("Callable[[], None]", loss.backward)()
        model.zero_grad(set_to_none=True)

    try:
        with torch.random.fork_rng([model.device]), taught_packed(model, dtype, kernels) as graphs:
            if kernels.graphed and graphs is None:
                raise RuntimeError("packed attention does not work on this GPU")
            made_s = _timed(one_pass, 1)
            _timed(one_pass, 2)
            if graphs is not None and graphs.failure is not None:
                raise graphs.failure
            return _Way(name, kernels, made_s, _timed(one_pass, _TRIED) / _TRIED)
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
