"""Attention among packed stories: each attends to itself, computed alone, and no mask as wide as the row is ever made.

    row of 9 tokens   A a a a < B b < .         the square of the row: 81 pairs, of which a mask leaves 22
    stories of        5, 3 and 1 tokens         what is computed here: causal squares of 5, 3 and 1

transformers marks the borders by a mask of (rows, 1, block, block), whose upper and foreign parts are computed and thrown away;
on two cores new:mini spends a third of its time there. On a CPU stories of about one length go through torch's flash kernel as
one batch; on CUDA all go through its variable-length kernel, where a trial on the spot shows that it is there and right.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch.nn import functional
from transformers import AttentionInterface
from transformers.masking_utils import AttentionMaskInterface

from trainer.packing import story_lengths

NAME = "packed_stories"
_SHORTEST = 128
"""A kernel takes as long for stories that are shorter."""


@dataclass(frozen=True)
class Stories:
    """Where the stories of packed rows are, row after row, the flat order of all their tokens."""

    lengths: NDArray[np.int64]
    ends: torch.Tensor
    """(stories + 1,) in int32 on the rows' device: 0, then where each story ends; on CUDA the last one some times more."""

    @classmethod
    def of(cls, position_ids: torch.Tensor, lengths: ArrayLike | None = None) -> Stories:
        """Each story starts where the positions, of shape (rows, block), start again at 0.

        Without `lengths` they are read back from the positions, which on CUDA waits for the device.
        """
        told = np.asarray(story_lengths(position_ids) if lengths is None else lengths, np.int64)
        ends = np.zeros(len(told) + 1, np.int32)
        np.cumsum(told, out=ends[1:])
        if position_ids.is_cuda:  # filled up with empty stories, so that few numbers of them are compiled for
            ends = np.pad(ends, (0, (1 << (len(told) - 1).bit_length()) - len(told)), mode="edge")
        return cls(told, torch.from_numpy(ends).to(position_ids.device, non_blocking=True))

    @cached_property
    def longest(self) -> int:
        """The length of the longest, rounded up, so that few are compiled for."""
        return max(_SHORTEST, 1 << (int(self.lengths.max()) - 1).bit_length())

    @cached_property
    def groups(self) -> Groups:
        """Stories of about one length, side by side."""
        return Groups.of(self.lengths, self.ends.device)


@dataclass(frozen=True)
class Groups:
    """Stories of about one length as one batch, filled up at their ends: there, causal attention needs no mask for that."""

    places: list[torch.Tensor]
    """For each group (stories, longest): the flat places of its tokens, the last one again where a story is shorter."""
    back: torch.Tensor
    """(tokens,): where each token is among those of all groups, group after group."""

    @classmethod
    def of(cls, sizes: NDArray[np.int64], device: torch.device) -> Groups:
        """Groups in which the shortest has at least four fifths of the longest."""
        starts = np.cumsum(sizes) - sizes
        order = np.argsort(-sizes, kind="stable")
        places: list[torch.Tensor] = []
        back = np.empty(int(sizes.sum()), np.int64)
        taken = first = 0
        while first < len(order):
            longest = int(sizes[order[first]])
            members = order[first : first + int((sizes[order[first:]] >= 0.8 * longest).sum())]
            steps = np.arange(longest)
            inside = steps < sizes[members, None]
            grid = starts[members, None] + np.minimum(steps, sizes[members, None] - 1)
            back[grid[inside]] = taken + np.flatnonzero(inside)
            places.append(torch.from_numpy(grid).to(device))
            taken += grid.size
            first += len(members)
        return cls(places, torch.from_numpy(back).to(device))


def attend(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    stories: Stories | None = None,
    **_: Any,
) -> tuple[torch.Tensor, None]:
    """Transformers' attention interface: query, key and value are (rows, heads, block, head width).

    Returns (rows, block, heads, head width). Raises ValueError for anything but whole packed rows, whose stories it would mix.
    """
    if stories is None or attention_mask is not None or key.shape != query.shape:
        raise ValueError("packed attention is for whole rows of stories, without a mask and without a cache")
    rows, heads, block, width = query.shape
    flat = [part.transpose(1, 2).reshape(rows * block, heads * width) for part in (query, key, value)]
    if query.is_cuda:
        kernel = _by_groups if dropout else _at_once
        attended = kernel(flat, heads, stories, dropout, scaling)
    else:
        with torch.autocast("cpu", enabled=False):  # in bf16 torch's backward kernel takes up to three times as long
            attended = _by_groups([part.float() for part in flat], heads, stories, dropout, scaling).to(query.dtype)
    return attended.view(rows, block, heads, width), None


def _by_groups(flat: list[torch.Tensor], heads: int, stories: Stories, dropout: float, scaling: float | None) -> torch.Tensor:
    """`flat` are query, key and value of shape (tokens, heads x head width), as is what comes back.

    Rows are picked by `embedding`: its backward pass is the fast one of all that pick on a CPU.
    """
    parts: list[torch.Tensor] = []
    for places in stories.groups.places:
        query, key, value = (functional.embedding(places, part).unflatten(2, (heads, -1)).transpose(1, 2) for part in flat)
        attended = functional.scaled_dot_product_attention(query, key, value, is_causal=True, dropout_p=dropout, scale=scaling)
        parts.append(attended.transpose(1, 2).flatten(2).flatten(0, 1))
    return functional.embedding(stories.groups.back, torch.cat(parts))


def _at_once(flat: list[torch.Tensor], heads: int, stories: Stories, _dropout: float, scaling: float | None) -> torch.Tensor:
    from torch.nn.attention.varlen import varlen_attn

    query, key, value = (part.unflatten(1, (heads, -1)) for part in flat)
    ends, longest = stories.ends, stories.longest
    attended = varlen_attn(query, key, value, ends, ends, longest, longest, scale=scaling, window_size=(-1, 0))
    return cast("torch.Tensor", attended).flatten(1)


def works_on(device: torch.device, dtype: torch.dtype) -> bool:
    """Whether packed attention is there and right on this device: on CUDA it is tried on two small stories."""
    if device.type != "cuda":
        return device.type == "cpu"
    lengths = [40, 24]
    generator = torch.Generator(device).manual_seed(0)  # a training's own random state is none of a trial's business
    flat = [torch.randn(64, 128, generator=generator, device=device, dtype=dtype, requires_grad=True) for _ in range(3)]
    stories = Stories.of(torch.zeros(1, 64, device=device), lengths)
    try:
        fast = _at_once(flat, 2, stories, 0.0, None)
        fast_gradients = torch.autograd.grad(fast.float().square().sum(), flat)
    except (RuntimeError, ImportError, TypeError):  # no such kernel in this build, or not for this GPU
        return False
    slow = _by_groups(flat, 2, stories, 0.0, None)
    slow_gradients = torch.autograd.grad(slow.float().square().sum(), flat)
    pairs = zip((fast, *fast_gradients), (slow, *slow_gradients), strict=True)
    return all(torch.allclose(ours, theirs, rtol=0.05, atol=0.05) for ours, theirs in pairs)


AttentionInterface.register(NAME, attend)
AttentionMaskInterface.register(NAME, lambda *_, **__: None)
