"""What every Forward checks before it runs: nothing reaches a model past its context, its slots or its vocabulary.

One token too far raises an odd IndexError on a CPU; on CUDA it is a device assert after which the process is of no use.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bot.engine.forward import Part


def check_parts(parts: Sequence[Part], slots: int, n_positions: int, vocab_size: int) -> None:
    """Raises ValueError for a pass that a Forward must not run."""
    if not parts:
        raise ValueError("a pass needs at least one part")
    if len({part.slot for part in parts}) < len(parts):
        raise ValueError("a slot is in two parts of one pass")
    for part in parts:
        if not 0 <= part.slot < slots:
            raise ValueError(f"there is no slot {part.slot}; there are {slots}")
        if part.start < 0 or not part.ids:
            raise ValueError("a part has one token or more, and starts at 0 or after")
        _check_fits(part.start + len(part.ids), n_positions)
        _check_ids(part.ids, vocab_size)


def check_prefixes(prefixes: Sequence[Sequence[int]], continuation: Sequence[int], n_positions: int, vocab_size: int) -> None:
    """Raises ValueError for a score that a Forward must not compute."""
    if not prefixes or not continuation or not prefixes[0] or len({len(prefix) for prefix in prefixes}) > 1:
        raise ValueError("a score needs a continuation, and prefixes of one length, of one token or more")
    _check_fits(len(prefixes[0]) + len(continuation), n_positions)
    for ids in (*prefixes, continuation):
        _check_ids(ids, vocab_size)


def _check_fits(length: int, n_positions: int) -> None:
    if length > n_positions:
        raise ValueError(f"{length} tokens do not fit a model of {n_positions} positions")


def _check_ids(ids: Sequence[int], vocab_size: int) -> None:
    if min(ids) < 0 or max(ids) >= vocab_size:
        raise ValueError(f"a token is outside the vocabulary of {vocab_size}")
