"""A pass through the model on CUDA, forward and backward, as two graphs: started at once, and not kernel by kernel.

Python needs 28 to 51 ms to start the kernels of GPT-2 124M's pass over 8 rows of 1,024, and an H100 20 to run them. A graph's
shapes never change, so it has room for some more stories than it has seen, and not for many: attention starts its kernels for
empty ones, too. A batch that is fewer rows (the last of an epoch) is filled up with rows that teach nothing. One that has no
room goes kernel by kernel, and once some have, the graph is made anew with room for them.
"""

from __future__ import annotations

import gc
import logging
import math
import warnings
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional

from trainer import cuda_blocks
from trainer.memory import is_out_of_memory
from trainer.packing import IGNORED
from trainer.story_loss import loss_of_rows

if TYPE_CHECKING:
    from collections.abc import Callable

    from transformers import GPT2LMHeadModel

    from trainer.cuda_blocks import Kernels
    from trainer.packed_attention import Stories

logger = logging.getLogger(__name__)

_WARM_UPS = 3
"""Passes before a graph is made: the libraries choose their kernels, and compilers compile."""
_ROOM = 1.5
"""So many times the stories that it is made for: 8 rows of short lines had 182 in the mean, and 276 in one of a thousand."""
_MISSES = 3
_MISSED_SHARE = 0.01
"""Batches without room after which it is made anew, which takes as long as tens of them; and their share of all since then."""


@dataclass(frozen=True)
class _Room:
    """What fits into a graph, or what a batch needs."""

    rows: int
    stories: int
    longest: int

    def holds(self, needed: _Room) -> bool:
        """Whether that fits."""
        return needed.rows <= self.rows and needed.stories <= self.stories and needed.longest <= self.longest


class GraphedPasses:
    """The loss of packed rows, whose backward pass is a graph as well; for one model, whose weights stay where they are."""

    def __init__(self, model: GPT2LMHeadModel, dtype: torch.dtype, kernels: Kernels) -> None:
        """Nothing is made before the first batch."""
        self._model, self._dtype, self._kernels = model, dtype, kernels
        self._parameters = list(model.parameters())  # to walk through the modules for them takes longer than to start a graph
        self._run: Callable[..., Tensor] | None = None
        self._room = _Room(0, 0, 0)
        self._passes = 0
        self._missed: list[_Room] = []
        """What had no room, of so many passes since the graph was made."""
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
        for parameter in self._parameters:
            if parameter.grad is not None:  # of the micro-batch before: it may lie where the graph will write the next one
                parameter.grad = parameter.grad.clone()
        rows, block = input_ids.shape
        self._passes += 1
        needed = _needed(self._room, rows, block, stories)
        if not self._room.holds(needed):
            self._missed.append(needed)
            if self._run is not None and len(self._missed) < max(_MISSES, _MISSED_SHARE * self._passes):
                return None
            room = self._wanted(block, rows, stories)
            self.release()
            self._run = self._made([*_filled(room, input_ids, position_ids, labels, stories), count], room.longest)
            self._room, self._passes, self._missed = room, 0, []
        if self._run is None:
            return None
        given = _filled(self._room, input_ids, position_ids, labels, stories)
        return self._run(*given, count, *self._parameters).clone()

    def _wanted(self, block: int, rows: int, stories: Stories) -> _Room:
        """For all that fitted so far, all that did not, and these rows filled up to as many."""
        all_of = [self._room, *self._missed]
        room = _Room(max(one.rows for one in all_of), self._room.stories, max(one.longest for one in all_of))
        seen = max(_needed(room, rows, block, stories).stories, *(missed.stories for missed in self._missed))
        return replace(room, stories=max(room.stories, math.ceil(_ROOM * seen)))

    def _made(self, given: list[Tensor], longest: int) -> Callable[..., Tensor] | None:
        """For such batches as this one; None, and the log says why, where it fails."""
        try:
            return self._captured(given, longest)
        except Exception as error:
            if is_out_of_memory(error):
                raise
            self.failure = error.with_traceback(None)  # whose frames hold what was to be captured
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
            logger.warning("A pass can't be a CUDA graph here, and is started kernel by kernel, more slowly (%s)", reason)
            return None

    def _captured(self, given: list[Tensor], longest: int) -> Callable[..., Tensor]:
        """`given` are copied: the graph takes every later batch from where these are."""
        one_pass = _Pass(self._model, self._dtype, self._kernels, longest)
        names = [name for name, _ in one_pass.named_parameters()]
        # The same weights under other tensors: what still holds a graph of autograd over the model's own would break this.
        aliases = [nn.Parameter(weight.detach(), requires_grad=weight.requires_grad) for weight in self._parameters]

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
        self._run, self._room = None, _Room(0, 0, 0)
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


def _needed(room: _Room, rows: int, block: int, stories: Stories) -> _Room:
    """By rows of so many tokens, filled up to those that there is room for by stories of the longest."""
    longest = max(room.longest, stories.longest)
    missing = max(room.rows - rows, 0) * block
    return _Room(rows, len(stories.lengths) + math.ceil(missing / longest), longest)


def _filled(room: _Room, input_ids: Tensor, position_ids: Tensor, labels: Tensor, stories: Stories) -> list[Tensor]:
    """These rows and where their stories end; after them, to fill the room, rows that teach nothing, and empty stories."""
    rows, block = input_ids.shape
    ends, used = stories.ends[: len(stories.lengths) + 1], rows * block
    more = torch.arange(1, room.stories + 2 - len(ends), dtype=ends.dtype, device=ends.device) * room.longest + used
    filled = torch.cat([ends, more.clamp(max=room.rows * block)])
    parts = (input_ids, 0), (position_ids, 0), (labels, IGNORED)
    return [*(functional.pad(part, (0, 0, 0, room.rows - rows), value=value) for part, value in parts), filled]
