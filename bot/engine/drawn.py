"""Tokens that were drawn on a device, on their way to the host."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


class Drawn:
    """One token a row. A pass that begins with them on the device need not wait until the host has them."""

    def __init__(self, tokens: Tensor) -> None:
        """`tokens` is int64 of shape (rows,), and may be overwritten by what is begun on the device after this."""
        self.tokens = tokens
        self._read: list[int] | None = None
        self._copied: Any = None
        if tokens.is_cuda:
            # torch keeps this memory for itself until the copy is over
            self._host = torch.empty(tokens.shape, dtype=tokens.dtype, pin_memory=True)
            self._host.copy_(tokens, non_blocking=True)
            self._copied = torch.cuda.Event()
            self._copied.record()

    def read(self) -> list[int]:
        """The tokens; waits for the device the first time, but not for what was begun there after they were drawn."""
        if self._read is None:
            if self._copied is not None:
                self._copied.synchronize()
                self._read = self._host.tolist()
            else:
                self._read = self.tokens.tolist()
        return self._read
