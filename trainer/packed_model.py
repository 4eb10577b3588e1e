"""GPT-2 as it is taught: packed rows in, the loss out; stories apart in attention, no logits kept, small things made cheap.

The model stays the model of transformers, and only its forward is another while it is taught (`taught_packed`): whatever saves,
loads or generates with it sees nothing of this.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from types import MethodType
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import nn
from torch.nn import functional
from transformers.modeling_outputs import CausalLMOutput

from trainer import cuda_blocks, packed_attention
from trainer.cheap_dropout import use_cheap_dropout
from trainer.cuda_blocks import PLAIN, Block, Kernels
from trainer.cuda_pass import GraphedPasses
from trainer.lora import inner
from trainer.packed_attention import Stories
from trainer.packing import IGNORED
from trainer.processes import is_launched
from trainer.story_loss import labels_by_place, loss_of_rows

if TYPE_CHECKING:
    from numpy.typing import ArrayLike
    from transformers import GPT2LMHeadModel

_MANY_WEIGHTS = 10**7
"""GPT-2's embedding has 39 million, and a step of it is 2 % faster by it; the bundled model's has one."""


@contextmanager
def taught_packed(model: GPT2LMHeadModel, dtype: torch.dtype, kernels: Kernels = PLAIN) -> Generator[GraphedPasses | None]:
    """Inside, the model takes packed rows and gives the mean loss of their labels, computed in `dtype` on its device.

    Where packed attention does not work, the rows go through transformers' own masked attention. With LoRA around it the model
    is one of peft's, and what is changed is the GPT-2 in it. `kernels` are what a CUDA device runs where it can. Gives the
    passes as graphs, where they are asked for and packed attention works.
    """
    model = inner(model)
    _fuse_gelu(model)
    if model.device.type == "cpu":
        use_cheap_dropout(model)
        _add_few_rows(model)
    if works := packed_attention.works_on(model.device, dtype):
        model.set_attn_implementation(packed_attention.NAME)

    passes = GraphedPasses(model, dtype, kernels) if kernels.graphed and works else None

    def forward(self: GPT2LMHeadModel, *args: Any, **kwargs: Any) -> CausalLMOutput:
        return _forward(self, *args, **kwargs, kernels=kernels, packed=works, passes=passes)

    model.forward = MethodType(forward, model)
    try:
        yield passes
    finally:
        del model.forward
        cast("Any", model.transformer.wte).sparse = False
        model.set_attn_implementation("sdpa")
        if passes is not None:
            passes.release()


@contextmanager
def as_published(model: GPT2LMHeadModel) -> Generator[None]:
    """Inside, a model that is being taught is as whoever loads it will have it: it generates, and drops nothing."""
    whole, model = model, inner(model)
    taught, attention, was_training = model.__dict__.pop("forward", None), model.config._attn_implementation, whole.training  # pyright: ignore[reportPrivateUsage]
    model.set_attn_implementation("sdpa")
    whole.eval()
    try:
        yield
    finally:
        whole.train(was_training)
        model.set_attn_implementation(attention or "sdpa")
        if taught is not None:
            model.forward = taught


def _fuse_gelu(model: GPT2LMHeadModel) -> None:
    """GPT-2's gelu_new is six operations; this is the same function in one. The config keeps the name that others read."""
    if model.config.activation_function in ("gelu_new", "gelu_pytorch_tanh"):
        for block in model.transformer.h:
            cast("Any", block).mlp.act = nn.GELU(approximate="tanh")


def _add_few_rows(model: GPT2LMHeadModel) -> None:
    """Have the embedding add its gradient to the head's, whose weights it shares, row by row.

    Else it would make one as large as the head's, nearly all of it zeros. The gradient of the two together is dense either way.
    DistributedDataParallel would take it for a sparse one, and there it stays. A small model gains nothing by it.
    """
    embedding = model.transformer.wte
    tied = type(embedding) is nn.Embedding and model.lm_head.weight is embedding.weight
    if tied and not is_launched() and embedding.weight.numel() > _MANY_WEIGHTS:
        embedding.sparse = True


def _forward(
    self: GPT2LMHeadModel,
    input_ids: torch.Tensor,
    position_ids: torch.Tensor,
    labels: torch.Tensor | None = None,
    num_items_in_batch: torch.Tensor | int | None = None,
    story_lengths: ArrayLike | None = None,
    kernels: Kernels = PLAIN,
    packed: bool = True,
    passes: GraphedPasses | None = None,
    **_: Any,
) -> CausalLMOutput:
    """Rows of shape (rows, block). With labels the loss, as the sum over `num_items_in_batch` or else over the labels."""
    stories = Stories.of(position_ids, story_lengths)
    taught = packed and self.training and cuda_blocks.fits(self)

    def hidden(block: Block) -> torch.Tensor:
        if taught:
            return cuda_blocks.hidden_states(self, input_ids, position_ids, stories.ends, stories.longest, block)
        return self.transformer(input_ids, position_ids=position_ids, use_cache=False, stories=stories).last_hidden_state

    if labels is None:
        last = hidden(kernels.block)
        with torch.autocast(self.device.type, enabled=False):  # in bf16 GPT-2's logits, which are about -100, are off by 0.25
            return CausalLMOutput(logits=self.lm_head(last.float()))
    asked = (labels[:, 1:] != IGNORED).sum() if num_items_in_batch is None else num_items_in_batch
    if taught and passes is not None and torch.is_grad_enabled():
        loss = passes(input_ids, position_ids, labels, stories, torch.as_tensor(asked, device=self.device))
        if loss is not None:
            return CausalLMOutput(loss=cast("Any", loss))
        if passes.failure is None:  # no room in the graph, too seldom for it to be worth compiling for
            kernels = PLAIN
    if type(self.lm_head) is nn.Linear:
        total = loss_of_rows(hidden(kernels.block), self.lm_head.weight, labels, kernels.softmax)
    else:  # LoRA teaches some rows of it
        last = hidden(kernels.block).flatten(0, 1)
        with torch.autocast("cpu", enabled=False):  # on CUDA the product in fp32 could cost more than all others
            logits = self.lm_head(last.float()).float()
        total = functional.cross_entropy(logits, labels_by_place(labels), ignore_index=IGNORED, reduction="sum")
    return CausalLMOutput(loss=total / asked)
