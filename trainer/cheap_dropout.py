"""Dropout for a CPU: torch's draws one random number for each value, one after another, which is a sixteenth of a step of the
bundled model on two cores; this draws one for four. The share that is dropped is exact to 1/65,536, and kept values are scaled
by just that. Which values go is another draw from the same generator, so seeds and resuming mean what they mean.
"""

from __future__ import annotations

import torch
from torch import nn

_STEPS = 1 << 16


class CheapDropout(nn.Module):
    """nn.Dropout, for tensors on a CPU."""

    def __init__(self, p: float) -> None:
        """`p` is the share of values that become 0 while training."""
        super().__init__()
        self.p = p
        self._dropped = round(p * _STEPS)

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        """The values, of which some are 0 and the rest scaled so that their mean stays; in fp32, as what they are added to."""
        if not self.training or not self._dropped:
            return values
        size = values.numel()
        drawn = torch.empty((size + 3) // 4, dtype=torch.int64).random_(-(2**63), None)
        kept = drawn.view(torch.int16)[:size].view(values.shape) >= self._dropped - _STEPS // 2
        return values.float() * kept.float().mul_(_STEPS / (_STEPS - self._dropped))


def use_cheap_dropout(model: nn.Module) -> None:
    """Put it in the place of every nn.Dropout that drops something."""
    for module in list(model.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, nn.Dropout) and child.p > 0:
                setattr(module, name, CheapDropout(child.p).train(child.training))
