"""Whole steps of a CPU forward in int8, one token for each text: what cpu_kernels.py compiles, over the forward's own weights.

Prompts stay with torch, whose int8 product takes 0.6 of our time for 64 rows at once, as prompts are read. Which of the two a
token goes through depends on how its own text is cut alone, so a text still is the same whatever else is in the pass.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from threading import Lock
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from bot.engine.cpu_compile import compile_step
from bot.engine.forward import Part

if TYPE_CHECKING:
    from bot.engine.cpu_kernels import Model, Norm, Product
    from bot.engine.cpu_layers import Block, Layers
    from bot.engine.cpu_linear import Int8Linear
    from bot.engine.gpt2_weights import Affine, Gpt2Weights

logger = logging.getLogger(__name__)


def token_step(weights: Gpt2Weights, layers: Layers) -> CompiledStep | None:
    """The step for these layers, whose products are in int8; None, with a line in the log, where numba does not work."""
    try:
        compile_step()
        return CompiledStep(weights, layers)
    except Exception as error:  # noqa: BLE001 - a host may lack LLVM, forbid compiled code, or have no room for it
        logger.warning("numba can't compile on this host, so a story is written at half the speed or less (%s)", error)
        return None


class CompiledStep:
    """One token for each text."""

    _one_at_a_time = Lock()  # for the process: some of numba's thread pools end it when two threads come at once

    def __init__(self, weights: Gpt2Weights, layers: Layers) -> None:
        from bot.engine.cpu_kernels import token_step

        self._shape = weights.shape
        self._model = _model(weights, layers)
        self._run = token_step

    def __call__(self, cache: Tensor, parts: Sequence[Part]) -> Tensor:
        """The logits of those parts that want them; each part has one token. `cache` holds all layers' keys and values:
        (layers, slots, 2, n_head, n_positions, head width), contiguous.
        """
        numbers = np.array([(part.ids[0], part.slot, part.start) for part in parts], np.int64)
        ids, slots, positions = np.ascontiguousarray(numbers.T)
        wanted = np.array([row for row, part in enumerate(parts) if part.wanted], np.int64)
        scale, epsilon = np.float32(self._shape.attention_scale), np.float32(self._shape.epsilon)
        exact = self._shape.gelu == "none"
        arguments = self._model, cache.numpy(), ids, slots, positions, wanted, scale, epsilon, exact
        threads = _threads()
        if threads == 1:
            return torch.from_numpy(self._run(*arguments, 1))
        import numba

        with self._one_at_a_time:
            numba.set_num_threads(threads)  # this thread's own number
            return torch.from_numpy(self._run(*arguments, threads))


def _threads() -> int:
    """As many as torch's, which are chosen by measuring (thread_choice.py), or by the host."""
    import numba

    most: int = numba.config.NUMBA_NUM_THREADS  # pyright: ignore - documented, but not typed
    return max(1, min(torch.get_num_threads(), most))


def _model(weights: Gpt2Weights, layers: Layers) -> Model:
    from bot.engine.cpu_kernels import Model  # numba, which not every host has a use for

    blocks = cast("list[Block]", list(layers.blocks))
    return Model(
        embedding=weights.embedding.numpy(),
        positions=weights.positions.numpy(),
        ln_1=_norm([layer.ln_1 for layer in weights.layers]),
        attn_in=_product([block.attn_in for block in blocks]),
        attn_out=_product([block.attn_out for block in blocks]),
        ln_2=_norm([layer.ln_2 for layer in weights.layers]),
        mlp_in=_product([block.mlp_in for block in blocks]),
        mlp_out=_product([block.mlp_out for block in blocks]),
        ln_f=_norm([weights.ln_f]),
        head=_product([layers.head]),
    )


def _norm(norms: Sequence[Affine]) -> Norm:
    from bot.engine.cpu_kernels import Norm

    return Norm(_together([norm.weight for norm in norms]), _together([norm.bias for norm in norms]))


def _product(linears: Sequence[nn.Module]) -> Product:
    from bot.engine.cpu_kernels import Product

    int8 = cast("Sequence[Int8Linear]", linears)
    steps, scales = zip(*(linear.unpacked() for linear in int8), strict=True)
    biases = [torch.zeros(len(scales[0])) if linear.bias is None else linear.bias for linear in int8]
    return Product(_together(steps), _together(scales), _together(biases))


def _together(tensors: Sequence[Tensor]) -> NDArray[Any]:
    return torch.stack(list(tensors)).contiguous().numpy()
