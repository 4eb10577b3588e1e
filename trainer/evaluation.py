"""Held-out loss: what the model gives to stories it was never taught, in nats per token and in bits per byte, per genre.

Scored is the text of each story and its end, after tag and prompt; the prompt is the story's own or none, since a prompt drawn
from the text would tell the model what it should find out. Bits per byte compares across tokenizers, nats per token does not.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from torch.nn import functional

from trainer.packing import IGNORED, Tokens, lay_out, pack

if TYPE_CHECKING:
    from transformers import GPT2LMHeadModel

    from trainer.material import Passage
    from trainer.story_format import StoryCodec

NO_GENRE = "(none)"
_TOKENS_AT_ONCE = {"cpu": 1024, "cuda": 4096}
"""Their logits are the largest thing in an evaluation: 0.6 GB for 1,024 with GPT-2's vocabulary."""


@dataclass(frozen=True)
class Score:
    """Loss over some stories."""

    nats: float
    tokens: int
    bytes: int
    stories: int

    @property
    def nats_per_token(self) -> float:
        """The cross-entropy that training minimises."""
        return self.nats / self.tokens

    @property
    def bits_per_byte(self) -> float:
        """The same in bits for each byte of UTF-8 text."""
        return self.nats / math.log(2) / self.bytes

    def __add__(self, other: Score) -> Score:
        """Both together."""
        return Score(self.nats + other.nats, self.tokens + other.tokens, self.bytes + other.bytes, self.stories + other.stories)

    def as_dict(self) -> dict[str, float]:
        """For the JSON line."""
        return {
            "nats_per_token": round(self.nats_per_token, 4),
            "bits_per_byte": round(self.bits_per_byte, 4),
            "stories": self.stories,
            "tokens": self.tokens,
        }


@dataclass(frozen=True)
class HeldOutRow:
    """One packed row and whose stories it holds, in order."""

    input_ids: Tokens
    position_ids: Tokens
    labels: Tokens
    owners: Tokens
    """For each position the index of the story that its label belongs to."""


class HeldOut:
    """Held-out stories, packed once and scored as often as asked."""

    def __init__(self, passages: Sequence[Passage], codec: StoryCodec, block: int) -> None:
        """Encodes and packs the stories."""
        self.passages = passages
        self._stories: list[list[int]] = []
        self._openings: list[int] = []
        for passage, text_ids in zip(passages, codec.encode_texts([p.text for p in passages]), strict=True):
            opening = codec.opening(passage.genre, codec.encode_prompt(passage.prompts.own or ""))
            if len(opening) + len(text_ids) + 1 > block:
                opening = codec.opening(passage.genre, [])
            self._stories.append([*opening, *text_ids, codec.end_id])
            self._openings.append(len(opening))
        self._rows = list(self._pack(block, codec.end_id))
        self._block = block
        self._end_id = codec.end_id

    def _pack(self, block: int, pad_id: int) -> Iterator[HeldOutRow]:
        for members in pack([len(story) for story in self._stories], block):
            input_ids, position_ids, labels = lay_out([self._stories[i] for i in members], block, pad_id)
            owners: list[int] = []
            for index in members:
                start = len(owners)
                owners += [index] * len(self._stories[index])
                labels[start : start + self._openings[index]] = IGNORED
            yield HeldOutRow(input_ids, position_ids, labels, np.array(owners + [0] * (block - len(owners))))

    @property
    def rows(self) -> int:
        """How many packed rows there are to score."""
        return len(self._rows)

    def unigram_nats_per_token(self) -> float:
        """The entropy of these tokens: no model that ignores context can have a lower loss on them."""
        counts = Counter(i for story, n in zip(self._stories, self._openings, strict=True) for i in story[n:])
        total = sum(counts.values())
        return -sum(n * math.log(n / total) for n in counts.values()) / total

    @torch.no_grad()
    def score(self, model: GPT2LMHeadModel, progress: Callable[[int], None] = lambda _: None) -> list[Score]:
        """One score for each story, in order. The model's mode is put back afterwards."""
        batch_size = max(1, _TOKENS_AT_ONCE.get(model.device.type, 1024) // self._block)
        was_training = model.training
        model.eval()
        nats = torch.zeros(len(self._stories), dtype=torch.float64)
        tokens = torch.zeros(len(self._stories), dtype=torch.int64)
        for start in range(0, len(self._rows), batch_size):
            rows = self._rows[start : start + batch_size]
            loss, counted, owners = _losses(model, rows)
            nats.index_add_(0, owners, loss)
            tokens.index_add_(0, owners, counted)
            progress(start + len(rows))
        model.train(was_training)
        sizes = [len(passage.text.encode("utf-8", "surrogatepass")) for passage in self.passages]
        return [Score(float(n), int(t), size, 1) for n, t, size in zip(nats, tokens, sizes, strict=True)]


def _losses(model: GPT2LMHeadModel, rows: Sequence[HeldOutRow]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """For each predicted position of the rows its loss, whether it counts (0 or 1), and its story; on the CPU."""
    device = model.device
    input_ids, position_ids, labels, owners = (
        torch.from_numpy(np.stack(parts))
        for parts in zip(*((row.input_ids, row.position_ids, row.labels, row.owners) for row in rows), strict=True)
    )
    input_ids, position_ids = input_ids.to(device), position_ids.to(device)
    labels, owners = labels[:, 1:].flatten().to(device), owners[:, 1:].flatten()
    output: Any = model(input_ids=input_ids, position_ids=position_ids, use_cache=False)
    logits = cast("torch.Tensor", output.logits)[:, :-1].flatten(0, 1).float()
    loss = functional.cross_entropy(logits, labels, ignore_index=IGNORED, reduction="none")
    return loss.cpu().double(), (labels != IGNORED).long().cpu(), owners


def by_genre(passages: Iterable[Passage], scores: Iterable[Score]) -> dict[str, Score]:
    """The scores summed for each genre, in the genres' alphabetical order."""
    sums: dict[str, Score] = {}
    for passage, score in zip(passages, scores, strict=True):
        name = passage.genre or NO_GENRE
        sums[name] = sums[name] + score if name in sums else score
    return dict(sorted(sums.items()))
