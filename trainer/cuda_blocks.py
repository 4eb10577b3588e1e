"""GPT-2's blocks on CUDA as one plain function, which torch.compile makes into few kernels.

A block of transformers' runs some thirty kernels forward, most of them over in microseconds, and Python has to start each of
them. GPT-2 124M on an H200, 8 rows of 1,024 at once, in tokens a second: 203,000 by transformers' blocks, 240,000 by the plain
function below, 281,000 with the loss compiled as well and 310,000 with both; with 8 rows the GPU then waits for Python (447,000
with 16, 475,000 with 32). Compiled is one block, and the others take what that made: 5 s, where all twelve at once took 18. The
modules of transformers keep the weights, and a model that this does not fit goes through them instead.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import torch
from transformers.pytorch_utils import Conv1D

from trainer.cuda_loss import Softmax, softmax_by_slices, softmax_to_gradient

if TYPE_CHECKING:
    from transformers import GPT2LMHeadModel

Block = Callable[[Any, torch.Tensor, torch.Tensor, int], torch.Tensor]


def fits(model: GPT2LMHeadModel) -> bool:
    """Whether these blocks are the ones below: GPT-2 as it was published, without LoRA, on CUDA, nothing computed twice."""
    config = model.config
    return (
        model.device.type == "cuda"
        and config.scale_attn_weights
        and not config.scale_attn_by_inverse_layer_idx
        and not config.attn_pdrop
        and not model.is_activation_checkpointing
        and all(type(cast("Any", block).attn.c_attn) is Conv1D for block in model.transformer.h)
    )


def hidden_states(
    model: GPT2LMHeadModel,
    input_ids: torch.Tensor,
    position_ids: torch.Tensor,
    ends: torch.Tensor,
    longest: int,
    block: Block,
) -> torch.Tensor:
    """What the head sees, (rows, block size, width), of rows of shape (rows, block size).

    `ends` and `longest` are those of the stories (packed_attention.py).
    """
    body = model.transformer
    rows, size = input_ids.shape
    x = body.drop(body.wte(input_ids) + body.wpe(position_ids)).flatten(0, 1)
    if torch.is_autocast_enabled("cuda") and torch.get_autocast_dtype("cuda") == torch.bfloat16:
        x = x.bfloat16()  # the residual, too: it has the range, and half of what the small kernels move
    for layer in body.h:
        x = block(layer, x, ends, longest)
    return body.ln_f(x).view(rows, size, -1)


def plain_block(layer: Any, x: torch.Tensor, ends: torch.Tensor, longest: int) -> torch.Tensor:
    """One block over the flat tokens of all rows, x of shape (tokens, width); stories attend apart."""
    from torch.nn.attention.varlen import varlen_attn

    query, key, value = layer.attn.c_attn(layer.ln_1(x)).unflatten(1, (3, layer.attn.num_heads, -1)).unbind(1)
    attended = cast("torch.Tensor", varlen_attn(query, key, value, ends, ends, longest, longest, window_size=(-1, 0)))
    x = x + layer.attn.resid_dropout(layer.attn.c_proj(attended.flatten(1)))
    return x + layer.mlp(layer.ln_2(x))


@dataclass(frozen=True)
class Kernels:
    """What a step on CUDA runs beside its matrix products."""

    block: Block = plain_block
    softmax: Softmax = softmax_by_slices
    graphed: bool = False
    """Whether a pass is started as a whole (cuda_pass.py)."""


PLAIN = Kernels()


def compiled() -> Kernels:
    """The same, compiled when they are first called. Needs Triton and a C compiler, and fails then, not here."""
    return Kernels(
        cast("Block", torch.compile(plain_block, fullgraph=True)),
        cast("Softmax", torch.compile(softmax_to_gradient, fullgraph=True)),
    )
