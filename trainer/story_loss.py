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

from trainer.cuda_loss import LossByRows, Softmax, centred, kept_gradients, softmax_by_slices
from trainer.packing import IGNORED

_COLUMNS = 4096
_TOKENS = 1024
_SLICE = 128
"""Rows of half precision that go through fp32 at once."""


def summed_loss(
    hidden: torch.Tensor, weight: torch.Tensor, labels: torch.Tensor, softmax: Softmax = softmax_by_slices
) -> torch.Tensor:
    """The summed cross-entropy in nats of `labels` (tokens,) after `hidden` (tokens, width), for a head of (vocabulary, width).

    Labels that are IGNORED count for nothing. Like torch's own, the gradient can be asked for once.
    """
    device = hidden.device.type
    dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else hidden.dtype
    if device == "cuda":
        total: torch.Tensor = LossByRows.apply(hidden, weight, labels, dtype, softmax)  # pyright: ignore[reportAssignmentType]
        return total
    asked = labels != IGNORED
    loss: torch.Tensor = _ByColumns.apply(hidden[asked], weight, labels[asked], dtype)  # pyright: ignore[reportAssignmentType]
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
    def forward(ctx: Any, hidden: torch.Tensor, weight: torch.Tensor, labels: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
        wanted = ctx.needs_input_grad[:2]
        d_hidden = torch.empty_like(hidden, dtype=weight.dtype) if any(wanted) else None
        d_weight = torch.empty_like(weight) if wanted[1] else None
        with torch.autocast("cpu", enabled=False):
            some, head = hidden.to(dtype), weight
            if dtype != weight.dtype:
                head = centred(weight, dtype, len(weight), at_once=_SLICE)
            losses = [
                _chunk(
                    some[start : start + _TOKENS],
                    head,
                    labels[start : start + _TOKENS],
                    None if d_hidden is None else d_hidden[start : start + _TOKENS],
                    d_weight,
                    first=start == 0,
                )
                for start in range(0, len(labels), _TOKENS)
            ]
        ctx.d_hidden, ctx.d_weight = None if d_hidden is None else d_hidden.to(hidden.dtype), d_weight
        if losses:
            return torch.stack(losses).sum()
        if d_weight is not None:
            d_weight.zero_()
        return hidden.sum(dtype=torch.float32)  # of nothing

    @staticmethod
    def backward(ctx: Any, *grad_outputs: torch.Tensor) -> tuple[torch.Tensor | None, torch.Tensor | None, None, None]:
        return (*kept_gradients(ctx, grad_outputs), None, None)


def _chunk(
    hidden: torch.Tensor,
    weight: torch.Tensor,
    labels: torch.Tensor,
    d_hidden: torch.Tensor | None,
    d_weight: torch.Tensor | None,
    first: bool,
) -> torch.Tensor:
    """The summed loss of some tokens. Their gradients are written into `d_hidden`, and added to `d_weight` or `first` written.

    Maxima, exponentials and sums are computed in fp32 at least, and what products take is rounded to the numbers of `hidden`.
    Exponentials are kept and not probabilities: to divide the tokens by the sums is less than to divide the logits by them.
    """
    wide = torch.promote_types(hidden.dtype, torch.float32)
    starts = range(0, len(weight), _COLUMNS)
    logits = [hidden @ weight[start : start + _COLUMNS].t() for start in starts]
    highest = torch.stack([block.amax(1) for block in logits]).amax(0).to(wide)
    places = [_rows_and_columns(labels, start, block.shape[1]) for start, block in zip(starts, logits, strict=True)]
    picked = torch.cat([block[place] - highest[place[0]] for block, place in zip(logits, places, strict=True)])
    sums = torch.zeros_like(highest)
    for block in logits:
        _exponentiate(block, highest, sums)
    if d_hidden is not None:
        scale = sums.reciprocal()[:, None]
        scaled = (hidden * scale).to(hidden.dtype)
        for number, (start, block, place) in enumerate(zip(starts, logits, places, strict=True)):
            block[place] -= sums[place[0]]
            _add_product(d_hidden, block, weight[start : start + _COLUMNS], first=number == 0)
            if d_weight is not None:
                _add_product(d_weight[start : start + _COLUMNS], block.t(), scaled, first)
        d_hidden.mul_(scale)
    return sums.log().sum() - picked.sum()


def _exponentiate(logits: torch.Tensor, highest: torch.Tensor, sums: torch.Tensor) -> None:
    """Put exp(logits - highest) in the place of `logits` (tokens, columns), and add its sums over the columns to `sums`.

    What is in less than fp32 goes through it some tokens at a time, in one piece of memory that stays in the cache.
    """
    if logits.dtype == sums.dtype:
        sums += logits.sub_(highest[:, None]).exp_().sum(1)
        return
    room = sums.new_empty(_SLICE, logits.shape[1])
    for start in range(0, len(logits), _SLICE):
        rows = slice(start, start + _SLICE)
        some = logits[rows]
        powers = room[: len(some)].copy_(some).sub_(highest[rows, None]).exp_()
        sums[rows] += powers.sum(1)
        some.copy_(powers)


def _add_product(total: torch.Tensor, left: torch.Tensor, right: torch.Tensor, first: bool) -> None:
    """To `total`, a product rounded to the numbers of its factors. The `first` is written over what is there."""
    if left.dtype == total.dtype:
        torch.addmm(total, left, right, beta=int(not first), out=total)
    elif first:
        total.copy_(left @ right)
    else:
        total.add_(left @ right)


def _rows_and_columns(labels: torch.Tensor, start: int, columns: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Which of the tokens have their label in this block, and where."""
    rows = torch.nonzero((labels >= start) & (labels < start + columns)).flatten()
    return rows, labels[rows] - start
