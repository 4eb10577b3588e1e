"""What a machine could do: its measured rate of matrix products over the operations that a token takes to teach.

Operations per token are 6 N + 12 L d t: forward and backward through N weights (token embeddings once, as the head; positions
are only looked up), and through attention over the t tokens that one looks back on in the mean, in L layers of width d.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from transformers import GPT2LMHeadModel


def matrix_rate(device: torch.device, dtype: torch.dtype, seconds: float = 0.4) -> float:
    """Floating-point operations a second of square matrix products, of a size at which this kind of device is at its best."""
    size = 8192 if device.type == "cuda" else 1024
    left, right = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    out = left @ right
    _wait(device)
    products, start = 0, time.perf_counter()
    while products < 3 or time.perf_counter() - start < seconds:
        torch.mm(left, right, out=out)
        products += 1
        if products % 8 == 0:
            _wait(device)
    _wait(device)
    return 2 * size**3 * products / (time.perf_counter() - start)


def flops_per_token(model: GPT2LMHeadModel, lengths: Sequence[int]) -> float:
    """Floating-point operations to teach one token of stories of these lengths; frozen weights have no gradient, and take 4."""
    config = model.config
    weights = sum(parameter.numel() for parameter in model.parameters()) - model.transformer.wpe.weight.numel()
    looked_back_on = sum(length * (length + 1) / 2 for length in lengths) / sum(lengths)
    taught = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    frozen = max(0, weights - taught)
    return 6 * (weights - frozen) + 4 * frozen + 12 * config.n_layer * config.n_embd * looked_back_on


def peak_bytes(device: torch.device) -> int:
    """The most memory that this process has had: of the device on CUDA, resident elsewhere."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    import resource
    import sys

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
