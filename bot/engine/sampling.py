"""Draw the next token of each row of logits, all rows at once, in the order that `Sampling` documents.

Nothing here knows a text: parameters come as columns with one value a row (`Columns`), and a row's token depends on that
row alone, bit for bit on a CPU. `draw` reads nothing back to the host and its shapes depend on its arguments' shapes only,
so that a CUDA graph can hold it; what decides its way (does some row have a top_p? is anything banned?) are Python values.

A full sort of 50,257 logits costs 4 ms a row on a CPU. So only the `k` likeliest are looked at, found by two small
`topk`: of 16 maxima's winners first, then of what lies below them. Where what `Sampling` keeps reaches past those k, the row
says so (`REACHES_FURTHER`) and is drawn again with more. Either way the token is the same: sums run over the kept tokens in
one order, and tokens as likely as the last one kept are kept, so that no order among equals matters.

A row is drawn by inverting its cumulative distribution, in the order of the vocabulary, at one number from the text's own
random source. `torch.multinomial` would take one generator for all rows and a number for each token of the vocabulary.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

LARGEST_UNIFORM = 1 - 2**-52
"""A share of a sum that is never rounded up to the sum itself, which lies past the last token that can be drawn."""
NOT_FINITE, REACHES_FURTHER = -1, -2
"""What `draw` gives in place of a token: the logits are no numbers; more than k tokens are kept."""
ALL_TOKENS = 2**62
"""The top_k of a row that has none."""

_STRIDE = 16
_SMALL = 8192
"""Up to so many columns one `topk` is as fast as two."""


@dataclass(frozen=True)
class Asked:
    """What some row asks for; what none does is skipped."""

    top_k: bool = True
    top_p: bool = True
    whole: bool = True
    """Some row has a top_p and no top_k: its share is of all tokens."""
    min_p: bool = True
    anything: bool = True
    """Some row has none of these, and may draw any token."""


@dataclass(frozen=True)
class Columns:
    """The parameters of each row: tensors of shape (rows, 1), and lists of tokens padded with `spare_token`."""

    uniform: Tensor
    """float64, from 0 to LARGEST_UNIFORM."""
    temperature: Tensor
    """float32, never 0: a greedy row has 1 here, a top_k of 1, and a uniform of 0."""
    top_k: Tensor
    """int64; ALL_TOKENS is off."""
    top_p: Tensor
    """float32; infinity is off."""
    min_p: Tensor
    """float32; 0 is off."""
    penalty: Tensor | None = None
    """float32; None when no row has one."""
    seen: Tensor | None = None
    """int64 of shape (rows, any): the different tokens that the penalty is for."""
    banned: Tensor | None = None
    """int64 of shape (rows, any): the tokens that must not be drawn."""


def workspace(rows: int, vocabulary: int, device: torch.device | str = "cpu") -> Tensor:
    """Scratch for `draw`: the logits and some columns that are never drawn, the first of which is `spare_token`."""
    width = (vocabulary // _STRIDE + 1) * _STRIDE
    return torch.full((rows, width), -torch.inf, device=device)


def spare_token(vocabulary: int) -> int:
    """What pads lists of tokens: a column of the workspace that no token has."""
    return vocabulary


@torch.inference_mode()
def draw(logits: Tensor, bias: Tensor, work: Tensor, columns: Columns, k: int, asked: Asked) -> Tensor:
    """One token a row (int64 of shape (rows,)), or NOT_FINITE, or REACHES_FURTHER.

    `logits` are float32 of shape (rows, vocabulary), `bias` (vocabulary,) is 0 or -inf for what must never be written, and
    `work` is a `workspace` of as many rows, which is overwritten. The k likeliest tokens are looked at.
    """
    total = logits.sum(dim=-1)
    not_finite = (total - total) != 0
    torch.add(logits, bias, out=work[:, : logits.shape[1]])
    if columns.penalty is not None and columns.seen is not None:
        penalise_repetition(work, columns.seen, columns.penalty)
    if columns.banned is not None:
        work.scatter_(1, columns.banned, -torch.inf)
    work.div_(columns.temperature)
    probabilities = work.softmax(dim=-1) if asked.whole or asked.anything else None
    tokens = _draw_narrowed(work, columns, k, asked, probabilities)
    if asked.anything and probabilities is not None:
        is_open = (columns.top_k == ALL_TOKENS) & (columns.top_p >= 1) & (columns.min_p <= 0)
        tokens = torch.where(is_open.squeeze(1), draw_at(probabilities, columns.uniform), tokens)
    return tokens.masked_fill_(not_finite, NOT_FINITE)


def penalise_repetition(work: Tensor, seen: Tensor, penalty: Tensor) -> None:
    """Make the tokens in `seen` less likely, in place (Keskar et al. 2019), whatever the sign of their logits."""
    at = work.gather(1, seen)
    work.scatter_(1, seen, torch.where(at < 0, at * penalty, at / penalty))


def likeliest(work: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k highest of each row, highest first, and their columns.

    A column's class is its remainder by width / 16. Each of the k highest is in one of the k classes whose maxima are highest,
    so only those classes are searched: 16 k values instead of all.
    """
    rows, width = work.shape
    if width <= _SMALL or k * _STRIDE * 2 > width:
        values, at = work.topk(k)
        return values, at
    classes = width // _STRIDE
    best = work.view(rows, _STRIDE, classes).amax(dim=1).topk(k, sorted=False).indices
    steps = torch.arange(0, width, classes, device=work.device).view(1, _STRIDE, 1)
    columns = (best.unsqueeze(1) + steps).view(rows, -1)
    values, at = work.gather(1, columns).topk(k)
    return values, columns.gather(1, at)


def _draw_narrowed(work: Tensor, columns: Columns, k: int, asked: Asked, probabilities: Tensor | None) -> Tensor:
    k = min(k, work.shape[1])
    values, tokens = likeliest(work, k)
    weights = (values - values[:, :1]).exp_()  # the likeliest has 1
    kept = values > -torch.inf
    if asked.top_k:
        kept &= _within_top_k(values, columns.top_k)
    if asked.top_p:
        whole = 1 / probabilities.gather(1, tokens[:, :1]) if probabilities is not None else None
        kept &= _within_share(values, weights * kept if asked.top_k else weights, whole, columns)
    if asked.min_p:
        kept &= weights >= columns.min_p
    # in the order of the vocabulary, so that which tokens are looked at changes nothing
    in_order, order = tokens.sort(dim=-1)
    drawn = draw_at(weights.mul_(kept).gather(1, order), columns.uniform)
    chosen = in_order.gather(1, drawn.unsqueeze(1)).squeeze(1)
    if k == work.shape[1]:
        return chosen
    return chosen.masked_fill_(kept[:, -1], REACHES_FURTHER)


def _within_top_k(values: Tensor, top_k: Tensor) -> Tensor:
    """The top_k likeliest tokens of each row, and those as likely as the last of them."""
    return values >= values.gather(1, (top_k - 1).clamp_(max=values.shape[1] - 1))


def _within_share(values: Tensor, of_top_k: Tensor, whole: Tensor | None, columns: Columns) -> Tensor:
    """The likeliest tokens that together reach top_p (Holtzman et al. 2020), and those as likely as the last of them.

    In a row with a top_k the share is of what that left, `of_top_k`; else of the `whole` row, a sum of weights.
    """
    so_far = of_top_k.cumsum(dim=-1)  # one order for any k, which `sum` does not promise
    total = so_far[:, -1:]
    if whole is not None:
        total = torch.where(columns.top_k == ALL_TOKENS, whole, total)
    last = torch.searchsorted(so_far, columns.top_p * total).clamp_(max=values.shape[1] - 1)
    return values >= values.gather(1, last)


def draw_at(weights: Tensor, uniform: Tensor) -> Tensor:
    """Where the cumulative distribution of each row passes `uniform`, a column of numbers from 0 to LARGEST_UNIFORM."""
    cumulative = weights.cumsum(dim=-1, dtype=torch.float64)
    found = torch.searchsorted(cumulative, uniform * cumulative[:, -1:], right=True).squeeze(1)
    return found.clamp_(max=weights.shape[1] - 1)  # past the end where a row is NaN: on CUDA such an index breaks the process
