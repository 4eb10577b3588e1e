"""The cross-entropy of a model's head without all its logits in memory, with gradients from the same pass.

GPT-2's vocabulary makes the logits the largest thing in a training: 206 MB in fp32 for a row of 1,024 tokens, and as much again
for their gradient. torch's linear_cross_entropy takes some rows at a time. On a CPU some columns at a time are faster (91 % of
the matrix rate against 81 % for a step of GPT-2 124M on two cores): 50,257 columns are not a multiple of anything, and the
blocks of 4,096 are. The price is that at most 1,024 tokens have their logits in memory, once. CUDA has its own (cuda_loss.py).
"""

from __future__ import annotations

from typing import Any

import torch
from torch.nn import functional

from trainer.cuda_loss import LossByRows, Softmax, kept_gradients, softmax_by_slices
from trainer.packing import IGNORED

_COLUMNS = 4096
_TOKENS = 1024


def summed_loss(
    hidden: torch.Tensor, weight: torch.Tensor, labels: torch.Tensor, softmax: Softmax = softmax_by_slices
) -> torch.Tensor:
    """The summed cross-entropy in nats of `labels` (tokens,) after `hidden` (tokens, width), for a head of (vocabulary, width).

    Labels that are IGNORED count for nothing. Like torch's own, the gradient can be asked for once.
    """
    if hidden.is_cuda:
        dtype = torch.get_autocast_dtype("cuda") if torch.is_autocast_enabled("cuda") else hidden.dtype
        total: torch.Tensor = LossByRows.apply(hidden, weight, labels, dtype, softmax)  # pyright: ignore[reportAssignmentType]
        return total
    asked = labels != IGNORED
    loss: torch.Tensor = _ByColumns.apply(hidden[asked], weight, labels[asked])  # pyright: ignore[reportAssignmentType]
    return loss


def labels_by_place(labels: torch.Tensor) -> torch.Tensor:
    """What comes next at each place of rows (rows, block): (rows x block,).

    Nothing comes before a row's first token, so the last label of each row is none, and no row has to be cut.
    """
    return functional.pad(labels[:, 1:], (0, 1), value=IGNORED).flatten()


def loss_of_rows(
    hidden: torch.Tensor, weight: torch.Tensor, labels: torch.Tensor, softmax: Softmax = softmax_by_slices
) -> torch.Tensor:
    """The summed loss of rows: `hidden` (rows, block, width), `labels` (rows, block)."""
    return summed_loss(hidden.flatten(0, 1), weight, labels_by_place(labels), softmax)


class _ByColumns(torch.autograd.Function):
    """The loss and, while its logits are at hand, both gradients."""

    @staticmethod
    def forward(ctx: Any, hidden: torch.Tensor, weight: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        wanted = ctx.needs_input_grad[:2]
        d_hidden = torch.empty_like(hidden) if any(wanted) else None
        d_weight = torch.zeros_like(weight) if wanted[1] else None
        losses = [
            _chunk(
                hidden[start : start + _TOKENS],
                weight,
                labels[start : start + _TOKENS],
                None if d_hidden is None else d_hidden[start : start + _TOKENS],
                d_weight,
            )
            for start in range(0, len(labels), _TOKENS)
        ]
        ctx.d_hidden, ctx.d_weight = d_hidden, d_weight
        return torch.stack(losses).sum() if losses else hidden.sum() * 0

    @staticmethod
    def backward(ctx: Any, *grad_outputs: torch.Tensor) -> tuple[torch.Tensor | None, torch.Tensor | None, None]:
        return (*kept_gradients(ctx, grad_outputs), None)


def _chunk(
    hidden: torch.Tensor,
    weight: torch.Tensor,
    labels: torch.Tensor,
    d_hidden: torch.Tensor | None,
    d_weight: torch.Tensor | None,
) -> torch.Tensor:
    """The summed loss of some tokens; their gradients are written into `d_hidden` and added to `d_weight`."""
    starts = range(0, len(weight), _COLUMNS)
    logits = [hidden @ weight[start : start + _COLUMNS].t() for start in starts]
    highest = torch.stack([block.amax(1) for block in logits]).amax(0)
    places = [_rows_and_columns(labels, start, block.shape[1]) for start, block in zip(starts, logits, strict=True)]
    picked = torch.cat([block[place] - highest[place[0]] for block, place in zip(logits, places, strict=True)])
    sums = torch.zeros_like(highest)
    for block in logits:
        sums += block.sub_(highest[:, None]).exp_().sum(1)
    if d_hidden is not None:
        scale = sums.reciprocal()[:, None]
        for number, (start, block, place) in enumerate(zip(starts, logits, places, strict=True)):
            block.mul_(scale)
            block[place] -= 1
            rows = weight[start : start + _COLUMNS]
            torch.addmm(d_hidden, block, rows, beta=int(number > 0), out=d_hidden)
            if d_weight is not None:
                d_weight[start : start + _COLUMNS].addmm_(block.t(), hidden)
    return sums.log().sum() - picked.sum()


def _rows_and_columns(labels: torch.Tensor, start: int, columns: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Which of the tokens have their label in this block, and where."""
    rows = torch.nonzero((labels >= start) & (labels < start + columns)).flatten()
    return rows, labels[rows] - start
