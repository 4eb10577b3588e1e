"""The matrix products of a CPU forward, in int8 or fp32, such that a row's result does not depend on the other rows.

int8: each row of activations is scaled by its own largest value, so nothing of its neighbours gets in; sums of integers
are exact, in any order and any batch. (torch's own dynamic int8 takes one scale for all rows.) One product reads the
weights once for all rows.

fp32: a kernel for one row adds up in another order than one for eight, so each text's part is a product of its own. For
one token each that costs nothing here: MKL needs 1.4 to 1.8 ms for eight rows of 768 x 2304, and 0.22 ms for one.
"""

from __future__ import annotations

import warnings

import torch
from torch import Tensor, nn

INT8_LIMIT = 127
PAIR_LIMIT = 127
"""What two neighbouring weights may sum up to: without VNNI, fbgemm adds 255 * w1 + 255 * w2 in 16 bits that saturate at
32,767, so at 128; one less for rounding. It costs a third more rounding error than no limit, and 7-bit weights would
cost the double."""
TINY = 1e-30
"""In place of the largest value of a row of zeros, which would be divided by."""


class Fp32Linear(nn.Module):
    """Full precision, one product for each text."""

    bytes_a_weight = 4

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        """`weight` of shape (in, out), kept as it is."""
        super().__init__()
        self.weight = weight
        self.bias = bias if bias is not None else torch.zeros(weight.shape[1])

    def forward(self, x: Tensor, cuts: list[int]) -> Tensor:
        """(rows, in) to (rows, out), a new tensor; `cuts` are the rows of each text, in order."""
        if len(cuts) == 1:
            return torch.addmm(self.bias, x, self.weight)
        # each into memory of its own: written to rows of one result, the sums would depend on where these begin
        results: list[Tensor] = []
        for rows in x.split_with_sizes(cuts):
            results.append(torch.addmm(self.bias, rows, self.weight))  # noqa: PERF401 - TorchScript
        return torch.cat(results)


class Int8Linear(nn.Module):
    """8-bit weights, a scale for each output; 8-bit activations, a scale for each row; exact sums between them."""

    bytes_a_weight = 1

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        """`weight` of shape (in, out), not kept; its `in` is even."""
        super().__init__()
        self.packed = _pack(weight.t())
        self.bias = bias

    def forward(self, x: Tensor, cuts: list[int]) -> Tensor:
        """(rows, in) to (rows, out), a new tensor, in one product; `cuts` do not matter."""
        scale = x.abs().amax(1, True).clamp_min_(1e-30)  # of a row of zeros, which is then divided by something
        # the kernel rounds to whole steps of 1/127 around its zero, 128
        steps = x.div(scale)
        result = torch.ops.quantized.linear_with_input_q_dq_qweight_dq_output_fp32(steps, 1 / 127, 128, self.packed)
        bias = self.bias
        return result.mul_(scale) if bias is None else torch.addcmul(bias, result, scale)

    @torch.jit.unused
    def unpacked(self) -> tuple[Tensor, Tensor]:
        """The weights once more, as int8 of shape (out, in), and a float32 scale for each output."""
        weight, _ = torch.ops.quantized.linear_unpack(self.packed)
        return weight.int_repr(), weight.q_per_channel_scales().float()


MakeLinear = type[Fp32Linear | Int8Linear]


def int8_is_there() -> bool:
    """Whether this torch and processor have the kernel: x86 with AVX2."""
    return "fbgemm" in torch.backends.quantized.supported_engines and hasattr(
        torch.ops.quantized, "linear_with_input_q_dq_qweight_dq_output_fp32"
    )


def _pack(weight: Tensor) -> object:
    """(out, in) weights as fbgemm lays them out, symmetric around 0."""
    weight = weight.contiguous()
    largest = weight.abs().amax(1) / INT8_LIMIT
    of_pairs = (weight[:, 0::2] + weight[:, 1::2]).abs().amax(1) / PAIR_LIMIT
    scale = torch.maximum(largest, of_pairs).clamp_min_(TINY)
    steps = weight.div(scale.unsqueeze(1)).round_().to(torch.int8)
    zeros = torch.zeros(len(scale), dtype=torch.long)
    chosen = torch.backends.quantized.engine
    torch.backends.quantized.engine = "fbgemm"  # it decides how weights are packed, and nothing after that
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # quantized tensors are to leave torch, which is pinned
            quantized = torch._make_per_channel_quantized_tensor(steps, scale.double(), zeros, 0)  # pyright: ignore
            return torch.ops.quantized.linear_prepack(quantized, None)
    finally:
        torch.backends.quantized.engine = chosen
