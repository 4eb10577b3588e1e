"""Load a plain Hugging Face directory of GPT-2, ready to run: safetensors only, no remote code, no network.

    cpu     our own forward pass (cpu_forward.py), in int8 where the model's loss allows it, else in fp32
    cuda    our own (cuda_forward.py), in bf16 where the GPU has it
    else    transformers' forward pass (any_forward.py), as for the variants of GPT-2 that ours do not cover

Importing this module imports torch (2 s), so only the decode thread does; transformers (4 s more) is imported only where
its forward pass is needed.
"""

from __future__ import annotations

import gc
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import torch
from tokenizers import Tokenizer
from torch import Tensor

from bot.engine.characters import Vocabulary
from bot.engine.cpu_forward import CpuForward
from bot.engine.cpu_linear import Fp32Linear, Int8Linear, int8_is_there
from bot.engine.faults import Fault, kind_of
from bot.engine.gpt2_weights import Gpt2Weights, covered_shape, read_weights
from bot.engine.int8_check import fingerprint, known_record, measure
from bot.engine.model_files import ModelConfig, read_config, read_fields, read_tokenizer
from bot.engine.thread_choice import choose_threads
from bot.errors import ModelUnavailable

if TYPE_CHECKING:
    from bot.engine.forward import Forward

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class LoadedModel:
    """All that texts share: none of it changes while they are written."""

    config: ModelConfig
    vocabulary: Vocabulary
    unwritable: Tensor
    """A mask over the vocabulary, on the CPU: the tokens that must never be written."""
    forward: Forward
    device: str
    """torch's name of it."""
    how: str
    """For people: the device, the numbers, the threads."""


@dataclass(frozen=True)
class Placement:
    """Where a model runs and in which numbers, with the reason for the log."""

    device: torch.device
    dtype: torch.dtype
    reason: str

    @property
    def numbers(self) -> str:
        """Where and in which numbers."""
        return f"{self.device} in {'bf16' if self.dtype is torch.bfloat16 else 'fp32'}"


class _Made(NamedTuple):
    """A forward pass."""

    forward: Forward
    numbers: str
    """Where and in which numbers it runs."""
    reason: str


def load_model(model_dir: Path, threads: int | None, device: str, slots: int, state_dir: Path | None = None) -> LoadedModel:
    """Everything in `model_dir`, ready to write. Call it on the thread that will decode. Raises ModelUnavailable.

    `threads` are torch's inside a forward; None measures which number is fastest. What was measured is
    kept in `state_dir`. `slots` texts are held at once.
    """
    if threads is not None:
        torch.set_num_threads(threads)
    config = read_config(model_dir)
    tokenizer = read_tokenizer(model_dir, config)
    vocabulary = Vocabulary(tokenizer, config.vocab_size, config.eos_ids)
    unwritable = torch.zeros(config.vocab_size, dtype=torch.bool)
    unwritable[torch.tensor(sorted(vocabulary.unwritable), dtype=torch.long)] = True
    placement = choose_placement(device)
    if placement.device.type == "cuda":  # this thread's, for all that does not name one: streams, events, kernels
        torch.cuda.set_device(placement.device.index or 0)
    forward, how, *reasons = _make_forward(model_dir, tokenizer, placement, slots, state_dir)
    if placement.device.type == "cpu":
        if threads is None and isinstance(forward, CpuForward):
            what = f"{forward.steps_by}, {fingerprint(model_dir)[:32]}"
            reasons.append(choose_threads(forward, what, state_dir / "threads.json" if state_dir else None))
        number = torch.get_num_threads()
        how = f"{how}, {number} thread{'s' if number > 1 else ''}"
    logger.info("%s is loaded on %s (%s)", model_dir.name, how, "; ".join(reasons))
    return LoadedModel(config, vocabulary, unwritable, forward, str(placement.device), how)


def choose_placement(device: str) -> Placement:
    """The device for "auto" or a torch name, and its number format. Raises ModelUnavailable."""
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        chosen = torch.device(device)
    except RuntimeError as error:
        raise ModelUnavailable(f'There is no device {device!r}. Set it to "auto", "cpu" or "cuda".') from error
    if chosen.type != "cuda":
        return Placement(chosen, torch.float32, "fp32 is what this device is sure to have")
    if (chosen.index or 0) >= torch.cuda.device_count():
        raise ModelUnavailable(f'The device {device!r} is not there: torch sees no such GPU. Set the device to "auto".')
    if torch.cuda.is_bf16_supported(including_emulation=False):
        return Placement(chosen, torch.bfloat16, "this GPU has bf16")
    return Placement(chosen, torch.float32, "this GPU has no bf16")


def _make_forward(model_dir: Path, tokenizer: Tokenizer, placement: Placement, slots: int, state_dir: Path | None) -> _Made:
    """The forward pass for a device. Raises ModelUnavailable."""
    shape = covered_shape(read_fields(model_dir))
    if isinstance(shape, str):
        logger.warning("%s runs on transformers' slower forward pass: %s", model_dir.name, shape)
        return _any_forward(model_dir, placement, slots)
    if placement.device.type == "cpu":
        return _cpu_forward(model_dir, tokenizer, read_weights(model_dir, shape), slots, state_dir)
    if placement.device.type == "cuda":
        return _cuda_forward(read_weights(model_dir, shape), placement, slots)
    return _any_forward(model_dir, placement, slots)


def _cuda_forward(weights: Gpt2Weights, placement: Placement, slots: int) -> _Made:
    """With as many slots as there is memory for. Raises ModelUnavailable."""
    from bot.engine.cuda_forward import CudaForward

    while True:
        try:
            forward = CudaForward(weights, placement.device, placement.dtype, slots)
            return _Made(forward, placement.numbers, f"{placement.reason}, steps by {forward.steps_by}")
        except Exception as error:
            if kind_of(error) is not Fault.MEMORY:
                raise
            refused = str(error)
        if slots == 1:  # out of the block above, whose traceback holds the tensors that were too many
            raise ModelUnavailable(
                f"{placement.device} has not enough free memory for this model, even for one story at a time. End what else "
                f'uses it, or set the device to "cpu". ({refused})'
            )
        gc.collect()  # the try that failed, whose parts hold each other
        if placement.device.type == "cuda":
            torch.cuda.empty_cache()
        slots //= 2
        logger.warning("not enough memory on %s: trying %d stories at once (%s)", placement.device, slots, refused)


def _any_forward(model_dir: Path, placement: Placement, slots: int) -> _Made:
    from bot.engine.any_forward import AnyForward, load_any_gpt2

    forward = AnyForward(load_any_gpt2(model_dir, placement.device, placement.dtype), slots)
    return _Made(forward, placement.numbers, f"transformers' forward pass, {placement.reason}")


def _cpu_forward(model_dir: Path, tokenizer: Tokenizer, weights: Gpt2Weights, slots: int, state_dir: Path | None) -> _Made:
    """In int8 if that is known or found to cost no quality; it is checked once for each model."""
    if not int8_is_there():
        return _Made(CpuForward(weights, Fp32Linear, slots), "cpu in fp32", "this processor or torch has no int8 kernel")
    record = known_record(model_dir, state_dir)
    if record is None:
        logger.info("checking what int8 costs %s, once for each model", model_dir.name)
        precise, compact = (CpuForward(weights, linear, slots) for linear in (Fp32Linear, Int8Linear))
        record = measure(model_dir, tokenizer, precise, compact, state_dir)
    if record.allows:
        return _Made(CpuForward(weights, Int8Linear, slots), "cpu in int8", str(record))
    logger.warning("%s runs in fp32, much slower: int8 would cost too much (%s)", model_dir.name, record)
    return _Made(CpuForward(weights, Fp32Linear, slots), "cpu in fp32", str(record))
