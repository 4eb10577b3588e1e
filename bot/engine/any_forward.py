"""The forward pass of transformers behind our protocol, for GPT-2 variants that our own do not cover.

The simplest correct thing: each text goes forward alone with its own growing cache, so its numbers can't depend on its
neighbours'. The price is one pass over the weights for each text and token, and 4 s to import transformers.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError
from torch import Tensor
from transformers import DynamicCache, GPT2LMHeadModel
from transformers.utils import logging as transformers_logging

from bot.engine.forward import PROMPT_TOKENS, Part
from bot.engine.model_files import COPY_AGAIN, misfit, weights_file
from bot.engine.part_checks import check_parts, check_prefixes
from bot.errors import ModelUnavailable

if TYPE_CHECKING:
    from bot.engine.drawn import Drawn

LOGITS_AT_ONCE = 2**24
"""Logits held at a time while scoring (64 MiB in float32)."""


class AnyForward:
    """A Forward over any GPT2LMHeadModel."""

    repeatable = True
    prompt_tokens = PROMPT_TOKENS

    def __init__(self, model: GPT2LMHeadModel, slots: int) -> None:
        """`model` is in evaluation mode, on its device."""
        self._model = model
        self.resize(slots)

    @property
    def slots(self) -> int:
        """How many texts can be held at once."""
        return len(self._caches)

    @property
    def n_positions(self) -> int:
        """The context in tokens."""
        return int(self._model.config.n_positions)

    @property
    def weight_bytes(self) -> int:
        """Of all weights: the embedding is read as the head."""
        return sum(weight.numel() * weight.element_size() for weight in self._model.parameters())

    def resize(self, slots: int) -> None:
        """Hold so many texts from now on."""
        self._caches = [DynamicCache() for _ in range(slots)]

    @torch.inference_mode()
    def __call__(self, parts: Sequence[Part]) -> Tensor:
        """One pass for each part; see Forward."""
        check_parts(parts, self.slots, self.n_positions, self._model.config.vocab_size)
        rows = [self._read(part) for part in parts]
        wanted = [row for row, part in zip(rows, parts, strict=True) if part.wanted]
        return torch.stack(wanted) if wanted else torch.empty(0, self._model.config.vocab_size, device=self._model.device)

    def _read(self, part: Part) -> Tensor:
        if part.start == 0:
            self._caches[part.slot] = DynamicCache()
        cache = self._caches[part.slot]
        held = cache.get_seq_length()
        if held < part.start:
            raise ValueError(f"slot {part.slot} holds {held} tokens, fewer than {part.start}")
        if held > part.start:
            cache.crop(part.start - held)  # by so many; a crop to 0 would be none
        output = self._model(self._batch([part.ids]), past_key_values=cache, use_cache=True, logits_to_keep=1)
        return output.logits[0, -1].float()

    def foresee(self, drawn: Drawn) -> None:
        """Nothing: the host itself computes, and now has other things to do."""

    @torch.inference_mode()
    def score(self, prefixes: Sequence[Sequence[int]], continuation: Sequence[int]) -> list[float]:
        """One batched forward of all prefixes; only the output layer goes in parts, as its logits are what is large."""
        check_prefixes(prefixes, continuation, self.n_positions, self._model.config.vocab_size)
        rows = self._batch([[*prefix, *continuation[:-1]] for prefix in prefixes])
        hidden: Tensor = self._model.transformer(rows, use_cache=False).last_hidden_state[:, len(prefixes[0]) - 1 :]
        targets = self._batch([continuation])
        positions = max(1, LOGITS_AT_ONCE // (len(prefixes) * self._model.config.vocab_size))
        totals = torch.zeros(len(prefixes), dtype=torch.float64)
        for states, tokens in zip(hidden.split(positions, dim=1), targets.split(positions, dim=1), strict=True):
            log_p = self._model.lm_head(states).float().log_softmax(dim=-1)
            at_targets = log_p.gather(-1, tokens.expand(len(prefixes), -1).unsqueeze(-1))
            totals += at_targets.sum(dim=(1, 2)).double().cpu()
        return totals.tolist()

    def _batch(self, rows: Sequence[Sequence[int]]) -> Tensor:
        return torch.tensor([list(row) for row in rows], device=self._model.device)


def load_any_gpt2(model_dir: Path, device: torch.device, dtype: torch.dtype) -> GPT2LMHeadModel:
    """The model by transformers, every weight accounted for. Raises ModelUnavailable."""
    file = weights_file(model_dir)
    try:
        with _no_progress_bars():
            loaded: Any = GPT2LMHeadModel.from_pretrained(
                model_dir,
                dtype=dtype,
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
        raise misfit(model_dir, odd)
    model.config.pad_token_id = None  # nothing is padded here; with one set, each forward would search its input for it
    return model.eval().to(device)  # pyright: ignore[reportArgumentType] - its decorator hides its type


@contextmanager
def _no_progress_bars() -> Generator[None]:
    shown = transformers_logging.is_progress_bar_enabled()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            transformers_logging.enable_progress_bar()
