"""How the rows of a step are dealt out: what the memory decides, and what a training that goes on has to keep."""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Layout:
    """How the rows of a step go through the model."""

    micro_batch: int
    """Rows at once; a divisor of the batch size."""
    checkpointing: bool = False
    """Whether activations are computed again rather than kept."""
    lora_rank: int = 0
    """Of the matrices that are taught beside the weights; 0 teaches the weights themselves."""

    def smaller(self, batch_size: int) -> Layout | None:
        """The next that needs less memory; None when there is none."""
        if self.micro_batch > 1:
            return replace(self, micro_batch=max(n for n in range(1, self.micro_batch) if batch_size % n == 0))
        return None if self.checkpointing else replace(self, checkpointing=True)
