"""Sums in int8 are exact, so no row can depend on another; zeros and wild weights included."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from bot.engine.cpu_linear import Fp32Linear, Int8Linear

SIZES = [(32, 96), (64, 50), (256, 1024), (1024, 64)]


def by_hand(x: Tensor, weight: Tensor) -> Tensor:
    """The same rounding in exact arithmetic."""
    columns = weight.t()
    pairs = (columns[:, 0::2] + columns[:, 1::2]).abs().amax(1)
    scale = torch.maximum(columns.abs().amax(1), pairs) / 127
    steps = (columns / scale[:, None]).round().double()
    row_scale = x.abs().amax(1, keepdim=True)
    return ((x / row_scale * 127).round().double() @ steps.t()) * scale * row_scale / 127


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("kind", ["random", "extreme"])
def test_int8_sums_are_exact_where_16_bits_would_overflow(size: tuple[int, int], kind: str) -> None:
    """The extreme: all activations are at their limit, with the sign of the weights, whose neighbours are equal."""
    torch.manual_seed(0)
    weight = torch.randn(size)
    x = torch.randn(9, size[0])
    if kind == "extreme":
        weight[1::2] = weight[0::2]
        x = weight[:, :9].t().sign()
    result = Int8Linear(weight, None)(x, [9])
    exact = by_hand(x, weight)
    torch.testing.assert_close(result.double(), exact, rtol=1e-5, atol=float(exact.abs().max()) * 1e-6)


@pytest.mark.parametrize("linear", [Int8Linear, Fp32Linear])
@pytest.mark.parametrize("size", SIZES)
def test_a_row_does_not_depend_on_the_rows_beside_it(linear: type[Int8Linear | Fp32Linear], size: tuple[int, int]) -> None:
    torch.manual_seed(1)
    product = linear(torch.randn(size), torch.randn(size[1]))
    x = torch.randn(40, size[0]) * torch.logspace(-3, 3, 40).unsqueeze(1)
    cuts = [1, 7, 1, 1, 20, 10]
    together = product(x, cuts).split_with_sizes(cuts)
    alone = [product(rows, [len(rows)]) for rows in x.split_with_sizes(cuts)]
    assert all(torch.equal(one, other) for one, other in zip(together, alone, strict=True))


def test_a_row_of_zeros_gives_the_bias() -> None:
    bias = torch.randn(48)
    product = Int8Linear(torch.randn(32, 48), bias)
    assert torch.equal(product(torch.zeros(2, 32), [2]), bias.expand(2, -1))


def test_a_column_of_zeros_gives_zero() -> None:
    weight = torch.randn(32, 48)
    weight[:, 5] = 0
    assert (Int8Linear(weight, None)(torch.randn(3, 32), [3])[:, 5] == 0).all()
