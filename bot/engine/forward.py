"""What the decode thread asks of a model: one forward pass for all texts in flight, over slots of keys and values.

Each text has a slot. In one pass some texts get a piece of their prompt read and others their newest token:

    parts     [slot 2: 64 tokens of a prompt] [slot 0: 1 token] [slot 5: 1 token] ...
    logits    one row for each part that asks for it, in the order of the parts

Knows no sampling and no story. The slots belong to the decode thread; nothing here is safe to call from two threads.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from torch import Tensor

    from bot.engine.drawn import Drawn

PROMPT_TOKENS = 128
"""Two pieces: 0.1 s of GPT-2 124M on two cores."""


class Part(NamedTuple):  # which is made in a quarter of a frozen dataclass's time, for each token
    """What one text has read in this pass."""

    slot: int
    start: int
    """The tokens of this text that the slot holds already; what it holds beyond them is forgotten."""
    ids: Sequence[int]
    """One or more, read at the positions `start` and after."""
    wanted: bool = True
    """Whether the logits after its last token are asked for: only a prompt's last part needs them."""


class Forward(Protocol):
    """A model ready to run. Every call is checked against `n_positions` and `slots` first and raises ValueError past them:
    on CUDA a position too far would break the process.
    """

    @property
    def slots(self) -> int:
        """How many texts can be held at once; the slots are numbered from 0."""
        ...

    @property
    def n_positions(self) -> int:
        """The context in tokens."""
        ...

    @property
    def repeatable(self) -> bool:
        """Whether a text's logits are the same, bit for bit, whatever else is in the pass."""
        ...

    @property
    def weight_bytes(self) -> int:
        """Of the weights that each pass reads, whatever it reads them for: what one text alone waits for."""
        ...

    @property
    def prompt_tokens(self) -> int:
        """How many tokens of prompts a pass may read without holding up much those that write."""
        ...

    def __call__(self, parts: Sequence[Part]) -> Tensor:
        """The logits, float32 of shape (wanted parts, vocabulary), on the model's device. A slot is in one part at most."""
        ...

    def foresee(self, drawn: Drawn) -> None:
        """After a pass: these tokens were drawn from its rows, so its texts likely go on with them. It may begin on that while
        the host still learns what was drawn, and then overwrites the logits.
        """
        ...

    def score(self, prefixes: Sequence[Sequence[int]], continuation: Sequence[int]) -> list[float]:
        """Log P(continuation | prefix) in nats for each prefix; the prefixes have the same length, one or more.

        Touches no slot.
        """
        ...

    def resize(self, slots: int) -> None:
        """Hold so many texts from now on; what the slots held is lost."""
        ...
