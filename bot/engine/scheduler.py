"""Rounds: in each, one forward pass and one draw for all texts that have a slot.

    let go · seat · [piece of a prompt] [piece of a prompt] [token] [token] [token] ... · draw · hand over

A text that joins, leaves or fails touches no other: its slot, its columns and its reader are its own. Prompts are read in
pieces, together the forward's `prompt_tokens` a round at most, so a long one holds up those that write by no more than that;
the price is that it takes several rounds itself.

What goes wrong in a pass fails the texts in it, and no others. Out of memory halves the slots, and nobody fails. A broken GPU
context, which only a new process cures, is told to all, and to `on_broken`.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from operator import itemgetter
from typing import TYPE_CHECKING

from bot.engine.faults import Fault, kind_of
from bot.engine.forward import Forward, Part
from bot.engine.interface import GenerationRequest, Piece, Waiting
from bot.engine.line import Line
from bot.engine.pace import Pace
from bot.engine.reader import Reader, hand_over
from bot.engine.ticket import Ticket
from bot.errors import EngineBroken, EngineFailed, StoryError

if TYPE_CHECKING:  # they import torch, which only the decode thread may do
    from bot.engine.draws import Draws
    from bot.engine.writing import Writing

logger = logging.getLogger(__name__)

_NEWS_S = 1.0
"""Between two looks at how long those who wait will wait, if nobody came or went."""


class Scheduler:
    """All texts that wait or are written. It belongs to the decode thread."""

    def __init__(
        self,
        forward: Forward,
        draws: Callable[[int], Draws],
        writing: Callable[[GenerationRequest], Writing],
        *,
        on_broken: Callable[[], object] = lambda: None,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        """`draws` makes the columns for so many slots, `writing` the state of a new text; `clock` is in seconds."""
        self._forward = forward
        self._new_draws = draws
        self._draws = draws(forward.slots)
        self._new_writing = writing
        self._on_broken = on_broken
        self._clock = clock
        self._line: Line[Ticket] = Line()
        self._seated: dict[int, Ticket] = {}  # by slot, in the order in which they sat down
        self._pace = Pace()
        self._news_due = False
        self._news_s = 0.0
        self._broken = False
        self.ended = 0
        """Texts that are over since the start, whatever the reason."""

    @property
    def busy(self) -> bool:
        """Whether a text waits or is written."""
        return bool(self._seated or self._line)

    @property
    def slots(self) -> int:
        """How many texts are written at once; fewer after memory ran out."""
        return self._forward.slots

    def add(self, tickets: Sequence[Ticket]) -> None:
        """To the end of their users' queues."""
        for ticket in tickets:
            self._line.add(ticket, ticket.request.server, ticket.request.user)
        self._news_due = self._news_due or bool(tickets)

    def errand(self, work: Callable[[], list[float]]) -> list[float]:
        """Do something short with the model between two rounds. Raises EngineFailed, and EngineBroken."""
        if self._broken:
            raise _broken()
        try:
            return work()
        except Exception as error:
            logger.exception("an errand of the decode thread failed")
            if kind_of(error) is Fault.BROKEN:
                self._break_down()
                raise _broken() from error
            raise EngineFailed("The model failed on this prompt. The host's log says why.") from error

    def round(self) -> None:
        """One step for each text that writes, some pieces of prompts, and one hand-over for all of them."""
        if self._broken:
            self.end_all(_broken(), _broken())
            return
        self._let_go()
        self._seat()
        self._tell_who_waits()
        if self._seated:
            self._step()

    def end_all(self, begun: StoryError, not_begun: StoryError) -> None:
        """End every text, with one error for those that have words already and another for those that have none."""
        tickets = [*self._seated.values(), *self._line]
        self._seated.clear()
        self._line.clear()
        self._end([(ticket, begun if ticket.writing is not None else not_begun) for ticket in tickets])

    def _let_go(self) -> None:
        """Free the slots and the places of readers who left."""
        for slot in [slot for slot, ticket in self._seated.items() if ticket.reader.gone]:
            del self._seated[slot]
            self.ended += 1
            self._news_due = True
        gone = {ticket for ticket in self._line if ticket.reader.gone}
        if gone:
            self._line.remove(gone)
            self.ended += len(gone)
            self._news_due = True

    def _seat(self) -> None:
        free = [slot for slot in range(self._forward.slots) if slot not in self._seated]
        for slot in free[: len(self._line)]:
            ticket = self._line.pop()
            try:
                if ticket.writing is None:
                    ticket.writing = self._new_writing(ticket.request)
                self._draws.seat(slot, ticket.writing.draws)
            except Exception:
                logger.exception("a text could not be begun")
                self._end([(ticket, EngineFailed("The model could not begin this story. The host's log says why."))])
                continue
            self._seated[slot] = ticket
            self._news_due = True

    def _step(self) -> None:
        started_s = self._clock()
        parts = self._parts()
        rows = [part.slot for part in parts if part.wanted]
        failed: Exception | None = None
        tokens: list[int | None] = []
        try:
            tokens = self._tokens_of(parts, rows)
        except Exception as error:  # noqa: BLE001 - answered by its kind, outside this block, which keeps its frames alive
            failed = error
        if failed is not None:
            self._answer(failed, [part.slot for part in parts])
            return
        for part in parts:
            if not part.wanted:
                _writing(self._seated[part.slot]).was_read(part)
        self._take(rows, tokens)
        self._pace.took(self._clock() - started_s)

    def _parts(self) -> list[Part]:
        """The newest token of each text that writes, and pieces of prompts within the budget, one at least."""
        parts: list[Part] = []
        budget = self._forward.prompt_tokens
        for slot, ticket in self._seated.items():
            part = _writing(ticket).next_part(slot)
            if len(part.ids) > 1:
                if len(part.ids) > budget and budget < self._forward.prompt_tokens:
                    budget = 0  # its turn is first in the next round, and no shorter one overtakes it
                    continue
                budget -= len(part.ids)
            parts.append(part)
        parts.sort(key=_slot_of)  # the rows of a GPU's step are the slots
        return parts

    def _tokens_of(self, parts: Sequence[Part], rows: Sequence[int]) -> list[int | None]:
        logits = self._forward(parts)
        if not rows:
            return []
        drawn = self._draws.begin(rows, logits)
        self._forward.foresee(drawn)
        return self._draws.finish(drawn)

    def _take(self, rows: Sequence[int], tokens: Sequence[int | None]) -> None:
        news: list[tuple[Reader, Piece]] = []
        failed: list[tuple[Ticket, StoryError]] = []
        now_s = time.perf_counter()  # the readers' clock
        for slot, token in zip(rows, tokens, strict=True):
            ticket = self._seated[slot]
            try:
                piece = _advance(ticket, token, now_s)
            except EngineFailed as error:
                del self._seated[slot]
                failed.append((ticket, error))
                continue
            if piece is None:
                continue
            news.append((ticket.reader, piece))
            if piece.finish_reason is not None:
                del self._seated[slot]
                self.ended += 1
                self._news_due = True
                self._pace.ended(piece.new_tokens, ticket.request.max_new_tokens)
        hand_over(news)
        if failed:
            self._end(failed)

    def _tell_who_waits(self) -> None:
        """Each one's position and estimate, when somebody came or went, and now and then."""
        now_s = self._clock()
        if not self._line or not (self._news_due or now_s - self._news_s >= _NEWS_S):
            return
        self._news_due, self._news_s = False, now_s
        waiting = list(self._line.in_turn())
        remaining = [ticket.remaining for ticket in self._seated.values()]
        waits_s = self._pace.waits_s(remaining, (ticket.remaining for ticket in waiting), self._forward.slots)
        news: list[tuple[Reader, Piece | StoryError]] = []
        for position, (ticket, wait_s) in enumerate(zip(waiting, waits_s, strict=True), 1):
            place = Waiting(position, None if wait_s is None else float(round(wait_s)))
            if ticket.writing is None and place != ticket.told:  # one that was put back has words to show instead
                ticket.told = place
                news.append((ticket.reader, Piece("", 0, waiting=place)))
        hand_over(news)

    def _answer(self, error: Exception, slots: Sequence[int]) -> None:
        """What follows when a pass over these slots failed."""
        kind = kind_of(error)
        if kind is Fault.MEMORY and self._shrink(error):
            return
        logger.error("a pass of the model over %d texts failed", len(slots), exc_info=error)
        if kind is Fault.BROKEN:
            self._break_down()
            return
        sentence = _NO_MEMORY if kind is Fault.MEMORY else _STOPPED
        self._end([(self._seated.pop(slot), EngineFailed(sentence)) for slot in slots])

    def _shrink(self, error: Exception) -> bool:
        """Go on with half the slots; False if there is only one left. Who loses a slot is the next to get one."""
        tickets = list(self._seated.values())
        slots = self._forward.slots
        if slots > 1:
            error.__traceback__ = None  # its frames hold the tensors that were too many
        while slots > 1:
            slots //= 2
            try:
                self._forward.resize(slots)
                self._draws = self._new_draws(slots)
            except Exception as again:
                if kind_of(again) is not Fault.MEMORY:
                    raise
                continue
            logger.warning("out of memory: from now on %d texts at once (%s)", slots, error)
            for ticket in tickets:
                _writing(ticket).read_again()
            hand_over([(ticket.reader, _writing(ticket).piece()) for ticket in tickets], pause=True)
            self._seated.clear()
            self._line.put_back(tickets)
            self._news_due = True
            return True
        return False

    def _break_down(self) -> None:
        self._broken = True
        self.end_all(_broken(), _broken())
        self._on_broken()

    def _end(self, endings: Sequence[tuple[Ticket, StoryError]]) -> None:
        """Each with what was written of it, and then its error."""
        self.ended += len(endings)
        self._news_due = True
        hand_over([(ticket.reader, ticket.writing.piece()) for ticket, _ in endings if ticket.writing is not None])
        hand_over([(ticket.reader, error) for ticket, error in endings])


_slot_of = itemgetter(0)
_STOPPED = "The model stopped in the middle of this story. Try again; the host's log says why."
_NO_MEMORY = "There is not enough memory for this story, even alone. Ask for a shorter one, or tell whoever runs this bot."


def _broken() -> EngineBroken:
    return EngineBroken("The model broke and has to be started again, which the bot does by itself. Try again in a minute.")


def _writing(ticket: Ticket) -> Writing:
    """The state of a text that has a slot."""
    if ticket.writing is None:
        raise RuntimeError("a text got a slot before it was begun")
    return ticket.writing


def _advance(ticket: Ticket, token: int | None, now_s: float) -> Piece | None:
    """Add this token to its text; what is to be shown of it now, if anything.

    Raises EngineFailed for a fault of this text alone.
    """
    if token is None:
        logger.error("the model computed logits that are not finite numbers; its text ends here, the others go on")
        raise EngineFailed(_STOPPED)
    writing = _writing(ticket)
    try:
        over = writing.take(token)
        return writing.piece() if over or ticket.reader.due(now_s) else None
    except Exception as error:
        logger.exception("a token could not be added to its text, which ends here; the others go on")
        raise EngineFailed(_STOPPED) from error
