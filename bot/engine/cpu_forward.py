"""GPT-2's forward pass on a CPU: all texts in flight share each matrix product, and none can tell.

    keys and values   layer -> (slots * n_positions, 2 * n_embd): a text's tokens lie one after another in its slot
    one pass          [text a: 20 tokens of its prompt | text b: 1 | text c: 1]  rows of one tensor through all layers;
                      only attention goes text by text, over the text's own tokens

A text's logits are the same bit for bit whatever else is in the pass: the linear layers see to it row by row (see
cpu_linear.py), attention's shapes are of one text, and all else works on a row alone. They do depend on where the text's
own prompt is cut into parts. The price is attention's calls, 12 x 0.04 ms for each further text of GPT-2 124M.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn.functional import embedding, gelu, layer_norm, scaled_dot_product_attention

from bot.engine.gpt2_weights import Affine, Gpt2Weights
from bot.engine.part_checks import check_parts, check_prefixes

if TYPE_CHECKING:
    from bot.engine.cpu_linear import Linear
    from bot.engine.forward import Part

LOGITS_AT_ONCE = 2**24
"""Logits held at a time while scoring (64 MiB): 14 prefixes x 200 tokens x 50k would else take 560 MB."""
ROWS_AT_ONCE = 4096
"""Tokens read at a time while scoring: their widest activation takes 50 MB in GPT-2 124M."""
GELU_GRAIN = 32768
"""Values from which torch splits an elementwise operation among threads."""


@dataclass(frozen=True)
class _Block:
    ln_1: Affine
    attn_in: Linear
    attn_out: Linear
    ln_2: Affine
    mlp_in: Linear
    mlp_out: Linear


class CpuForward:
    """A Forward over weights in fp32 or int8, by the `linear` it is made with."""

    repeatable = True

    def __init__(self, weights: Gpt2Weights, linear: Callable[[Tensor, Tensor | None], Linear], slots: int) -> None:
        """Takes `weights` over; `linear` makes each matrix product from (in, out) weights and a bias."""
        self._shape = weights.shape
        self._embedding, self._positions, self._ln_f = weights.embedding, weights.positions, weights.ln_f
        self._blocks = [
            _Block(
                layer.ln_1,
                linear(layer.attn_in.weight, layer.attn_in.bias),
                linear(layer.attn_out.weight, layer.attn_out.bias),
                layer.ln_2,
                linear(layer.mlp_in.weight, layer.mlp_in.bias),
                linear(layer.mlp_out.weight, layer.mlp_out.bias),
            )
            for layer in weights.layers
        ]
        self._head = linear(weights.head.t(), None)
        # added to the scores of a prompt's later parts: 0 for what a token may see, -inf for what comes after it
        self._unseen = torch.full((self.n_positions, self.n_positions), -torch.inf).triu(1)
        self.resize(slots)

    @property
    def slots(self) -> int:
        """How many texts can be held at once."""
        return self._slots

    @property
    def n_positions(self) -> int:
        """The context in tokens."""
        return self._shape.n_positions

    def resize(self, slots: int) -> None:
        """Hold so many texts from now on. The memory of a slot is taken by the system as the slot fills."""
        self._slots = slots
        self._cache: list[Tensor] = []  # the old ones go before the new ones come
        rows, wide = slots * self.n_positions, self._shape.n_embd
        heads = (slots, self.n_positions, 2, self._shape.n_head, wide // self._shape.n_head)
        self._cache = [torch.empty(rows, 2 * wide) for _ in self._blocks]
        # for each layer and slot: (keys and values, 1, heads, positions, width of a head), a view
        self._texts = [[text.permute(1, 2, 0, 3).unsqueeze(1) for text in rows.view(heads)] for rows in self._cache]

    @torch.inference_mode()
    def __call__(self, parts: Sequence[Part]) -> Tensor:
        """One pass; see Forward."""
        check_parts(parts, self._slots, self.n_positions, self._shape.vocab_size)
        ids = torch.tensor([token for part in parts for token in part.ids])
        positions = torch.tensor([at for part in parts for at in range(part.start, part.start + len(part.ids))])
        slots = torch.tensor([part.slot for part in parts for _ in part.ids])
        rows = positions + slots * self.n_positions
        cuts = [len(part.ids) for part in parts]
        x = embedding(ids, self._embedding).add_(embedding(positions, self._positions))
        for index, block in enumerate(self._blocks[:-1]):
            queries = self._remember(block, index, x, rows, cuts)
            x = self._finish(block, x, self._attend(index, parts, queries, cuts), cuts)
        return self._last(x, parts, rows, cuts)

    def _last(self, x: Tensor, parts: Sequence[Part], rows: Tensor, cuts: list[int]) -> Tensor:
        """The last layer, where after the keys and values only the tokens count whose logits are wanted."""
        index = len(self._blocks) - 1
        block = self._blocks[index]
        queries = self._remember(block, index, x, rows, cuts)
        wanted = [part for part in parts if part.wanted]
        if not wanted:
            return torch.empty(0, self._shape.vocab_size)
        if len(wanted) < len(x):
            ends = torch.tensor(cuts).cumsum(0).sub_(1)[torch.tensor([part.wanted for part in parts])]
            x, queries = x[ends], queries[ends]
        cuts = [1] * len(wanted)
        x = self._finish(block, x, self._attend(index, wanted, queries, cuts), cuts)
        return self._head(self._norm(x, self._ln_f), cuts)

    def _remember(self, block: _Block, index: int, x: Tensor, rows: Tensor, cuts: list[int]) -> Tensor:
        """Write the keys and values of all tokens to their slots; the queries, a view."""
        qkv = block.attn_in(self._norm(x, block.ln_1), cuts)
        wide = self._shape.n_embd
        self._cache[index].index_copy_(0, rows, qkv[:, wide:])
        return qkv[:, :wide]

    def _attend(self, index: int, parts: Sequence[Part], queries: Tensor, cuts: list[int]) -> Tensor:
        """Each text's queries over its own keys and values; the queries are its newest tokens."""
        n_head, scale = self._shape.n_head, self._shape.attention_scale
        results: list[Tensor] = []
        for part, query, n in zip(parts, queries.split_with_sizes(cuts), cuts, strict=True):
            end = part.start + len(part.ids)
            keys, values = self._texts[index][part.slot][:, :, :, :end]
            heads = query.view(1, n, n_head, -1).transpose(1, 2)
            unseen = self._unseen[end - n : end, :end] if n > 1 else None
            mixed = scaled_dot_product_attention(heads, keys, values, attn_mask=unseen, scale=scale)
            results.append(mixed.transpose(1, 2).reshape(n, -1))
        return results[0] if len(results) == 1 else torch.cat(results)

    def _finish(self, block: _Block, x: Tensor, mixed: Tensor, cuts: list[int]) -> Tensor:
        """What follows attention in a layer."""
        x = block.attn_out(mixed, cuts).add_(x)
        inner = self._gelu(block.mlp_in(self._norm(x, block.ln_2), cuts))
        return block.mlp_out(inner, cuts).add_(x)

    def _norm(self, x: Tensor, norm: Affine) -> Tensor:
        return layer_norm(x, (self._shape.n_embd,), norm.weight, norm.bias, self._shape.epsilon)

    def _gelu(self, x: Tensor) -> Tensor:
        """In pieces that torch does not split among threads: at a split its vectors have a remainder, whose last bits are
        others, and where that falls depends on the number of rows. With one or two threads no split is uneven.
        """
        if x.numel() <= GELU_GRAIN or torch.get_num_threads() <= 2:
            return gelu(x, approximate=self._shape.gelu)
        rows = max(1, GELU_GRAIN // x.shape[1])
        return torch.cat([gelu(piece, approximate=self._shape.gelu) for piece in x.split(rows)])

    @torch.inference_mode()
    def score(self, prefixes: Sequence[Sequence[int]], continuation: Sequence[int]) -> list[float]:
        """Log P(continuation | prefix) in nats for each prefix; see Forward."""
        check_prefixes(prefixes, continuation, self.n_positions, self._shape.vocab_size)
        length = len(prefixes[0]) + len(continuation) - 1  # the last token is only predicted, never read
        texts = torch.tensor([[*prefix, *continuation] for prefix in prefixes])
        together = max(1, ROWS_AT_ONCE // length)
        return [score for some in texts.split(together) for score in self._score(some, len(prefixes[0]))]

    def _score(self, texts: Tensor, given: int) -> list[float]:
        hidden = self._hidden(texts[:, :-1])[:, given - 1 :]
        targets = texts[:, given:]
        positions = max(1, LOGITS_AT_ONCE // (len(texts) * self._shape.vocab_size))
        totals = torch.zeros(len(texts), dtype=torch.float64)
        for states, tokens in zip(hidden.split(positions, 1), targets.split(positions, 1), strict=True):
            logits = self._head(states.flatten(0, 1), [states.shape[0] * states.shape[1]]).view(*tokens.shape, -1)
            log_p = logits.log_softmax(-1).gather(-1, tokens.unsqueeze(-1))
            totals += log_p.sum(dim=(1, 2)).double()
        return totals.tolist()

    def _hidden(self, texts: Tensor) -> Tensor:
        """(texts, tokens) of one length, read without a slot, to the states under the head."""
        n_texts, length = texts.shape
        cuts = [n_texts * length]
        x = (embedding(texts, self._embedding) + self._positions[:length]).flatten(0, 1)
        for block in self._blocks:
            qkv = block.attn_in(self._norm(x, block.ln_1), cuts).view(n_texts, length, 3, self._shape.n_head, -1)
            queries, keys, values = qkv.permute(2, 0, 3, 1, 4)
            scale = self._shape.attention_scale
            mixed = scaled_dot_product_attention(queries, keys, values, is_causal=True, scale=scale)
            x = self._finish(block, x, mixed.transpose(1, 2).reshape(n_texts * length, -1), cuts)
        return self._norm(x, self._ln_f).view(n_texts, length, -1)
