"""Load a plain Hugging Face directory of GPT-2 into a decoder: safetensors only, no remote code, no network.

Weights that do not match config.json name by name are an error, where transformers would fill in random ones and warn.
Importing this module costs six seconds (torch and GPT-2's modelling code), so only the decode thread does.
"""

from __future__ import annotations

import logging
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError
from torch import Tensor
from transformers import GPT2LMHeadModel
from transformers.utils import logging as transformers_logging

from bot.engine.characters import Vocabulary
from bot.engine.decoder import Decoder, Gpt2Decoder
from bot.engine.model_files import COPY_AGAIN, ModelConfig, read_config, read_tokenizer, weights_file
from bot.errors import ModelUnavailable

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class LoadedModel:
    """All that texts share: none of it changes while they are written."""

    config: ModelConfig
    vocabulary: Vocabulary
    unwritable: Tensor
    """A mask over the vocabulary, on the CPU: the tokens that must never be written."""
    decoder: Decoder


@dataclass(frozen=True)
class Placement:
    """Where a model runs and in which numbers, with the reason for the log."""

    device: torch.device
    dtype: torch.dtype
    reason: str


def load_model(model_dir: Path, threads: int | None, device: str) -> LoadedModel:
    """Everything in `model_dir`, ready to write. Call it on the thread that will decode. Raises ModelUnavailable."""
    if threads is not None:
        torch.set_num_threads(threads)
    config = read_config(model_dir)
    vocabulary = Vocabulary(read_tokenizer(model_dir, config), config.vocab_size, config.eos_ids)
    unwritable = torch.zeros(config.vocab_size, dtype=torch.bool)
    unwritable[torch.tensor(sorted(vocabulary.unwritable), dtype=torch.long)] = True
    placement = choose_placement(device)
    weights = _load_weights(model_dir, placement)
    logger.info("%s is loaded on %s", model_dir.name, placement.reason)
    return LoadedModel(config, vocabulary, unwritable, Gpt2Decoder(weights))


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


def _load_weights(model_dir: Path, placement: Placement) -> GPT2LMHeadModel:
    file = weights_file(model_dir)
    try:
        with _no_progress_bars():
            loaded: Any = GPT2LMHeadModel.from_pretrained(
                model_dir,
                dtype=placement.dtype,
                use_safetensors=True,
                local_files_only=True,
                trust_remote_code=False,
                ignore_mismatched_sizes=True,  # they are then in the report, and refused below by name
                output_loading_info=True,
            )
    except (SafetensorError, OSError) as error:
        raise ModelUnavailable(f"{file.name} in {model_dir} is torn or can't be read. {COPY_AGAIN}") from error
    except (StrictDataclassError, ValueError, KeyError, TypeError) as error:
        raise ModelUnavailable(f"config.json in {model_dir} describes no GPT-2 ({error}). {COPY_AGAIN}") from error
    model, report = cast("tuple[GPT2LMHeadModel, dict[str, Any]]", loaded)
    mismatched = (name for name, *_shapes in report["mismatched_keys"])
    odd = sorted([*report["missing_keys"], *report["unexpected_keys"], *mismatched])
    if odd:
        raise ModelUnavailable(
            f"{file.name} in {model_dir} does not fit its config.json: {len(odd)} weights are missing, left over or of "
            f"another shape, {odd[0]} among them. {COPY_AGAIN}"
        )
    model.config.pad_token_id = None  # nothing is padded here; with one set, each forward would search its input for it
    return model.eval().to(placement.device)  # pyright: ignore[reportArgumentType] - its decorator hides its type


@contextmanager
def _no_progress_bars() -> Generator[None]:
    shown = transformers_logging.is_progress_bar_enabled()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            transformers_logging.enable_progress_bar()
