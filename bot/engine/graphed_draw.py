"""The draw of a round on a GPU from buffers that stay where they are, replayed as one graph: it has some forty kernels.

Started one by one they take longer than GPT-2's whole pass for one story.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch
from torch import Tensor

from bot.engine.cuda_graph import Replay, power_of_two
from bot.engine.sampling import Asked, Columns, draw, workspace


@dataclass(frozen=True)
class _Kind:
    """What a graph is for."""

    rows: int
    k: int
    asked: Asked
    seen: int
    """Tokens in each row's list; 0 for no penalty."""
    banned: int


class GraphedDraws:
    """`draw`, with one graph for each kind of it, made when the kind first comes."""

    def __init__(self, bias: Tensor, spare: int) -> None:
        """`bias` is that of `draw`; `spare` pads lists of tokens."""
        self._bias, self._spare = bias, spare
        self._graphs: dict[_Kind, _Graph] = {}

    def __call__(self, logits: Tensor, columns: Columns, k: int, asked: Asked) -> tuple[Tensor, Tensor]:
        """The tokens of `draw`, and a copy of the logits; both valid until the next call."""
        seen = 0 if columns.seen is None else columns.seen.shape[1]
        banned = 0 if columns.banned is None else power_of_two(columns.banned.shape[1])
        kind = _Kind(power_of_two(len(logits)), k, asked, seen, banned)
        graph = self._graphs.get(kind)
        if graph is None:
            graph = self._graphs[kind] = _Graph(kind, self._bias, self._spare)
        return graph(logits, columns)


class _Graph:
    """Rows that nobody has keep old numbers, and their tokens are not looked at."""

    def __init__(self, kind: _Kind, bias: Tensor, spare: int) -> None:
        rows, device = kind.rows, bias.device
        self._spare = spare
        self._logits = torch.zeros(rows, len(bias), device=device)
        one = torch.ones(rows, 1, device=device)
        self._columns = Columns(
            uniform=torch.zeros(rows, 1, dtype=torch.float64, device=device),
            temperature=one.clone(),
            top_k=torch.ones(rows, 1, dtype=torch.int64, device=device),
            top_p=one.clone(),
            min_p=torch.zeros(rows, 1, device=device),
            penalty=one.clone() if kind.seen else None,
            seen=torch.full((rows, kind.seen), spare, device=device) if kind.seen else None,
            banned=torch.full((rows, kind.banned), spare, device=device) if kind.banned else None,
        )
        self._filled_from: Columns | None = None
        self._bias, self._work = bias, workspace(rows, len(bias), device)  # kept: the graph has their addresses
        self._replay = Replay(lambda: draw(self._logits, self._bias, self._work, self._columns, kind.k, kind.asked), device)

    def __call__(self, logits: Tensor, columns: Columns) -> tuple[Tensor, Tensor]:
        rows = len(logits)
        self._logits[:rows].copy_(logits)
        before, self._filled_from = self._filled_from, columns
        for name in (field.name for field in fields(Columns)):
            given, kept = getattr(columns, name), getattr(self._columns, name)
            if given is None or (before is not None and getattr(before, name) is given):
                continue  # while nobody comes or goes most columns are those of the round before
            if name == "banned":
                kept.fill_(self._spare)
            kept[:rows, : given.shape[1]].copy_(given, non_blocking=True)
        return self._replay()[:rows], self._logits[:rows]
