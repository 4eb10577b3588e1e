"""A pass through the model on CUDA, forward and backward, as two graphs: each is started at once, kernel by kernel by nobody.

Python needs 28 ms to start the kernels of GPT-2 124M's pass over 8 rows of 1,024, and an H100 much less to run them. A graph's
shapes never change, so there is one for each number of stories and each length of the longest, both rounded up. All of them
compute in the same memory, one after another; of its own each has the gradients.
"""

from __future__ import annotations

import gc
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn

from trainer import cuda_blocks
from trainer.story_loss import loss_of_rows

if TYPE_CHECKING:
    from collections.abc import Callable

    from transformers import GPT2LMHeadModel

    from trainer.cuda_blocks import Kernels
    from trainer.packed_attention import Stories

MOST = 4
"""Graphs that are kept; other sizes are computed kernel by kernel."""
_WARM_UPS = 3
"""Passes before a graph is made: the libraries choose their kernels, and compilers compile."""


class GraphedPasses:
    """The loss of packed rows, whose backward pass is a graph as well; for one model, whose weights stay where they are."""

    def __init__(self, model: GPT2LMHeadModel, dtype: torch.dtype, kernels: Kernels) -> None:
        """Nothing is made before the first batch."""
        self._model, self._dtype, self._kernels = model, dtype, kernels
        self._graphs: dict[tuple[int, ...], Callable[..., Tensor]] = {}
        self._pool: Any = None

    def __call__(
        self, input_ids: Tensor, position_ids: Tensor, labels: Tensor, stories: Stories, count: Tensor
    ) -> Tensor | None:
        """The loss over `count` () of rows of shape (rows, block size); None for one size too many.

        A graph's first pass takes some more, and leaves the random state as it was.
        """
        given = (input_ids, position_ids, labels, stories.ends, count)
        kind = (*input_ids.shape, len(stories.ends), stories.longest)
        graph = self._graphs.get(kind)
        if graph is None:
            if len(self._graphs) == MOST:
                return None
            graph = self._graphs[kind] = self._captured(given, stories.longest)
        for parameter in self._model.parameters():
            if parameter.grad is not None:  # of the micro-batch before: it may lie where the graph will write the next one
                parameter.grad = parameter.grad.clone()
        return graph(*given).clone()

    def _captured(self, given: tuple[Tensor, ...], longest: int) -> Callable[..., Tensor]:
        if self._pool is None:
            self._pool = torch.cuda.graph_pool_handle()
        one_pass = _Pass(self._model, self._dtype, self._kernels, longest)
        with torch.random.fork_rng([self._model.device]), torch.autocast("cuda", enabled=False):
            # the graph keeps what it is made with, and every later batch is copied there
            graph = torch.cuda.make_graphed_callables(
                one_pass, tuple(part.clone() for part in given), num_warmup_iters=_WARM_UPS, pool=self._pool
            )
        return cast("Callable[..., Tensor]", graph)

    def release(self) -> None:
        """Give the memory back."""
        self._graphs.clear()
        self._pool = None
        gc.collect()  # a graphed module holds itself
        torch.cuda.empty_cache()


class _Pass(nn.Module):
    """What is captured: of tensors alone, with no look at any of them."""

    def __init__(self, model: GPT2LMHeadModel, dtype: torch.dtype, kernels: Kernels, longest: int) -> None:
        super().__init__()
        self.model = model  # its parameters are this one's
        self._dtype, self._kernels, self._longest = dtype, kernels, longest

    def forward(self, input_ids: Tensor, position_ids: Tensor, labels: Tensor, ends: Tensor, count: Tensor) -> Tensor:
        # weights cast to half and kept by an autocast would be those of the moment of capture for ever
        with torch.autocast("cuda", self._dtype, enabled=self._dtype != torch.float32, cache_enabled=False):
            hidden = cuda_blocks.hidden_states(self.model, input_ids, position_ids, ends, self._longest, self._kernels.block)
            return loss_of_rows(hidden, self.model.lm_head.weight, labels, self._kernels.softmax) / count
