"""The draws of all texts in flight: what each has seen, what is banned for it, its random numbers; one `draw` a round.

    TextDraws   (text_draws.py) one text's own state; it goes with the text when it changes its slot
    Draws       the slots' columns as tensors on the logits' device, filled for the first draw after a text sat down

While nobody comes or goes, a round only brings the tokens that were seen last, the bans of texts whose bans change, and every
16 rounds new random numbers.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bot.engine.drawn import Drawn
from bot.engine.graphed_draw import GraphedDraws
from bot.engine.sampling import (
    ALL_TOKENS,
    NOT_FINITE,
    REACHES_FURTHER,
    Asked,
    Columns,
    draw,
    spare_token,
    workspace,
)
from bot.engine.text_draws import TextDraws

FIRST_LOOK, WIDE_LOOK = 64, 512
"""How many of the likeliest tokens are looked at first; a row that needs more is drawn again with 8 times as many. Where that
happens at once, these texts are drawn flatly, and from then on the wider look comes first."""
_AHEAD = 16
"""Rounds whose random numbers are made at once."""
_WIDTH_STEP = 64
"""Lists of seen tokens are padded to a multiple of this, so that shapes change seldom."""


@dataclass
class _Mix:
    """The columns of one set of slots, which stay the same from round to round while nobody comes or goes."""

    slots: tuple[int, ...]
    texts: tuple[TextDraws, ...]
    rows: Tensor
    columns: Columns
    first_look: int
    asked: Asked
    penalised: bool
    bans_change: bool
    uniforms: Tensor
    """float64 of shape (rounds, rows, 1)."""
    at: int = 0
    """The round among them that comes next."""


class Begun(Drawn):
    """A draw whose tokens nobody has looked at; what is needed to draw some of its rows again."""

    def __init__(self, tokens: Tensor, mix: _Mix, columns: Columns, logits: Tensor) -> None:
        super().__init__(tokens)
        self.mix, self.columns, self.logits = mix, columns, logits


class Draws:
    """Draws for all slots. It belongs to the decode thread."""

    def __init__(self, slots: int, unwritable: Tensor) -> None:
        """`unwritable` is a mask over the vocabulary: the tokens that must never be written."""
        self._vocabulary = len(unwritable)
        self._unwritable = unwritable
        self._slots = slots
        self._texts: list[TextDraws | None] = [None] * slots
        self._mix: _Mix | None = None
        self._look = FIRST_LOOK
        self._device: torch.device | None = None  # that of the first logits
        self._width = 0
        self._stale = set[int]()  # slots whose row of seen tokens is not their text's

    def seat(self, slot: int, text: TextDraws) -> None:
        """Let this slot draw for that text from now on."""
        self._texts[slot] = text
        self._mix = None
        self._stale.add(slot)

    def choose(self, slots: Sequence[int], logits: Tensor) -> list[int | None]:
        """The next token for each row of logits, whose text sits in the slot of the same place; None: no finite numbers."""
        return self.finish(self.begin(slots, logits))

    def begin(self, slots: Sequence[int], logits: Tensor) -> Begun:
        """Draw without waiting for the device. Where that is a GPU the logits may be overwritten after this."""
        if self._device != logits.device:
            self._move_to(logits.device)
        mix = self._mix_of(tuple(slots))
        columns = self._columns(mix)
        if self._graphed is not None:
            tokens, logits = self._graphed(logits, columns, self._look, mix.asked)
        else:
            tokens = draw(logits, self._bias, self._work[: len(mix.slots)], columns, self._look, mix.asked)
        return Begun(tokens, mix, columns, logits)

    def finish(self, begun: Begun) -> list[int | None]:
        """The tokens, each noted with its text; see `choose`. A row that reaches further than was looked is drawn again."""
        mix = begun.mix
        tokens = self._settled(begun)
        mix.at += 1
        grown: list[tuple[int, int, int]] = []
        for slot, text, token in zip(mix.slots, mix.texts, tokens, strict=True):
            if token >= 0 and text.note(token):
                grown.append((slot, len(text.seen) - 1, token))
        if grown:
            try:
                self._note_seen(grown)
            except RuntimeError:  # no memory: the texts have their tokens, and this round can't be tried again
                self._stale.update(slot for slot, _, _ in grown)
        return [token if token != NOT_FINITE else None for token in tokens]

    def _settled(self, begun: Begun) -> list[int]:
        tokens = list(begun.read())
        k = self._look
        while again := [row for row, token in enumerate(tokens) if token == REACHES_FURTHER]:
            k *= 8
            self._look = max(self._look, min(k, WIDE_LOOK))
            at = torch.tensor(again, device=begun.logits.device)
            fewer = _rows_of(begun.columns, at)
            more = draw(begun.logits[at], self._bias, self._work[: len(again)], fewer, k, begun.mix.asked).tolist()
            for row, token in zip(again, more, strict=True):
                tokens[row] = token
        return tokens

    def _columns(self, mix: _Mix) -> Columns:
        """The mix with its random numbers for this round, what was seen so far, and what is banned now."""
        if mix.at == len(mix.uniforms):
            mix.uniforms, mix.at = self._uniforms(mix.texts), 0
        fixed = mix.columns
        seen = None
        if mix.penalised:
            self._fill_seen(mix)
            width = -(-max(len(text.seen) for text in mix.texts) // _WIDTH_STEP) * _WIDTH_STEP
            seen = self._seen[:, :width].index_select(0, mix.rows)
        banned = self._banned(mix.texts) if mix.bans_change else fixed.banned
        uniform = mix.uniforms[mix.at]
        return Columns(uniform, fixed.temperature, fixed.top_k, fixed.top_p, fixed.min_p, fixed.penalty, seen, banned)

    def _uniforms(self, texts: Sequence[TextDraws]) -> Tensor:
        return self._tensor([text.uniforms(_AHEAD) for text in texts], np.float64).T.contiguous().unsqueeze(2)

    def _banned(self, texts: Sequence[TextDraws]) -> Tensor | None:
        lists = [text.banned(self._writable) for text in texts]
        longest = max(len(banned) for banned in lists)
        if not longest:
            return None
        spare = spare_token(self._vocabulary)
        padded = [[*banned, *[spare] * (longest - len(banned))] for banned in lists]
        return self._tensor(padded, np.int64)

    def _mix_of(self, slots: tuple[int, ...]) -> _Mix:
        if self._mix is None or self._mix.slots != slots:
            self._mix = self._new_mix(slots)
            self._look = self._mix.first_look
        return self._mix

    def _new_mix(self, slots: tuple[int, ...]) -> _Mix:
        texts = tuple(text for slot in slots if (text := self._texts[slot]) is not None)
        settings = [_settings_of(text) for text in texts]
        temperatures, top_ks, top_ps, min_ps, penalties = zip(*settings, strict=True)
        penalised = any(text.penalised for text in texts)
        bans_change = any(text.bans_change for text in texts)
        largest = max((k for k in top_ks if k != ALL_TOKENS), default=0)
        columns = Columns(
            uniform=torch.empty(0),  # never drawn by: each round has its own
            temperature=self._column(temperatures, np.float32),
            top_k=self._column(top_ks, np.int64),
            top_p=self._column(top_ps, np.float32),
            min_p=self._column(min_ps, np.float32),
            penalty=self._column(penalties, np.float32) if penalised else None,
            banned=None if bans_change else self._banned(texts),
        )
        return _Mix(
            slots,
            texts,
            self._tensor(slots, np.int64),
            columns,
            first_look=max(FIRST_LOOK, largest + 1),  # one more, to see that it is less likely
            asked=Asked(
                top_k=largest > 0,
                top_p=min(top_ps) < 1,
                whole=any(p < 1 and k == ALL_TOKENS for p, k in zip(top_ps, top_ks, strict=True)),
                min_p=max(min_ps) > 0,
                anything=not all(text.narrowed for text in texts),
            ),
            penalised=penalised,
            bans_change=bans_change,
            uniforms=self._uniforms(texts),
        )

    def _column(self, values: Sequence[float], kind: type[np.generic]) -> Tensor:
        return self._tensor(values, kind).unsqueeze(1)

    def _tensor(self, values: Sequence[Any], kind: type[np.generic]) -> Tensor:
        """Through NumPy, which takes a list in a tenth of torch's time; a GPU gets it without a wait for what it is at."""
        return torch.from_numpy(np.array(values, kind)).to(self._device or "cpu", non_blocking=True)

    def _move_to(self, device: torch.device) -> None:
        self._device = device
        self._mix = None
        self._work = workspace(self._slots, self._vocabulary, device)
        self._bias = torch.zeros(self._vocabulary).masked_fill_(self._unwritable.cpu(), -torch.inf).to(device)
        self._writable = self._vocabulary - int(self._unwritable.sum())
        self._graphed = GraphedDraws(self._bias, spare_token(self._vocabulary)) if device.type == "cuda" else None
        self._widen(16 * _WIDTH_STEP)

    def _widen(self, width: int) -> None:
        """Room for so many different tokens a text; a long story's list grows, a slot's does not shrink."""
        self._seen = torch.full((self._slots, width), spare_token(self._vocabulary), device=self._device)
        self._width = width
        self._stale.update(range(self._slots))

    def _fill_seen(self, mix: _Mix) -> None:
        """The rows of texts that sat down, all at once: a GPU would be waited for at each."""
        longest = max(len(text.seen) for text in mix.texts)
        if longest > self._width:
            self._widen(2 * longest)
        new = [(slot, text) for slot, text in zip(mix.slots, mix.texts, strict=True) if slot in self._stale]
        if not new:
            return
        spare = spare_token(self._vocabulary)
        longest = max(len(text.seen) for _, text in new)
        slots = self._tensor([slot for slot, _ in new], np.int64)
        self._seen.index_fill_(0, slots, spare)
        self._seen[slots, :longest] = self._tensor(
            [[*text.seen, *[spare] * (longest - len(text.seen))] for _, text in new], np.int64
        )
        self._stale.difference_update(slot for slot, _ in new)

    def _note_seen(self, grown: list[tuple[int, int, int]]) -> None:
        if any(at >= self._width for _, at, _ in grown):
            self._widen(2 * self._width)  # filled from the lists, which have the new ones, before the next draw
            return
        slots, places, tokens = self._tensor(grown, np.int64).unbind(1)
        self._seen[slots, places] = tokens


def _settings_of(text: TextDraws) -> tuple[float, int, float, float, float]:
    """Temperature, top_k, top_p, min_p, repetition penalty; a greedy text keeps the likeliest alone."""
    sampling = text.sampling
    if text.greedy:
        return 1.0, 1, math.inf, 0.0, sampling.repetition_penalty
    top_p = sampling.top_p if sampling.top_p < 1 else math.inf
    return sampling.temperature, sampling.top_k or ALL_TOKENS, top_p, sampling.min_p, sampling.repetition_penalty


def _rows_of(columns: Columns, at: Tensor) -> Columns:
    taken = {name: value[at] for name, value in vars(columns).items() if value is not None}
    return Columns(**taken)
