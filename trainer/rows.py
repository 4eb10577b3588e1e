"""The stories of a corpus as rows for the model: prompts drawn anew each epoch, then packed and shuffled.

Texts are tokenised once and kept flat (4 bytes a token); only prompts are encoded again. An epoch is a function of the seed and
its number, so that a training that goes on after a crash sees the rows that it would have seen.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import islice
from random import Random
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset

from trainer.packing import lay_out, pack, story_lengths

if TYPE_CHECKING:
    from trainer.material import Passage
    from trainer.story_format import StoryCodec

_CHUNK = 2_000


def collate(rows: Sequence[dict[str, torch.Tensor]]) -> dict[str, Any]:
    """A batch of rows, (rows, block) each, and the lengths of its stories, which cost nothing while they are on the CPU."""
    batch: dict[str, Any] = {name: torch.stack([row[name] for row in rows]) for name in rows[0]}
    return {**batch, "story_lengths": story_lengths(batch["position_ids"])}


class StoryTokens:
    """The tokens of each passage's text, flat in memory."""

    def __init__(
        self, passages: Sequence[Passage], codec: StoryCodec, progress: Callable[[int], None] = lambda _: None
    ) -> None:
        """Tokenises all texts, on all cores."""
        self.passages = passages
        self.codec = codec
        parts: list[NDArray[np.int32]] = []
        lengths: list[int] = []
        texts = iter(passages)
        while chunk := list(islice(texts, _CHUNK)):
            ids = codec.encode_texts([passage.text for passage in chunk])
            lengths += map(len, ids)
            parts.append(np.fromiter((i for story in ids for i in story), dtype=np.int32))
            progress(len(lengths))
        self._flat = np.concatenate(parts) if parts else np.zeros(0, np.int32)
        self._starts = np.cumsum([0, *lengths])

    def __len__(self) -> int:
        """The number of stories."""
        return len(self.passages)

    def text_ids(self, index: int) -> list[int]:
        """The tokens of one text."""
        return self._flat[self._starts[index] : self._starts[index + 1]].tolist()

    def text_length(self, index: int) -> int:
        """The length of one text in tokens."""
        return int(self._starts[index + 1] - self._starts[index])


class StoryRows(Dataset[dict[str, torch.Tensor]]):
    """Packed rows of one epoch, each `block` tokens long: input_ids, position_ids and labels.

    All epochs have the same number of rows, that of the first. Another epoch's prompts may need a row or two more or less (a
    few in ten thousand): then rows that the shuffle put last wait for a later epoch, or the first ones are seen twice.
    """

    def __init__(self, stories: StoryTokens, block: int, seed: int) -> None:
        """Draws and packs the first epoch."""
        self._stories = stories
        self._block = block
        self._seed = seed
        self._epoch = -1
        self._prompts: list[list[int]] = []
        self._rows: list[list[int]] = []
        self.set_epoch(0)
        self._length = len(self._rows)

    def set_epoch(self, epoch: int) -> None:
        """Draw the prompts of this epoch and pack its rows; called by the data loader."""
        if epoch == self._epoch:
            return
        self._epoch = epoch
        random = Random(f"{self._seed} {epoch}")
        codec = self._stories.codec
        drawn = [passage.prompts.draw(random) for passage in self._stories.passages]
        prompts = codec.encode_texts([codec.prompt_text(prompt) for prompt in drawn])
        frame = len(codec.opening(None, [])) + 1
        lengths: list[int] = []
        for index, prompt in enumerate(prompts):
            length = self._stories.text_length(index) + frame
            if length + len(prompt) > self._block:
                prompts[index] = []
            lengths.append(length + len(prompts[index]))
        self._prompts = prompts
        self._rows = pack(lengths, self._block)
        random.shuffle(self._rows)

    def __len__(self) -> int:
        """The number of rows of every epoch."""
        return self._length

    def story(self, index: int) -> list[int]:
        """One story with this epoch's prompt."""
        stories = self._stories
        return stories.codec.story(stories.passages[index].genre, self._prompts[index], stories.text_ids(index))

    def __getitem__(self, row: int) -> dict[str, torch.Tensor]:
        """input_ids, position_ids and labels, each of shape (block,)."""
        members = [self.story(index) for index in self._rows[row % len(self._rows)]]
        input_ids, position_ids, labels = lay_out(members, self._block, self._stories.codec.end_id)
        return {
            "input_ids": torch.tensor(input_ids),
            "position_ids": torch.tensor(position_ids),
            "labels": torch.tensor(labels),
        }

    @property
    def used(self) -> float:
        """The share of the rows that holds stories."""
        total = sum(len(self.story(index)) for row in self._rows for index in row)
        return total / (len(self._rows) * self._block)
