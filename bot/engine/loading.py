"""Load a plain Hugging Face directory of GPT-2, ready to run: safetensors only, no remote code, no network.

    cpu     our own forward pass (cpu_forward.py), in int8 where the model's loss allows it, else in fp32
    else    transformers' forward pass (any_forward.py), as for the variants of GPT-2 that ours does not cover

Importing this module imports torch (2 s), so only the decode thread does; transformers (4 s more) is imported only where
its forward pass is needed.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from tokenizers import Tokenizer
from torch import Tensor

from bot.engine.characters import Vocabulary
from bot.engine.cpu_forward import CpuForward
from bot.engine.cpu_linear import Fp32Linear, Int8Linear, int8_is_there
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


def load_model(
    model_dir: Path, threads: int | None, device: str, slots: int, threads_record: Path | None = None
) -> LoadedModel:
    """Everything in `model_dir`, ready to write. Call it on the thread that will decode. Raises ModelUnavailable.

    `threads` are torch's inside a forward; None measures which number is fastest, once where
    `threads_record` can keep it. `slots` texts are held at once.
    """
    if threads is not None:
        torch.set_num_threads(threads)
    config = read_config(model_dir)
    tokenizer = read_tokenizer(model_dir, config)
    vocabulary = Vocabulary(tokenizer, config.vocab_size, config.eos_ids)
    unwritable = torch.zeros(config.vocab_size, dtype=torch.bool)
    unwritable[torch.tensor(sorted(vocabulary.unwritable), dtype=torch.long)] = True
    placement = choose_placement(device)
    forward, how = _make_forward(model_dir, tokenizer, placement, slots)
    if threads is None and placement.device.type == "cpu" and isinstance(forward, CpuForward):
        how = f"{how}, {choose_threads(forward, fingerprint(model_dir), threads_record)}"
    logger.info("%s is loaded on %s", model_dir.name, how)
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
        return Placement(chosen, torch.float32, f"{chosen} in fp32")
    if (chosen.index or 0) >= torch.cuda.device_count():
        raise ModelUnavailable(f'The device {device!r} is not there: torch sees no such GPU. Set the device to "auto".')
    if torch.cuda.is_bf16_supported(including_emulation=False):
        return Placement(chosen, torch.bfloat16, f"{chosen} in bf16, which this GPU supports")
    return Placement(chosen, torch.float32, f"{chosen} in fp32, as this GPU has no bf16")


def _make_forward(model_dir: Path, tokenizer: Tokenizer, placement: Placement, slots: int) -> tuple[Forward, str]:
    """The forward pass for a device, and where and how it runs, for the log. Raises ModelUnavailable."""
    shape = covered_shape(read_fields(model_dir))
    if isinstance(shape, str):
        logger.warning("%s runs on transformers' slower forward pass: %s", model_dir.name, shape)
        return _any_forward(model_dir, placement, slots)
    if placement.device.type == "cpu":
        return _cpu_forward(model_dir, tokenizer, read_weights(model_dir, shape), slots)
    if placement.device.type == "cuda":  # a forward pass of its own, made from read_weights(model_dir, shape), goes here
        return _any_forward(model_dir, placement, slots)
    return _any_forward(model_dir, placement, slots)


def _any_forward(model_dir: Path, placement: Placement, slots: int) -> tuple[Forward, str]:
    from bot.engine.any_forward import AnyForward, load_any_gpt2

    return AnyForward(load_any_gpt2(model_dir, placement.device, placement.dtype), slots), placement.reason


def _cpu_forward(model_dir: Path, tokenizer: Tokenizer, weights: Gpt2Weights, slots: int) -> tuple[Forward, str]:
    """In int8 if that is known or found to cost no quality; it is checked once for each model."""
    if not int8_is_there():
        return CpuForward(weights, Fp32Linear, slots), "cpu in fp32, as this processor or torch has no int8 kernel"
    record = known_record(model_dir)
    if record is None:
        logger.info("checking what int8 costs %s, once for each model", model_dir.name)
        precise, compact = (CpuForward(weights, linear, slots) for linear in (Fp32Linear, Int8Linear))
        record = measure(model_dir, tokenizer, precise, compact)
    if record.allows:
        return CpuForward(weights, Int8Linear, slots), f"cpu in int8 ({record})"
    logger.warning("%s runs in fp32, much slower: int8 would cost too much (%s)", model_dir.name, record)
    return CpuForward(weights, Fp32Linear, slots), f"cpu in fp32 ({record})"
