"""The head's cross-entropy on CUDA: some rows at a time, in the numbers the training computes in, gradients in the same pass.

All logits of 8 rows of 1,024 tokens would be 1.6 GB in fp32 for GPT-2, and as much for their gradient. Here the logits of some
tokens are computed, turned into their own gradient where they lie, and used up by two more products. The sums are in fp32.
50,257 columns are an odd number, for which a GPU has only its slow products: the head is filled up with columns that no token
has.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from trainer.packing import IGNORED

_ALIGNED = 128
TOKENS = 4096
"""Tokens whose logits are in memory at once."""
SLICE = 512
"""Tokens whose probabilities are in memory at once in fp32, where nothing is compiled."""

Softmax = Callable[[torch.Tensor, torch.Tensor, int], torch.Tensor]


def softmax_to_gradient(logits: torch.Tensor, labels: torch.Tensor, vocabulary: int) -> torch.Tensor:
    """The summed loss of `labels` (tokens,); `logits` (tokens, columns) become its gradient.

    Columns past the vocabulary are of no token.
    """
    columns = torch.arange(logits.shape[1], device=logits.device)
    values = torch.where(columns < vocabulary, logits.float(), -torch.inf)
    normal = values.logsumexp(1, keepdim=True)
    asked = (labels != IGNORED)[:, None]
    wanted = labels.clamp(min=0)[:, None]
    loss = torch.where(asked, normal - logits.gather(1, wanted).float(), 0.0).sum()
    gradient = (values - normal).exp() - (columns == wanted).float()
    logits.copy_(torch.where(asked, gradient, 0.0))
    return loss


def softmax_by_slices(logits: torch.Tensor, labels: torch.Tensor, vocabulary: int) -> torch.Tensor:
    """The same, some tokens at a time: uncompiled, it needs several fp32 copies of what it is given."""
    parts = zip(logits.split(SLICE), labels.split(SLICE), strict=True)
    return torch.stack([softmax_to_gradient(some, wanted, vocabulary) for some, wanted in parts]).sum()


def _product(left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    """In fp32, whatever the factors are in."""
    return left @ right if left.dtype == torch.float32 else torch.mm(left, right, out_dtype=torch.float32)


def centred(weight: torch.Tensor, dtype: torch.dtype, rows: int, at_once: int) -> torch.Tensor:
    """A head of (vocabulary, width) in `dtype`, less the mean of its rows, which are filled up with empty ones to `rows`.

    That is a shift which all logits of a token share, and changes no probability. GPT-2's is about -100, where logits in bf16
    are half a nat apart. `at_once` says how many rows go through numbers of full width together.
    """
    vocabulary, width = weight.shape
    head, mean = weight.new_empty(rows, width, dtype=dtype), weight.mean(0)
    for part, some in zip(head[:vocabulary].split(at_once), weight.split(at_once), strict=True):
        torch.sub(some, mean, out=part)
    head[vocabulary:].zero_()
    return head


def kept_gradients(ctx: Any, grad_outputs: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor | None, torch.Tensor | None]:
    """The gradients of hidden and weight that a forward pass kept, scaled by what comes from above.

    In place, and given up: a second backward pass finds nothing rather than wrong numbers.
    """
    (upstream,) = grad_outputs
    kept = (ctx.d_hidden, ctx.d_weight)
    del ctx.d_hidden, ctx.d_weight
    d_hidden, d_weight = (None if gradient is None else gradient.mul_(upstream) for gradient in kept)
    return d_hidden, d_weight


class LossByRows(torch.autograd.Function):
    """The summed loss of a head of (vocabulary, width) after `hidden` (tokens, width)."""

    @staticmethod
    def forward(
        ctx: Any, hidden: torch.Tensor, weight: torch.Tensor, labels: torch.Tensor, dtype: torch.dtype, softmax: Softmax
    ) -> torch.Tensor:
        with torch.autocast("cuda", enabled=False):
            vocabulary, _ = weight.shape
            rows = vocabulary + -vocabulary % _ALIGNED
            head = centred(weight, dtype, rows, at_once=vocabulary)
            hidden_wanted, weight_wanted = ctx.needs_input_grad[:2]
            d_hidden = torch.empty_like(hidden) if hidden_wanted else None
            d_head = None
            total = torch.zeros((), device=hidden.device)
            for start in range(0, len(labels), TOKENS):
                tokens = slice(start, start + TOKENS)
                some = hidden[tokens].to(dtype)
                logits = some @ head.t()
                total += softmax(logits, labels[tokens], vocabulary)
                if d_hidden is not None:
                    d_hidden[tokens] = logits @ head
                if weight_wanted:
                    product = _product(logits.t(), some)
                    d_head = product if d_head is None else d_head.add_(product)
        ctx.d_hidden, ctx.d_weight = d_hidden, None if d_head is None else d_head[:vocabulary]
        return total

    @staticmethod
    def backward(ctx: Any, *grad_outputs: torch.Tensor) -> tuple[torch.Tensor | None, torch.Tensor | None, None, None, None]:
        return (*kept_gradients(ctx, grad_outputs), None, None, None)
