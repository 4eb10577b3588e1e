"""What kind of error a pass of the model met: each kind has another answer."""

from __future__ import annotations

from enum import Enum, auto


class Fault(Enum):
    """Kinds of errors, by what helps."""

    STEP = auto()  # something in this pass; the next one may go well
    MEMORY = auto()  # fewer texts at once
    BROKEN = auto()  # a CUDA context that no later call can use: only a new process


def kind_of(error: BaseException) -> Fault:
    """By torch's types, and by its words where it raises a bare RuntimeError."""
    import torch

    words = str(error)
    if isinstance(error, MemoryError | torch.OutOfMemoryError) or (
        isinstance(error, RuntimeError)
        and any(sign in words for sign in ("can't allocate memory", "not enough memory", "out of memory"))
    ):
        return Fault.MEMORY
    if isinstance(error, torch.AcceleratorError) or "CUDA error" in words or "device-side assert" in words:
        return Fault.BROKEN
    return Fault.STEP
