"""A pass through the model on CUDA, forward and backward, as two graphs: started at once, and not kernel by kernel.

Python needs 28 to 42 ms to start the kernels of GPT-2 124M's pass over 8 rows of 1,024, and an H100 20 to run them. A graph's
shapes never change, so it is made with room for more stories than it has seen; empty ones cost nothing. A batch that needs more
has it made anew, and one of fewer rows (the last of an epoch) goes kernel by kernel.
"""

from __future__ import annotations

import gc
import logging
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn
from torch.func import functional_call

from trainer import cuda_blocks
from trainer.memory import is_out_of_memory
from trainer.story_loss import loss_of_rows

if TYPE_CHECKING:
    from collections.abc import Callable

    from transformers import GPT2LMHeadModel

    from trainer.cuda_blocks import Kernels
    from trainer.packed_attention import Stories

logger = logging.getLogger(__name__)

_WARM_UPS = 3
"""Passes before a graph is made: the libraries choose their kernels, and compilers compile."""


@dataclass(frozen=True)
class _Graph:
    """One, and what fits into it."""

    run: Callable[..., Tensor]
    rows: int
    ends: int
    """As many as stories, and one."""
    longest: int

    def fits(self, stories: Stories) -> bool:
        """Whether there is room for these."""
        return len(stories.ends) <= self.ends and stories.longest <= self.longest


class GraphedPasses:
    """The loss of packed rows, whose backward pass is a graph as well; for one model, whose weights stay where they are."""

    def __init__(self, model: GPT2LMHeadModel, dtype: torch.dtype, kernels: Kernels) -> None:
        """Nothing is made before the first batch."""
        self._model, self._dtype, self._kernels = model, dtype, kernels
        self._graph: _Graph | None = None
        self.failure: Exception | None = None
        """Why there is no graph, and none is tried any more."""

    def __call__(
        self, input_ids: Tensor, position_ids: Tensor, labels: Tensor, stories: Stories, count: Tensor
    ) -> Tensor | None:
        """The loss over `count` () of rows of shape (rows, block size); None where that is not to be had from a graph.

        Where it is made it takes some passes more, and leaves the random state as it was. Raises what torch does when memory
        is short.
        """
        if self.failure is not None:
            return None
        for parameter in self._model.parameters():
            if parameter.grad is not None:  # of the micro-batch before: it may lie where the graph will write the next one
                parameter.grad = parameter.grad.clone()
        rows, ends, longest = len(input_ids), len(stories.ends), stories.longest
        if self._graph is not None and rows < self._graph.rows:
            return None
        given = [input_ids, position_ids, labels, stories.ends, count]
        if self._graph is None or rows > self._graph.rows or not self._graph.fits(stories):
            if self._graph is not None:  # what it had room for is likely wanted again
                ends, longest = max(ends, self._graph.ends // 2), max(longest, self._graph.longest)
            self._make(given, 2 * (1 << (ends - 1).bit_length()) + 1, longest)
            if self._graph is None:
                return None
        given[3] = _filled(stories.ends, self._graph.ends)
        return self._graph.run(*given, *self._model.parameters()).clone()

    def _make(self, given: list[Tensor], ends: int, longest: int) -> None:
        """In place of the one so far; none, and the log says why, where it fails."""
        self.release()
        try:
            run = self._captured([*given[:3], _filled(given[3], ends), given[4]], longest)
            self._graph = _Graph(run, len(given[0]), ends, longest)
        except Exception as error:
            if is_out_of_memory(error):
                raise
            self.failure = error.with_traceback(None)  # whose frames hold what was to be captured
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
            logger.warning("A pass can't be a CUDA graph here, and is started kernel by kernel, more slowly (%s)", reason)

    def _captured(self, given: list[Tensor], longest: int) -> Callable[..., Tensor]:
        """`given` are copied: the graph takes every later batch from where these are."""
        one_pass = _Pass(self._model, self._dtype, self._kernels, longest)
        names = [name for name, _ in one_pass.named_parameters()]
        # The same weights under other tensors: what still holds a graph of autograd over the model's own would break this.
        aliases = [nn.Parameter(weight.detach(), requires_grad=weight.requires_grad) for weight in self._model.parameters()]

        def compute(*tensors: Tensor) -> Tensor:
            batch, weights = tensors[: len(given)], tensors[len(given) :]
            return functional_call(one_pass, dict(zip(names, weights, strict=True)), batch)

        sample = (*(part.clone() for part in given), *aliases)
        torch._dynamo.maybe_mark_dynamic(sample[3], 0)  # or a larger graph would be compiled for anew  # pyright: ignore[reportPrivateUsage]
        with torch.random.fork_rng([self._model.device]), torch.autocast("cuda", enabled=False), warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="The AccumulateGrad node's stream")  # its own warm-up brings that about
            return cast("Callable[..., Tensor]", torch.cuda.make_graphed_callables(compute, sample, _WARM_UPS))

    def release(self) -> None:
        """Give the memory back."""
        self._graph = None
        gc.collect()
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
            model: Any = self.model
            hidden = cuda_blocks.hidden_states(model, input_ids, position_ids, ends, self._longest, self._kernels.block)
            return loss_of_rows(hidden, model.lm_head.weight, labels, self._kernels.softmax) / count


def _filled(ends: Tensor, size: int) -> Tensor:
    """With empty stories at the end."""
    return torch.cat([ends, ends[-1:].expand(size - len(ends))])
