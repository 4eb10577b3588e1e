"""GPT-2's weights on a GPU, as its passes there take them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn.functional import layer_norm, linear, pad

if TYPE_CHECKING:
    from bot.engine.gpt2_weights import Affine, Gpt2Shape, Gpt2Weights

_ALIGNED = 64
"""The head is filled up to a multiple of so many columns: an odd number of them has only slow kernels."""


@dataclass(frozen=True)
class Product:
    """y = x @ weight.T + bias."""

    weight: Tensor
    """(out, in), as torch's `linear` has it."""
    bias: Tensor

    def __call__(self, x: Tensor) -> Tensor:
        return linear(x, self.weight, self.bias)


@dataclass(frozen=True)
class Norm:
    """A layer norm."""

    gain: Tensor
    bias: Tensor
    epsilon: float

    def __call__(self, x: Tensor) -> Tensor:
        return layer_norm(x, self.gain.shape, self.gain, self.bias, self.epsilon)


@dataclass(frozen=True)
class Layer:
    """One block, each part in the order of its use."""

    ln_1: Norm
    attn_in: Product
    attn_out: Product
    ln_2: Norm
    mlp_in: Product
    mlp_out: Product


@dataclass(frozen=True)
class Model:
    """All weights, on one device and of one dtype."""

    shape: Gpt2Shape
    embedding: Tensor
    """(vocabulary, n_embd)."""
    positions: Tensor
    """(n_positions, n_embd)."""
    layers: tuple[Layer, ...]
    ln_f: Norm
    head: Tensor
    """(vocabulary and some columns that mean nothing, n_embd)."""


def on_device(weights: Gpt2Weights, device: torch.device, dtype: torch.dtype) -> Model:
    """A copy there."""

    def moved(tensor: Tensor) -> Tensor:
        return tensor.to(device, dtype)

    def norm(part: Affine) -> Norm:
        return Norm(moved(part.weight), moved(part.bias), weights.shape.epsilon)

    def product(part: Affine) -> Product:
        return Product(moved(part.weight).t().contiguous(), moved(part.bias))

    embedding = moved(weights.embedding)
    head = embedding if weights.head is weights.embedding else moved(weights.head)
    missing = -weights.shape.vocab_size % _ALIGNED
    return Model(
        weights.shape,
        embedding,
        moved(weights.positions),
        tuple(
            Layer(
                norm(layer.ln_1),
                product(layer.attn_in),
                product(layer.attn_out),
                norm(layer.ln_2),
                product(layer.mlp_in),
                product(layer.mlp_out),
            )
            for layer in weights.layers
        ),
        norm(weights.ln_f),
        pad(head, (0, 0, 0, missing)) if missing else head,
    )
