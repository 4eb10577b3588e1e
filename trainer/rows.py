"""The stories of a corpus as rows for the model: prompts drawn anew each epoch, then packed and shuffled.

Texts are tokenised once and kept flat (4 bytes a token); only prompts are encoded again. An epoch is a function of the seed and
its number, so that a training that goes on after a crash sees the rows that it would have seen.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError, Future
from dataclasses import dataclass
from functools import partial
from itertools import chain, islice
from random import Random
from threading import Thread, main_thread
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset

from trainer.packing import IGNORED, lay_out, pack

if TYPE_CHECKING:
    from trainer.material import Passage
    from trainer.story_format import StoryCodec

_CHUNK = 2_000
_PADDING = 128
"""Tokens of padding in a piece: attention takes as long for fewer."""


def collate(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """A batch of rows, (rows, block) each; of packed ones with the lengths of their stories, told while they are on the CPU.

    As an array, since Trainer goes through lists item by item, three times a step.
    """
    batch: dict[str, Any] = {name: torch.stack([row[name] for row in rows]) for name in rows[0] if name != "story_lengths"}
    if "story_lengths" in rows[0]:
        batch["story_lengths"] = np.concatenate([row["story_lengths"] for row in rows])
    return batch


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
            parts.append(np.fromiter(chain.from_iterable(ids), dtype=np.int32))
            progress(len(lengths))
        self._flat = np.concatenate(parts) if parts else np.zeros(0, np.int32)
        self._starts = np.cumsum([0, *lengths])

    def __len__(self) -> int:
        """The number of stories."""
        return len(self.passages)

    def text_ids(self, index: int) -> NDArray[np.int32]:
        """The tokens of one text."""
        return self._flat[self._starts[index] : self._starts[index + 1]]

    def text_length(self, index: int) -> int:
        """The length of one text in tokens."""
        return int(self._starts[index + 1] - self._starts[index])


@dataclass(frozen=True)
class _Epoch:
    """What is drawn for one."""

    number: int
    prompts: list[list[int]]
    """The tokens of each story's."""
    rows: list[list[int]]
    """The indices of the stories in each."""


class StoryRows(Dataset[dict[str, Any]]):
    """Packed rows of one epoch, each `block` tokens long: input_ids, position_ids and labels.

    All epochs have the same number of rows, that of the first. Another epoch's prompts may need a row or two more or less (a
    few in ten thousand): then rows that the shuffle put last wait for a later epoch, or the first ones are seen twice. The next
    epoch is drawn in a thread once half of one is read: a GPU would wait for it, 0.2 s after each two seconds of short lines.
    """

    def __init__(self, stories: StoryTokens, block: int, seed: int, epochs: int | None = None) -> None:
        """Draws and packs the first epoch; after the last of so many no other is drawn ahead."""
        self._stories = stories
        self.block = block
        self._seed = seed
        self._epochs = epochs
        self._epoch = self._drawn(0)
        self._next: Future[_Epoch] | None = None
        self._length = len(self._epoch.rows)

    def set_epoch(self, epoch: int) -> None:
        """Have the prompts of this epoch and its rows; called by the data loader."""
        if epoch == self._epoch.number:
            return
        ahead, self._next = self._next, None  # forgotten before it is asked: what failed once must not fail every try
        drawn = ahead.result() if ahead is not None and epoch == self._epoch.number + 1 else self._drawn(epoch)
        self._epoch = drawn

    def _drawn(self, epoch: int, *, ahead: bool = False) -> _Epoch:
        """Raises CancelledError where it is drawn `ahead` and the process ends."""
        random = Random(f"{self._seed} {epoch}")
        codec = self._stories.codec
        passages = iter(self._stories.passages)
        prompts: list[list[int]] = []
        while some := [passage.prompts.draw(random) for passage in islice(passages, _CHUNK)]:
            if ahead and not main_thread().is_alive():
                raise CancelledError("The process ends.")
            prompts += codec.encode_texts([codec.prompt_text(prompt) for prompt in some])
        rows = self._arranged(prompts)
        random.shuffle(rows)
        return _Epoch(epoch, prompts, rows)

    def _arranged(self, prompts: list[list[int]]) -> list[list[int]]:
        """Rows of indices of stories. A prompt that does not fit a row beside its story is left out."""
        frame = len(self._stories.codec.opening(None, [])) + 1
        lengths: list[int] = []
        for index, prompt in enumerate(prompts):
            length = self._stories.text_length(index) + frame
            if length + len(prompt) > self.block:
                prompts[index] = []
            lengths.append(length + len(prompts[index]))
        return pack(lengths, self.block)

    def __len__(self) -> int:
        """The number of rows of every epoch."""
        return self._length

    def story(self, index: int) -> NDArray[np.int32]:
        """One story with this epoch's prompt: `codec.story` in numpy, since a GPU is taught 400 rows of them in a second."""
        codec = self._stories.codec
        opening = codec.opening(self._stories.passages[index].genre, self._epoch.prompts[index])
        return np.concatenate([opening, self._stories.text_ids(index), [codec.end_id]], dtype=np.int32)

    def _read(self, row: int) -> list[NDArray[np.int32]]:
        """The stories of a row. From the middle of an epoch on the next one is drawn."""
        last = self._epochs is not None and self._epoch.number + 1 >= self._epochs
        if self._next is None and row >= self._length // 2 and not last:
            self._next = _in_a_thread(partial(self._drawn, self._epoch.number + 1, ahead=True))
        return [self.story(index) for index in self._epoch.rows[row % len(self._epoch.rows)]]

    def __getitem__(self, row: int) -> dict[str, Any]:
        """input_ids, position_ids and labels, each of shape (block,), and story_lengths.

        Padding is in them in pieces, since as one story it could be the longest.
        """
        members = self._read(row)
        input_ids, position_ids, labels = lay_out(members, self.block, self._stories.codec.end_id)
        lengths = [len(story) for story in members]
        pieces, rest = divmod(self.block - sum(lengths), _PADDING)
        return {
            "input_ids": torch.from_numpy(input_ids),
            "position_ids": torch.from_numpy(position_ids),
            "labels": torch.from_numpy(labels),
            "story_lengths": np.array([*lengths, *[_PADDING] * pieces, *([rest] if rest else [])]),
        }

    @property
    def used(self) -> float:
        """The share of the rows that holds stories."""
        total = sum(self.lengths())
        return total / (len(self._epoch.rows) * self.block)

    def lengths(self) -> list[int]:
        """The tokens of each story as it is taught in this epoch."""
        frame = len(self._stories.codec.opening(None, [])) + 1
        return [self._stories.text_length(i) + len(self._epoch.prompts[i]) + frame for row in self._epoch.rows for i in row]


def _in_a_thread(draw: Callable[[], _Epoch]) -> Future[_Epoch]:
    drawn: Future[_Epoch] = Future()

    def run() -> None:
        try:
            drawn.set_result(draw())
        except BaseException as error:  # noqa: BLE001 - whoever asks for the epoch is told
            drawn.set_exception(error)

    Thread(target=run, name="next-epoch").start()
    return drawn


class PaddedLines(StoryRows):
    """The report's rows: one story in each, cut after `block` tokens and padded with the end token up to them."""

    def __init__(self, stories: StoryTokens, block: int, seed: int, end_taught: bool) -> None:
        """Without `end_taught` the end takes no part in the loss, as if it were padding."""
        self._end_taught = end_taught
        super().__init__(stories, block, seed)

    def _arranged(self, prompts: list[list[int]]) -> list[list[int]]:
        return [[index] for index in range(len(self._stories))]

    def story(self, index: int) -> NDArray[np.int32]:
        """What a line has of its story."""
        return super().story(index)[: self.block]

    def lengths(self) -> list[int]:
        """The tokens of each line, without its padding."""
        return [min(length, self.block) for length in super().lengths()]

    def __getitem__(self, row: int) -> dict[str, Any]:
        """input_ids, attention_mask and labels, each of shape (block,)."""
        (line,) = (story.tolist() for story in self._read(row))
        end = self._stories.codec.end_id
        rest = self.block - len(line)
        labels = line if self._end_taught else [IGNORED if token == end else token for token in line]
        return {
            "input_ids": torch.tensor(line + [end] * rest),
            "attention_mask": torch.tensor([1] * len(line) + [0] * rest),
            "labels": torch.tensor([IGNORED, *labels[1:], *[IGNORED] * rest]),
        }
