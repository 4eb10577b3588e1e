"""LoRA, by peft: all weights stay as they are, and beside each matrix a thin one of rank r is taught (Hu et al. 2021).

It is for bases whose gradients and moments would not fit: the 1.56 billion weights of GPT-2 XL take 16 bytes each to teach, 25
GB, and 4 each where they stay as they are. The rows of the tags and of the end are taught as well, since the base may never
have seen them. What is written in the end is a plain model: the thin matrices are merged into the others.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from transformers import GPT2LMHeadModel

DEFAULT_RANK = 16


def with_lora(model: GPT2LMHeadModel, rank: int, token_ids: Sequence[int]) -> GPT2LMHeadModel:
    """The model with matrices of this rank to teach, and the rows of these tokens; all else is frozen."""
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(
        r=rank,
        lora_alpha=2 * rank,
        target_modules=["c_attn", "c_proj", "c_fc"],
        fan_in_fan_out=True,  # GPT-2's Conv1D keeps its weights the other way round
        trainable_token_indices={"wte": list(token_ids)},
        task_type="CAUSAL_LM",
    )
    return cast("GPT2LMHeadModel", get_peft_model(model, config))


def inner(model: GPT2LMHeadModel) -> GPT2LMHeadModel:
    """The GPT-2 itself, whatever is wrapped around it."""
    wrapped: Any = model
    return wrapped.get_base_model() if hasattr(wrapped, "get_base_model") else model


def merged(model: GPT2LMHeadModel) -> GPT2LMHeadModel:
    """The plain model, with what LoRA taught in its own weights."""
    wrapped: Any = model
    return wrapped.merge_and_unload() if hasattr(wrapped, "merge_and_unload") else model
