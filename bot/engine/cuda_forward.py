"""GPT-2's forward pass on a GPU: shapes that never change, so that a step is one graph and not 150 kernels to start.

    keys and values   layer -> (slots, positions, heads, head width); the rows of a step are the slots themselves, and an
                      empty slot's row writes to one position more than the context has, which nobody reads
    a step            replayed from a graph; there is one for each number of rows (1, 2, 4, ...) and of positions looked
                      back on (128, 256, ...), made when it is first needed, in some hundredths of a second
    prompts           go through the layers side by side, as many tokens as there are

The GPU's products sum in another order for another number of rows, in bf16 most of all: the same seed need not give the same
story here. Without a GPU the same code runs without graphs, which is how most of its tests run.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn.functional import embedding, gelu, layer_norm, linear, pad, scaled_dot_product_attention

from bot.engine.cuda_graph import Replay, power_of_two
from bot.engine.part_checks import check_parts, check_prefixes

if TYPE_CHECKING:
    from bot.engine.forward import Part
    from bot.engine.gpt2_weights import Affine, Gpt2Weights

_SHORTEST_LOOK = 128
_ALIGNED = 64
"""The head is filled up to a multiple of so many columns: an odd number of them has only slow kernels."""
_LOGITS_AT_ONCE = 2**26
"""Held at a time while scoring: 256 MiB."""


@dataclass(frozen=True)
class _Product:
    weight: Tensor
    """(out, in), as torch's `linear` has it."""
    bias: Tensor

    def __call__(self, x: Tensor) -> Tensor:
        return linear(x, self.weight, self.bias)


@dataclass(frozen=True)
class _Norm:
    gain: Tensor
    bias: Tensor
    epsilon: float

    def __call__(self, x: Tensor) -> Tensor:
        return layer_norm(x, self.gain.shape, self.gain, self.bias, self.epsilon)


@dataclass(frozen=True)
class _Layer:
    ln_1: _Norm
    attn_in: _Product
    attn_out: _Product
    ln_2: _Norm
    mlp_in: _Product
    mlp_out: _Product


class CudaForward:
    """A Forward in static shapes."""

    repeatable = False

    def __init__(self, weights: Gpt2Weights, device: torch.device, dtype: torch.dtype, slots: int) -> None:
        """Copies the weights to the device."""
        self._shape, self._device, self._dtype = weights.shape, device, dtype
        self._embedding, self._positions = self._moved(weights.embedding), self._moved(weights.positions)
        self._layers = [
            _Layer(
                self._norm(layer.ln_1),
                self._product(layer.attn_in),
                self._product(layer.attn_out),
                self._norm(layer.ln_2),
                self._product(layer.mlp_in),
                self._product(layer.mlp_out),
            )
            for layer in weights.layers
        ]
        self._ln_f = self._norm(weights.ln_f)
        head = self._embedding if weights.head is weights.embedding else self._moved(weights.head)
        missing = -weights.shape.vocab_size % _ALIGNED
        self._head = pad(head, (0, 0, 0, missing)) if missing else head
        self.resize(slots)

    @property
    def device(self) -> torch.device:
        """Where it runs."""
        return self._device

    def _moved(self, tensor: Tensor) -> Tensor:
        return tensor.to(self._device, self._dtype)

    def _norm(self, part: Affine) -> _Norm:
        return _Norm(self._moved(part.weight), self._moved(part.bias), self._shape.epsilon)

    def _product(self, part: Affine) -> _Product:
        return _Product(self._moved(part.weight).t().contiguous(), self._moved(part.bias))

    @property
    def slots(self) -> int:
        """How many texts can be held at once."""
        return self._slots

    @property
    def n_positions(self) -> int:
        """The context in tokens."""
        return self._shape.n_positions

    @property
    def weight_bytes(self) -> int:
        """Of the weights in the matrix products."""
        return self._shape.product_weights * self._embedding.element_size()

    def resize(self, slots: int) -> None:
        """Hold so many texts from now on; what the slots held is lost."""
        shape = self._shape
        self._steps: dict[tuple[int, int], _Step] = {}
        self._caches: list[tuple[Tensor, Tensor]] = []  # given back before there are new ones
        if self._device.type == "cuda":
            torch.cuda.empty_cache()
        self._slots = slots
        size = (slots, shape.n_positions + 1, shape.n_head, shape.n_embd // shape.n_head)

        def zeros() -> Tensor:
            return torch.zeros(size, dtype=self._dtype, device=self._device)

        self._caches = [(zeros(), zeros()) for _ in self._layers]

    @torch.inference_mode()
    def __call__(self, parts: Sequence[Part]) -> Tensor:
        """One pass; see Forward. The logits are valid until the next one."""
        check_parts(parts, self.slots, self.n_positions, self._shape.vocab_size)
        steps = [part for part in parts if len(part.ids) == 1 and part.wanted]
        prompts = [part for part in parts if len(part.ids) > 1 or not part.wanted]
        if not prompts:
            return self._step(steps)
        read = self._read(prompts)
        if not steps:
            return read
        stepped = self._step(steps)
        if not len(read):
            return stepped
        from_steps, from_prompts = iter(stepped), iter(read)
        return torch.stack([next(from_steps if len(part.ids) == 1 else from_prompts) for part in parts if part.wanted])

    def _step(self, parts: Sequence[Part]) -> Tensor:
        rows = power_of_two(max(part.slot for part in parts) + 1, 1, self._slots)
        look = power_of_two(max(part.start for part in parts) + 1, _SHORTEST_LOOK, self.n_positions)
        step = self._steps.get((rows, look))
        if step is None:
            step = self._steps[rows, look] = _Step(self, rows, look)
        logits = step(parts)
        slots = [part.slot for part in parts]
        return logits if slots == list(range(rows)) else logits[slots]

    def one_token_each(self, tokens: Tensor, positions: Tensor, look: int) -> Tensor:
        """The logits after one more token in each of the first slots, at these positions; `look` of them are looked at.

        `tokens` and `positions` are int64 of shape (rows,), on the device. Nothing is read back, and no shape depends on them.
        """
        rows = torch.arange(len(tokens), device=self._device)
        x = embedding(tokens, self._embedding) + embedding(positions.clamp(max=self.n_positions - 1), self._positions)
        seen = (torch.arange(look, device=self._device) <= positions[:, None])[:, None, None]
        for layer, (keys, values) in zip(self._layers, self._caches, strict=True):
            query, key, value = self._apart(layer.attn_in(layer.ln_1(x)))
            keys[rows, positions] = key
            values[rows, positions] = value
            mixed = scaled_dot_product_attention(
                query[:, :, None],
                keys[: len(tokens), :look].transpose(1, 2),
                values[: len(tokens), :look].transpose(1, 2),
                attn_mask=seen,
                scale=self._shape.attention_scale,
            )
            x = self._finish(layer, x, mixed.flatten(1))
        return self._logits(x)

    def _read(self, parts: Sequence[Part]) -> Tensor:
        """Prompts, or parts of some: all their tokens side by side through each layer."""
        tokens = [(token, part.start + at, part.slot) for part in parts for at, token in enumerate(part.ids)]
        ids, positions, slots = torch.tensor(tokens, device=self._device).unbind(1)
        x = embedding(ids, self._embedding) + embedding(positions, self._positions)
        for layer, (keys, values) in zip(self._layers, self._caches, strict=True):
            query, key, value = self._apart(layer.attn_in(layer.ln_1(x)))
            keys[slots, positions] = key
            values[slots, positions] = value
            x = self._finish(layer, x, self._attend(parts, query, keys, values))
        ends = torch.tensor([len(part.ids) for part in parts]).cumsum(0) - 1
        last = ends[torch.tensor([part.wanted for part in parts])].to(self._device)
        return self._logits(x[last])

    def _attend(self, parts: Sequence[Part], query: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """Each part to what its slot holds, up to its own last token; (tokens, n_embd)."""
        mixed: list[Tensor] = []
        first = 0
        for part in parts:
            count, end = len(part.ids), part.start + len(part.ids)
            seen = torch.ones(count, end, dtype=torch.bool, device=self._device).tril(part.start)
            own = scaled_dot_product_attention(
                query[first : first + count].transpose(0, 1)[None],
                keys[part.slot, :end].transpose(0, 1)[None],
                values[part.slot, :end].transpose(0, 1)[None],
                attn_mask=seen,
                scale=self._shape.attention_scale,
            )
            mixed.append(own[0].transpose(0, 1).flatten(1))
            first += count
        return torch.cat(mixed)

    @torch.inference_mode()
    def score(self, prefixes: Sequence[Sequence[int]], continuation: Sequence[int]) -> list[float]:
        """Sum up log P(continuation | prefix) in nats for each prefix; see Forward."""
        check_prefixes(prefixes, continuation, self.n_positions, self._shape.vocab_size)
        texts = torch.tensor([[*prefix, *continuation[:-1]] for prefix in prefixes], device=self._device)
        targets = torch.tensor(continuation, device=self._device)
        x = embedding(texts, self._embedding) + self._positions[: texts.shape[1]]
        for layer in self._layers:
            query, key, value = (part.transpose(1, 2) for part in self._apart(layer.attn_in(layer.ln_1(x))))
            mixed = scaled_dot_product_attention(query, key, value, is_causal=True, scale=self._shape.attention_scale)
            x = self._finish(layer, x, mixed.transpose(1, 2).flatten(2))
        x = x[:, len(prefixes[0]) - 1 :]
        together = max(1, _LOGITS_AT_ONCE // (len(texts) * self._shape.vocab_size))
        totals = torch.zeros(len(texts), dtype=torch.float64, device=self._device)
        for states, tokens in zip(x.split(together, 1), targets.split(together), strict=True):
            log_p = self._logits(states).log_softmax(-1).gather(-1, tokens.expand(len(texts), -1).unsqueeze(-1))
            totals += log_p.double().sum(dim=(1, 2))
        return totals.tolist()

    def _apart(self, joined: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values, each (..., heads, head width), of (..., 3 * n_embd)."""
        query, key, value = joined.unflatten(-1, (3, self._shape.n_head, -1)).unbind(-3)
        return query, key, value

    def _finish(self, layer: _Layer, x: Tensor, mixed: Tensor) -> Tensor:
        """What follows attention, with the two sums around it."""
        x = x + layer.attn_out(mixed)
        return x + layer.mlp_out(gelu(layer.mlp_in(layer.ln_2(x)), approximate=self._shape.gelu))

    def _logits(self, x: Tensor) -> Tensor:
        return linear(self._ln_f(x), self._head)[..., : self._shape.vocab_size].float()


class _Step:
    """One token for each of the first `rows` slots, from a buffer that stays where it is."""

    def __init__(self, forward: CudaForward, rows: int, look: int) -> None:
        self._nowhere = forward.n_positions
        self._rows = rows
        on_cuda = forward.device.type == "cuda"
        self._host = torch.zeros(2, rows, dtype=torch.int64, pin_memory=on_cuda)
        self._inputs = torch.zeros(2, rows, dtype=torch.int64, device=forward.device)
        self._inputs[1] = self._nowhere  # a graph is made by running: nobody's keys may be written over
        self._replay = Replay(lambda: forward.one_token_each(self._inputs[0], self._inputs[1], look), forward.device)

    def __call__(self, parts: Sequence[Part]) -> Tensor:
        tokens, positions = [0] * self._rows, [self._nowhere] * self._rows
        for part in parts:
            tokens[part.slot], positions[part.slot] = part.ids[0], part.start
        self._host.copy_(torch.tensor([tokens, positions]))
        self._inputs.copy_(self._host, non_blocking=True)
        return self._replay()
