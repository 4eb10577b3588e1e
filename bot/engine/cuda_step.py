"""One token of each text on a GPU, by our own kernels (cuda_kernels.py): five a layer for one text, ten for more.

    one row   norm+product · attend · product+sum · norm+product+gelu · product+sum
    more      torch's products, which use the matrix units, with norms and sums joined

On an H100 with GPT-2 124M torch's kernels took 659 us for one row and 900 us for 64; for 8 rows the products below took 810 us
and torch's 468.

Triton, which compiles the kernels, needs a C compiler and Python's headers on the host, and is not there on every system. Where
that fails, torch's kernels do the step (cuda_forward.py), with a line in the log.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn.functional import gelu, linear

from bot.engine.faults import Fault, kind_of

if TYPE_CHECKING:
    from bot.engine.cuda_layers import Model, Norm, Product

logger = logging.getLogger(__name__)

_WIDEST_TILE, _TILE = 1024, 512
"""Weights of a column that a program of a product takes at once, at most; and of all its columns, at least. The best of the
sizes tried on an H100, with one warp a program."""
_PROGRAMS_AT_ONCE = 256
"""Up to so many programs of attention a GPU has room for many warps each; with more, fewer are faster."""


def kernel_step(model: Model) -> KernelStep | None:
    """The step for this model, its kernels compiled and tried; None where they can't be had."""
    device = model.embedding.device
    if device.type != "cuda":
        return None
    try:
        step = KernelStep(model)
        many = _PROGRAMS_AT_ONCE // model.shape.n_head + 1
        caches = [tuple(torch.zeros(_keys_size(model, many), dtype=model.head.dtype, device=device) for _ in range(2))]
        for rows in (1, 2, many):  # each way of compiling
            nothing = torch.zeros(rows, dtype=torch.int64, device=device)
            step(nothing, nothing, caches * len(model.layers))
        torch.cuda.synchronize(device)
    except Exception as error:
        if kind_of(error) is not Fault.STEP:  # memory, or a broken device: no fault of the compiler
            raise
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
        logger.warning("torch's own kernels do the steps here, more slowly: ours could not be compiled (%s)", reason)
        return None
    return step


class KernelStep:
    """All layers for one token a row. Nothing is read back, and no shape depends on the numbers."""

    def __init__(self, model: Model) -> None:
        """Raises ImportError without Triton."""
        from bot.engine import cuda_kernels

        self._kernels: Any = cuda_kernels
        self._model = model
        self._lanes = _power_of_two(model.shape.n_embd)
        self._head_width = model.shape.n_embd // model.shape.n_head

    def __call__(self, tokens: Tensor, positions: Tensor, caches: Sequence[tuple[Tensor, ...]]) -> Tensor:
        """The logits, float32 of shape (rows, vocabulary), after one more token in each of the first slots.

        `tokens` and `positions` are int64 of shape (rows,), on the device; `caches` has the keys and the values of each layer,
        (slots, n_positions + 1, heads, head width). A row at n_positions is nobody's.
        """
        model = self._model
        alone = len(tokens) == 1
        x = self._embed(tokens, positions)
        added: Tensor | None = None
        for layer, (keys, values) in zip(model.layers, caches, strict=True):
            if alone:
                joined = self._product(x, layer.attn_in, layer.ln_1)
                x = self._product(self._attend(joined, keys, values, positions), layer.attn_out, added=x)
                inner = self._product(x, layer.mlp_in, layer.ln_2, activation=model.shape.gelu)
                x = self._product(inner, layer.mlp_out, added=x)
                continue
            joined = layer.attn_in(self._add_and_norm(x, added, layer.ln_1))
            mixed = self._attend(joined, keys, values, positions)
            inner = layer.mlp_in(self._add_and_norm(x, layer.attn_out(mixed), layer.ln_2))
            added = layer.mlp_out(gelu(inner, approximate=model.shape.gelu))
        if alone:
            return self._logits(x)
        return linear(self._add_and_norm(x, added, model.ln_f), model.head)[:, : model.shape.vocab_size].float()

    def _embed(self, tokens: Tensor, positions: Tensor) -> Tensor:
        model, width = self._model, self._model.shape.n_embd
        x = torch.empty(len(tokens), width, dtype=model.head.dtype, device=model.head.device)
        last = model.shape.n_positions - 1
        grid = (len(tokens),)
        self._kernels.embed[grid](tokens, positions, model.embedding, model.positions, x, last, WIDTH=width, LANES=self._lanes)
        return x

    def _product(
        self, x: Tensor, product: Product, norm: Norm | None = None, *, activation: str = "", added: Tensor | None = None
    ) -> Tensor:
        y = torch.empty(len(x), len(product.weight), dtype=x.dtype, device=x.device)
        return self._multiply(x, product.weight, y, len(product.weight), product.bias, norm, activation, added)

    def _logits(self, x: Tensor) -> Tensor:
        size = self._model.shape.vocab_size
        y = torch.empty(len(x), size, dtype=torch.float32, device=x.device)
        return self._multiply(x, self._model.head, y, size, None, self._model.ln_f, "", None)

    def _multiply(
        self,
        x: Tensor,
        weight: Tensor,
        y: Tensor,
        out: int,
        bias: Tensor | None,
        norm: Norm | None,
        activation: str,
        added: Tensor | None,
    ) -> Tensor:
        width = x.shape[1]
        columns, at_once = tile(width)
        self._kernels.product[(-(-out // columns),)](
            x,
            weight,
            weight if bias is None else bias,
            weight if norm is None else norm.gain,
            weight if norm is None else norm.bias,
            weight if added is None else added,
            y,
            0.0 if norm is None else norm.epsilon,
            IN=width,
            OUT=out,
            OUT_AT_ONCE=columns,
            IN_AT_ONCE=at_once,
            LANES=_power_of_two(width),
            NORMED=norm is not None,
            BIASED=bias is not None,
            ACTIVATION=activation,
            ADDED=added is not None,
            num_warps=1,
        )
        return y

    def _attend(self, joined: Tensor, keys: Tensor, values: Tensor, positions: Tensor) -> Tensor:
        shape = self._model.shape
        mixed = torch.empty(len(joined), shape.n_embd, dtype=joined.dtype, device=joined.device)
        self._kernels.attend[(len(joined), shape.n_head)](
            joined,
            keys,
            values,
            positions,
            mixed,
            shape.attention_scale,
            shape.n_positions,
            HEADS=shape.n_head,
            WIDTH=self._head_width,
            LANES=_power_of_two(self._head_width),
            AT_ONCE=128,
            num_warps=8 if len(joined) * shape.n_head <= _PROGRAMS_AT_ONCE else 2,
        )
        return mixed

    def _add_and_norm(self, x: Tensor, added: Tensor | None, norm: Norm) -> Tensor:
        y = torch.empty_like(x)
        self._kernels.add_and_norm[(len(x),)](
            x,
            x if added is None else added,
            norm.gain,
            norm.bias,
            y,
            norm.epsilon,
            WIDTH=x.shape[1],
            LANES=self._lanes,
            ADDED=added is not None,
        )
        return y


def tile(width: int) -> tuple[int, int]:
    """How many columns a program of a product has, and how much of the width it takes at once, which divides it."""
    at_once = math.gcd(width, _WIDEST_TILE)
    return max(1, _TILE // at_once), at_once


def _keys_size(model: Model, slots: int) -> tuple[int, int, int, int]:
    shape = model.shape
    return slots, shape.n_positions + 1, shape.n_head, shape.n_embd // shape.n_head


def _power_of_two(number: int) -> int:
    return 1 << (number - 1).bit_length()
