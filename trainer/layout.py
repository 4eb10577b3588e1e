"""How the rows of a step are dealt out: what the memory decides, and what a training that goes on has to keep."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Layout:
    """How the rows of a step go through the model."""

    micro_batch: int
    """Rows at once; a divisor of the batch size."""
    checkpointing: bool = False
    """Whether activations are computed again rather than kept."""

    def smaller(self, batch_size: int) -> Layout | None:
        """The next that needs less memory; None when there is none."""
        if self.micro_batch > 1:
            return Layout(max(n for n in range(1, self.micro_batch) if batch_size % n == 0), self.checkpointing)
        return None if self.checkpointing else Layout(1, True)
