"""GPT-2's layers on a CPU, as TorchScript: a pass is one call from Python, where it was 20 for each layer.

TorchScript is part of torch and needs no compiler. What it saves is the way from Python into torch, most of all for the
int8 product: 21 us from Python and 6 us from a script for a small one. A pass of the bundled model has 17 of them.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import embedding, gelu, scaled_dot_product_attention

from bot.engine.cpu_linear import MakeLinear
from bot.engine.gpt2_weights import Affine, Gpt2Shape, Gpt2Weights, Layer

GELU_GRAIN = 32768
"""Values from which torch splits an elementwise operation among threads."""


def gelu_grain() -> int:
    """How many values gelu may take at a time, so that torch does not split them among threads unevenly.

    At an uneven split its vectors have a remainder, whose last bits are others, and where that falls depends on the number
    of rows. One or two threads never split so.
    """
    return 2**62 if torch.get_num_threads() <= 2 else GELU_GRAIN


class Norm(nn.Module):
    """Layer norm of rows."""

    def __init__(self, norm: Affine, epsilon: float) -> None:
        super().__init__()
        self.gain, self.bias, self.epsilon = norm.weight, norm.bias, epsilon

    def forward(self, x: Tensor) -> Tensor:
        """(rows, n_embd) to the same."""
        return torch.layer_norm(x, self.bias.shape, self.gain, self.bias, self.epsilon)


class Block(nn.Module):
    """One layer: what comes before attention, attention text by text, and what follows."""

    def __init__(self, layer: Layer, shape: Gpt2Shape, linear: MakeLinear) -> None:
        super().__init__()
        self.ln_1, self.ln_2 = Norm(layer.ln_1, shape.epsilon), Norm(layer.ln_2, shape.epsilon)
        self.attn_in = linear(layer.attn_in.weight, layer.attn_in.bias)
        self.attn_out = linear(layer.attn_out.weight, layer.attn_out.bias)
        self.mlp_in = linear(layer.mlp_in.weight, layer.mlp_in.bias)
        self.mlp_out = linear(layer.mlp_out.weight, layer.mlp_out.bias)
        self.n_embd, self.n_head = shape.n_embd, shape.n_head
        self.scale, self.approximation = shape.attention_scale, shape.gelu

    def forward(self, x: Tensor, cuts: list[int]) -> Tensor:
        """The queries, keys and values of all rows, as (3, 1, n_head, rows, head width)."""
        qkv = self.attn_in(self.ln_1(x), cuts)
        return qkv.view(1, x.shape[0], 3, self.n_head, -1).permute(2, 0, 3, 1, 4)

    def remember(self, qkv: Tensor, texts: list[Tensor], starts: list[int], cuts: list[int]) -> None:
        """Write each text's new keys and values behind the old ones."""
        keys_values = qkv.narrow(0, 1, 2)
        at = 0
        for i, n in enumerate(cuts):
            texts[i].narrow(3, starts[i], n).copy_(keys_values.narrow(3, at, n))
            at += n

    def attend(self, queries: Tensor, texts: list[Tensor], ends: list[int], cuts: list[int], unseen: Tensor) -> Tensor:
        """Each text's newest queries over its own keys and values, up to `ends`."""
        mixed: list[Tensor] = []
        at = 0
        for i, n in enumerate(cuts):
            end = ends[i]
            keys, values = texts[i].narrow(3, 0, end).unbind(0)
            mask = unseen.narrow(0, end - n, n).narrow(1, 0, end) if n > 1 else None
            one = scaled_dot_product_attention(queries.narrow(2, at, n), keys, values, attn_mask=mask, scale=self.scale)
            mixed.append(one.transpose(1, 2).reshape(n, self.n_embd))
            at += n
        return mixed[0] if len(mixed) == 1 else torch.cat(mixed)

    def finish(self, x: Tensor, mixed: Tensor, cuts: list[int], grain: int) -> Tensor:
        """What follows attention, with the two sums around it."""
        x = self.attn_out(mixed, cuts).add_(x)
        return self.mlp_out(self.gelu(self.mlp_in(self.ln_2(x), cuts), grain), cuts).add_(x)

    def gelu(self, x: Tensor, grain: int) -> Tensor:
        """In pieces of `grain` values at most."""
        if x.numel() <= grain:
            return gelu(x, approximate=self.approximation)
        pieces: list[Tensor] = []
        for piece in x.split(max(1, grain // x.shape[1])):
            pieces.append(gelu(piece, approximate=self.approximation))  # noqa: PERF401 - TorchScript
        return torch.cat(pieces)


class Layers(nn.Module):
    """All of the model: the pass over slots, and the one without them that a score takes."""

    def __init__(self, weights: Gpt2Weights, linear: MakeLinear) -> None:
        super().__init__()
        self.embedding, self.positions = weights.embedding, weights.positions
        self.blocks = nn.ModuleList(Block(layer, weights.shape, linear) for layer in weights.layers)
        self.ln_f = Norm(weights.ln_f, weights.shape.epsilon)
        self.head = linear(weights.head.t(), None)
        self.last = weights.shape.n_layer - 1
        self.n_head, self.scale = weights.shape.n_head, weights.shape.attention_scale
        # added to the scores of attention: 0 for what a token may see, -inf for what comes after it
        self.unseen = torch.full((weights.shape.n_positions, weights.shape.n_positions), -torch.inf).triu(1)

    def forward(
        self,
        ids: list[int],
        caches: list[Tensor],
        slots: list[int],
        starts: list[int],
        cuts: list[int],
        wanted: list[int],
        grain: int,
    ) -> Tensor:
        """The logits after the last token of the parts that `wanted` counts; `cuts` are the parts' numbers of tokens."""
        positions: list[int] = []
        last_rows: list[int] = []
        ends: list[int] = []
        for i, n in enumerate(cuts):
            for position in range(starts[i], starts[i] + n):
                positions.append(position)  # noqa: PERF402 - TorchScript
            last_rows.append(len(positions) - 1)
            ends.append(starts[i] + n)
        x = embedding(torch.tensor(ids), self.embedding).add_(embedding(torch.tensor(positions), self.positions))
        for index, block in enumerate(self.blocks):
            qkv = block(x, cuts)
            texts: list[Tensor] = []
            for slot in slots:
                texts.append(caches[index].select(0, slot))  # noqa: PERF401 - TorchScript
            block.remember(qkv, texts, starts, cuts)  # pyright: ignore[reportCallIssue]
            queries = qkv.select(0, 0)
            if index == self.last and len(wanted) < len(ids):  # after this only the tokens count whose logits are wanted
                rows = torch.tensor([last_rows[i] for i in wanted], dtype=torch.long)
                x, queries = x.index_select(0, rows), queries.index_select(2, rows)
                texts, ends, cuts = [texts[i] for i in wanted], [ends[i] for i in wanted], [1 for _ in wanted]
            if len(cuts) > 0:
                mixed = block.attend(queries, texts, ends, cuts, self.unseen)  # pyright: ignore[reportCallIssue]
                x = block.finish(x, mixed, cuts, grain)  # pyright: ignore[reportCallIssue]
        if len(cuts) == 0:
            return torch.empty(0, self.embedding.shape[0])
        return self.head(self.ln_f(x), cuts)

    @torch.jit.export
    def hidden(self, texts: Tensor, grain: int) -> Tensor:
        """(texts, tokens) of one length, read without a slot, to the states under the head."""
        n_texts, length = texts.shape[0], texts.shape[1]
        cuts = [n_texts * length]
        x = (embedding(texts, self.embedding) + self.positions.narrow(0, 0, length)).flatten(0, 1)
        for block in self.blocks:
            # (3, 1, n_head, all rows, head width): a text's rows lie together
            qkv = block(x, cuts).view(3, self.n_head, n_texts, length, -1).transpose(1, 2)
            mixed = scaled_dot_product_attention(qkv[0], qkv[1], qkv[2], is_causal=True, scale=self.scale)
            x = block.finish(x, mixed.transpose(1, 2).reshape(n_texts * length, -1), cuts, grain)  # pyright: ignore[reportCallIssue]
        return self.ln_f(x).view(n_texts, length, -1)

    @torch.jit.export
    def logits(self, states: Tensor) -> Tensor:
        """(texts, tokens, n_embd) to (texts, tokens, vocabulary)."""
        rows = states.flatten(0, 1)
        return self.head(rows, [rows.shape[0]]).view(states.shape[0], states.shape[1], -1)
