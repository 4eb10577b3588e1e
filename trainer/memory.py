"""What a training needs of memory, predicted before its first step, and how its rows are dealt out so that it fits.

A step is `batch_size` rows whatever the machine: those that don't fit at once go one micro-batch after the other and their
gradients add up, which teaches the same (8 x 1 = 1 x 8, a test holds it). Where one row is too much, activations are computed
again in the backward pass rather than kept, which costs a third more time.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import torch

from trainer.cuda_loss import SLICE, TOKENS
from trainer.layout import Layout

if TYPE_CHECKING:
    from transformers import GPT2LMHeadModel

GB = 1e9
_KEPT_PER_LAYER = 21
"""Tensors of (tokens, width) that a block keeps for its backward pass: norms 2, query, key and value 6, attention 3, residuals
2, the wide half of the MLP twice 4."""
_BF16_ON_CPU = 57 / _KEPT_PER_LAYER
"""Bytes a number, in the mean of what autograd keeps (counted): norms, attention and residuals stay in fp32."""
_LOGIT_TOKENS = 1024
"""Tokens whose logits are in memory at once (trainer/story_loss.py)."""
_USABLE = {"cuda": 0.9, "cpu": 0.8}
"""Of the free memory: the rest is for what no formula sees. On a CPU that is what the allocator does not give back in time:
GPT-2 124M was predicted to take 3.7 GB and took 4.1 in its steps, 4.3 with evaluations and saving; 3.2, and 3.4 in its steps,
with activations computed again."""
_CPU_NUMBERS = 1024 * 768
"""In a tensor of (tokens, width): rows beyond that make a CPU no faster and only take memory. So GPT-2 124M takes one row of
1,024, and the bundled model, of which two rows are a third of that, four: 2 to 3 % faster than two in turns of a step each."""


@dataclass(frozen=True)
class Needs:
    """Bytes that a training needs beside what is in memory already."""

    gradients: int
    optimizer: int
    head: int
    activations: int

    @property
    def total(self) -> int:
        """All of them at the peak of a step."""
        return self.gradients + self.optimizer + self.head + self.activations


def is_out_of_memory(error: BaseException) -> bool:
    """CUDA mostly has an error of its own for it; its libraries and torch's allocator for CPUs say it in words."""
    words = ("can't allocate memory", "CUBLAS_STATUS_ALLOC_FAILED", "CUDA error: out of memory")
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or any(word in str(error) for word in words)


def needs(model: GPT2LMHeadModel, optimizer: str, layout: Layout, block: int, dtype: torch.dtype, processes: int = 1) -> Needs:
    """Predicted from the shapes. fp32 but for products and most of what is kept for their backward pass: `dtype`."""
    size = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    matrices = sum(parameter.numel() for parameter in model.transformer.h.parameters() if parameter.ndim == 2)
    moments = 8 * size - (4 * matrices if optimizer == "muon" else 0)
    config = model.config
    tokens = layout.micro_batch * block
    cuda = model.device.type == "cuda"
    half = dtype != torch.float32
    number = 4 if not half else 2 if cuda else _BF16_ON_CPU
    copies = 2 * matrices if half and not layout.lora_rank and not layout.checkpointing else 0
    layers = config.n_layer
    width = config.n_embd
    kept = number * _KEPT_PER_LAYER * (1 if layout.checkpointing else layers) + 4 * layers * layout.checkpointing
    vocabulary = config.vocab_size * width
    return Needs(
        gradients=4 * size * (2 if processes > 1 else 1),  # with several processes, once more in the buckets they exchange
        optimizer=moments,
        head=_head(layout, tokens, vocabulary, config.vocab_size, cuda, half),
        activations=round(tokens * width * kept) + copies,  # those of the weights that are kept for the backward pass
    )


def _head(layout: Layout, tokens: int, weights: int, vocabulary: int, cuda: bool, half: bool) -> int:
    """The logits in memory, and two gradients of the head's weights.

    With LoRA all logits and theirs; and of head and embedding, some of whose rows are taught, a copy and its gradient.
    In half of fp32 are logits and a copy of the weights, and on CUDA a slice of the logits is there some times in all of it.
    """
    if layout.lora_rank:
        return 3 * 4 * tokens * vocabulary + 4 * 4 * weights
    number = 2 if half else 4
    if cuda:
        return (2 * 4 + number) * weights + (number * min(tokens, TOKENS) + 4 * 4 * SLICE) * vocabulary
    return 2 * 4 * weights + number * min(tokens, _LOGIT_TOKENS) * vocabulary + (2 * weights if half else 0)


@dataclass(frozen=True)
class Memory:
    """What is free and what is taken on the device that teaches, in bytes."""

    free: int
    taken: int

    @classmethod
    def now(cls, device: torch.device) -> Memory:
        """As the device says, or for the CPU the operating system."""
        if device.type == "cuda":
            free, _ = torch.cuda.mem_get_info(device)
            unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
            return cls(free + unused, torch.cuda.memory_allocated(device))
        available = psutil.virtual_memory().available
        limit = _container_room()
        return cls(available if limit is None else min(available, limit), psutil.Process().memory_info().rss)


_CONTAINER_FILES = (
    ("memory.max", "memory.current", "memory.stat", "file "),  # cgroups, version 2
    ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes", "memory/memory.stat", "cache "),  # and 1
)


def _container_room(root: Path = Path("/sys/fs/cgroup")) -> int | None:
    """What a container's limit leaves, in bytes; None where there is none. The whole machine's memory says nothing of it.

    Files that are kept in memory until it is wanted are in what a container uses, and are none of its need.
    """
    for limit, used, stat, cached in _CONTAINER_FILES:
        try:
            lines = (root / stat).read_text().splitlines()
            files = sum(int(line.removeprefix(cached)) for line in lines if line.startswith(cached))
            return int((root / limit).read_text()) - int((root / used).read_text()) + files
        except (OSError, ValueError):  # another version of cgroups, or "max"
            continue
    return None


def layouts(batch_size: int, block: int, width: int, device: torch.device, lora_rank: int = 0) -> Iterator[Layout]:
    """From the one that is fastest where memory is no matter to the one that needs the least."""
    most = batch_size if device.type == "cuda" else max(1, _CPU_NUMBERS // (block * width))
    rows = max(n for n in range(1, batch_size + 1) if batch_size % n == 0 and n <= most)
    layout: Layout | None = Layout(rows, lora_rank=lora_rank)
    while layout is not None:
        yield layout
        layout = layout.smaller(batch_size)


@dataclass(frozen=True)
class Choice:
    """A layout, whether it is predicted to fit, and a sentence with the figures."""

    layout: Layout
    fits: bool
    sentence: str


def choose(
    model: GPT2LMHeadModel,
    optimizer: str,
    batch_size: int,
    block: int,
    dtype: torch.dtype,
    processes: int = 1,
    lora_rank: int = 0,
) -> Choice:
    """The first layout that is predicted to fit, or else the smallest."""
    memory = Memory.now(model.device)
    usable = _USABLE.get(model.device.type, 0.8) * memory.free
    *larger, smallest = layouts(batch_size, block, model.config.n_embd, model.device, lora_rank)
    for layout in larger:
        needed = needs(model, optimizer, layout, block, dtype, processes)
        if needed.total < usable:
            return Choice(layout, True, _sentence(layout, batch_size, needed, memory))
    needed = needs(model, optimizer, smallest, block, dtype, processes)
    fits = needed.total < usable
    sentence = _sentence(smallest, batch_size, needed, memory)
    return Choice(smallest, fits, sentence if fits else f"{sentence} That may not fit.")


def _sentence(layout: Layout, batch_size: int, needed: Needs, memory: Memory) -> str:
    again = ", activations computed again" if layout.checkpointing else ""
    lora = f", LoRA of rank {layout.lora_rank}" if layout.lora_rank else ""
    parts = ", ".join(
        f"{name} {size / GB:.1f}"
        for name, size in (
            ("now", memory.taken),
            ("gradients", needed.gradients),
            ("optimizer", needed.optimizer),
            ("head", needed.head),
            ("activations", needed.activations),
        )
    )
    return (
        f"Memory: {(memory.taken + needed.total) / GB:.1f} GB predicted ({parts}), {memory.free / GB:.1f} GB free; "
        f"{layout.micro_batch} of {batch_size} rows at once{again}{lora}."
    )
