"""Work on the GPU as one graph: started once, where its kernels one by one would take longer to start than to run."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from bot.engine.faults import Fault, kind_of

logger = logging.getLogger(__name__)

_WARM_UPS = 2


class Replay:
    """A computation over tensors that stay where they are; on a CPU it is computed anew each time."""

    def __init__(self, compute: Callable[[], Tensor], device: torch.device, *, graphed: bool = True) -> None:
        """`compute` reads nothing back to the host, and all its shapes are fixed; without `graphed` it runs anew each time.

        The tensors that it reads and writes have to be kept by whoever makes this: a graph knows their addresses alone.
        """
        self._compute: Callable[[], Tensor] | None = compute
        self._graph: Any = None
        if device.type != "cuda" or not graphed:
            return
        aside: Any = torch.cuda.Stream(device)
        aside.wait_stream(torch.cuda.current_stream(device))
        with torch.cuda.stream(aside):
            for _ in range(_WARM_UPS):  # the libraries choose their kernels and take their memory
                compute()
        torch.cuda.current_stream(device).wait_stream(aside)
        graph: Any = torch.cuda.CUDAGraph()
        try:
            with torch.cuda.graph(graph):
                self._result = compute()
        except RuntimeError as error:
            if kind_of(error) is not Fault.STEP:
                raise
            logger.warning("some work can't be one graph here (%s): it is started kernel by kernel, more slowly", error)
            return
        self._graph = graph
        self._compute = None  # it likely holds who holds this: a graph's memory would wait for a collection of such cycles

    def __call__(self) -> Tensor:
        """The result, valid until the next call."""
        if self._compute is not None:
            return self._compute()
        self._graph.replay()
        return self._result


def power_of_two(number: int, least: int = 1, most: int | None = None) -> int:
    """The next power of two, from `least` to `most`: so that few graphs serve all sizes."""
    rounded = max(least, 1 << (number - 1).bit_length())
    return rounded if most is None else min(most, rounded)
