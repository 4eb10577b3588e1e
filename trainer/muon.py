"""Muon for the matrices of the blocks, AdamW for all else, as one optimizer that Trainer can schedule and save.

Muon makes each update of a matrix orthogonal, so that every direction is learnt at the same pace (Jordan et al. 2024,
github.com/KellerJordan/Muon); it is scaled to the size of AdamW's updates, so that both take one learning rate (Liu et al.
2025, Muon is Scalable for LLM Training). The price is five rounds of small matrix products for each matrix and step: a seventh
of a step of 3,600 tokens for new:mini on two cores, where in the same two minutes it still taught more than AdamW.

The products are in the format of the training's own: in bf16, in which Muon was published, they take half as long. Updates are
then 4 to 7 % off for gradients of few directions, and 100 steps of new:mini had the held-out loss of fp32 to three decimals.
torch.optim.Muon is not used: it is always in bf16, which made a step ten times as long on a CPU that has none, and it leaves
the rest to a second optimizer, which Trainer does not save.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import nn

if TYPE_CHECKING:
    from transformers import GPT2LMHeadModel

_COEFFICIENTS = (3.4445, -4.7750, 2.0315)
"""Of the quintic iteration: singular values go to between 0.7 and 1.2 in five steps (Jordan et al. 2024)."""
_ITERATIONS = 5
_ADAMW_RMS = 0.2
"""The root mean square of AdamW's updates over its learning rate, as Liu et al. measured it."""


class MuonAdamW(torch.optim.Optimizer):
    """Muon for the matrices of the blocks and torch's AdamW for the rest, with one state to save."""

    def __init__(
        self,
        model: GPT2LMHeadModel,
        lr: float,
        weight_decay: float,
        momentum: float = 0.95,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        """Weight decay is the matrices' of the blocks; embeddings, biases and norms have none.

        `dtype` is what the training computes in, and so do Muon's products, but for fp16, which has too little range for them.
        """
        self._dtype = torch.float32 if dtype == torch.float16 else dtype
        matrices, others = _parted(model)
        self._adamw = torch.optim.AdamW(others, lr=lr, betas=(0.9, 0.95))
        groups: list[dict[str, Any]] = [
            {"params": matrices, "momentum": momentum, "weight_decay": weight_decay},
            {"params": others, "momentum": None, "weight_decay": 0.0},
        ]
        super().__init__(groups, self._adamw.defaults)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """One update of all parameters that have a gradient."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        matrices, others = self.param_groups
        self._adamw.state, self._adamw.param_groups = self.state, [others]
        self._adamw.step()
        self._step_matrices(matrices)
        return loss

    def _step_matrices(self, group: dict[str, Any]) -> None:
        maps: list[torch.Tensor] = []
        directions: list[torch.Tensor] = []
        for matrix in cast("list[nn.Parameter]", group["params"]):
            if matrix.grad is None:
                continue
            state = self.state[matrix]
            if not state:
                state["momentum_buffer"] = torch.zeros_like(matrix)
            average = cast("torch.Tensor", state["momentum_buffer"])
            average.lerp_(matrix.grad, 1 - group["momentum"])
            matrix.mul_(1 - group["lr"] * group["weight_decay"])
            maps += _maps(matrix)
            directions += _maps(matrix.grad.lerp(average, group["momentum"]))
        for some in _batches(directions):
            scale = _ADAMW_RMS * max(directions[some[0]].shape) ** 0.5
            for index, step in zip(
                some, orthogonalised(torch.stack([directions[i] for i in some]).to(self._dtype)), strict=True
            ):
                maps[index].add_(step, alpha=-group["lr"] * scale)


def _batches(matrices: Sequence[torch.Tensor]) -> list[list[int]]:
    """Indices of matrices that are computed at once: on CUDA all of one shape, as starting a product takes longer than it."""
    if not matrices or not matrices[0].is_cuda:
        return [[index] for index in range(len(matrices))]
    by_shape: dict[torch.Size, list[int]] = {}
    for index, matrix in enumerate(matrices):
        by_shape.setdefault(matrix.shape, []).append(index)
    return list(by_shape.values())


def orthogonalised(matrices: torch.Tensor) -> torch.Tensor:
    """Matrices of the same singular vectors whose singular values are all about 1 (Newton-Schulz, in their dtype).

    `matrices` is (how many, rows, columns), as is what comes back.
    """
    a, b, c = _COEFFICIENTS
    tall = matrices.shape[1] > matrices.shape[2]
    x = matrices.mT if tall else matrices
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    for _ in range(_ITERATIONS):
        square = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(square, square, square, beta=b, alpha=c), x, beta=a)
    return x.mT if tall else x


def _maps(matrix: torch.Tensor) -> Iterator[torch.Tensor]:
    """The linear maps that a weight holds side by side: GPT-2 keeps query, key and value in one."""
    inputs, outputs = matrix.shape
    return iter(matrix.chunk(3, 1)) if outputs == 3 * inputs else iter((matrix,))


def _parted(model: GPT2LMHeadModel) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """The matrices of the blocks, and all other parameters (tied ones once)."""
    blocks = {id(parameter) for parameter in model.transformer.h.parameters() if parameter.ndim == 2}
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    return [p for p in trained if id(p) in blocks], [p for p in trained if id(p) not in blocks]
