"""What the rounds promise, shown without a model and without a clock: rounds are counted."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest
import torch
from hash_forward import HashForward
from tiny_gpt2 import Text
from tokenizers import Tokenizer

from bot.bench.crowd import fair_turns
from bot.engine.characters import Vocabulary
from bot.engine.drawn import Drawn
from bot.engine.draws import Draws
from bot.engine.forward import Part
from bot.engine.interface import FinishReason, GenerationRequest, Sampling
from bot.engine.reader import Reader
from bot.engine.scheduler import Scheduler
from bot.engine.ticket import Ticket
from bot.engine.writing import PROMPT_PIECE, Writing
from bot.errors import EngineBroken, EngineFailed, StoryError

N_POSITIONS = 64
STORY = Sampling(1.1, no_repeat_ngram=4, temperature=1.1, top_p=0.95)
SAMPLINGS = (STORY, Sampling(), Sampling(temperature=0), Sampling(top_k=5), Sampling(min_p=0.1, banned_ids=((3,), (4, 5))))


class Bench:
    """A scheduler over a HashForward, and its tickets."""

    def __init__(self, tokenizer: Tokenizer, slots: int, n_positions: int = N_POSITIONS, **options: object) -> None:
        size = tokenizer.get_vocab_size()
        vocabulary = Vocabulary(tokenizer, size, frozenset())
        unwritable = torch.zeros(size, dtype=torch.bool)
        unwritable[sorted(vocabulary.unwritable)] = True
        self.forward = HashForward(slots, size, n_positions=n_positions)
        self.broken = 0
        self.scheduler = Scheduler(
            self.forward,
            lambda slots: Draws(slots, unwritable),
            lambda request: Writing(request, vocabulary, n_positions, frozenset()),
            on_broken=self._break,
            clock=lambda: float(self.rounds),
            **options,
        )
        self.rounds = 0
        self.began: dict[Ticket, int] = {}
        self.tickets: list[Ticket] = []

    def _break(self) -> None:
        self.broken += 1

    def ask(self, *requests: GenerationRequest) -> list[Ticket]:
        tickets = [Ticket(request, Reader()) for request in requests]
        self.scheduler.add(tickets)
        self.tickets += tickets
        return tickets

    def round(self) -> None:
        self.scheduler.round()
        for ticket in self.tickets:
            if ticket.writing is not None:
                self.began.setdefault(ticket, self.rounds)
        self.rounds += 1

    def run(self) -> None:
        while self.scheduler.busy:
            self.round()


async def text_of(ticket: Ticket) -> Text:
    """All that lies there for the reader of a text that is over."""
    text = Text()
    while not text.pieces or text.finish_reason is None:
        text.pieces.append(await ticket.reader.next())
    return text


async def fate_of(ticket: Ticket) -> Text | StoryError:
    try:
        return await text_of(ticket)
    except StoryError as error:
        return error


def request(seed: int, new: int = 20, prompt: int = 6, **rest: object) -> GenerationRequest:
    numbers = random.Random(seed)
    ids = tuple(numbers.randrange(1, 250) for _ in range(prompt))
    return replace(GenerationRequest(ids, new, SAMPLINGS[seed % len(SAMPLINGS)], seed), **rest)


@pytest.fixture
def bench(tokenizer: Tokenizer) -> Callable[..., Bench]:
    return lambda *args, **options: Bench(tokenizer, *args, **options)


@pytest.fixture
def alone(bench: Callable[..., Bench]) -> Callable[[GenerationRequest], Text]:
    async def write(one: GenerationRequest, n_positions: int = N_POSITIONS) -> Text:
        quiet = bench(1, n_positions)
        (ticket,) = quiet.ask(one)
        quiet.run()
        return await text_of(ticket)

    return write


@pytest.mark.parametrize("seed", range(3))
async def test_a_hundred_random_joins_and_cancels_leave_no_slot_and_no_text_in_the_wrong_story(bench, alone, seed) -> None:
    numbers = random.Random(seed)
    crowd = bench(6)
    for n in range(100):
        crowd.ask(request(n, numbers.randrange(1, 90), numbers.randrange(1, 40), user=n % 7, server=n % 3))
        if numbers.random() < 0.4:
            numbers.choice(crowd.tickets).reader.gone = True
        for _ in range(numbers.randrange(4)):
            crowd.round()
        assert len(crowd.scheduler._seated) <= 6
    crowd.run()
    assert crowd.scheduler.ended == 100
    assert not crowd.scheduler._seated
    surviving = [ticket for ticket in crowd.tickets if not ticket.reader.gone]
    assert len(surviving) > 40
    for ticket in surviving:
        assert await text_of(ticket) == await alone(ticket.request)


async def test_200_stories_of_mixed_users_all_finish_and_none_waits_over_1_5_times_its_fair_share(bench) -> None:
    numbers = random.Random(1)
    slots = 8
    crowd = bench(slots)
    # one asks for 60 and a server for 90, beside people who ask for one, two or three
    askers = [(0, 0)] * 60 + [(1, user) for user in range(30) for _ in range(3)] + [(2 + n // 5, n // 2) for n in range(50)]
    numbers.shuffle(askers)
    tickets = crowd.ask(*(request(n, numbers.randrange(20, 60), user=f"{s}.{u}", server=s) for n, (s, u) in enumerate(askers)))
    crowd.run()
    for ticket in tickets:
        assert (await text_of(ticket)).finish_reason is FinishReason.LENGTH
    mean_rounds = sum(ticket.request.max_new_tokens for ticket in tickets) / len(tickets)
    turns = fair_turns(askers)
    for ticket, turn in zip(tickets, turns, strict=True):
        assert crowd.began[ticket] <= 1.5 * turn * mean_rounds / slots
    lone = [crowd.began[ticket] for ticket, (server, _) in zip(tickets, askers, strict=True) if server > 1]
    assert max(lone) < crowd.rounds / 2  # though 150 of the 200 belong to two servers


async def test_a_long_prompt_holds_up_nobody_who_writes_and_its_cuts_do_not_depend_on_the_load(bench, alone) -> None:
    long = request(1, 5, prompt=300)
    crowd = bench(4, 400)
    (writer,) = crowd.ask(request(2, 60))
    crowd.round()
    tickets = crowd.ask(long, replace(long, seed=6), replace(long, seed=11))
    crowd.run()
    for parts in crowd.forward.passes[1:60]:
        assert [part.ids for part in parts if part.slot == 0]  # a token of the one that writes, in every pass
        assert sum(len(part.ids) for part in parts if len(part.ids) > 1) <= 128
    for slot in (1, 2, 3):
        read = [part for parts in crowd.forward.passes for part in parts if part.slot == slot and part.start < 300]
        assert [(part.start, len(part.ids)) for part in read] == [(at, min(PROMPT_PIECE, 300 - at)) for at in range(0, 300, 64)]
        assert [part.wanted for part in read] == [False] * 4 + [True]
    for ticket in (writer, *tickets):
        assert await text_of(ticket) == await alone(ticket.request, 400)


async def test_a_text_that_outgrows_the_context_reads_its_newest_half_again_and_its_prompt_never(bench) -> None:
    crowd = bench(1)
    one = request(0, 5 * N_POSITIONS, prompt=10)
    (ticket,) = crowd.ask(one)
    crowd.run()
    assert (await text_of(ticket)).last.new_tokens == 5 * N_POSITIONS
    starts = [part.start for parts in crowd.forward.passes for part in parts if len(part.ids) > 1]
    assert starts[0] == 0
    assert set(starts[1:]) == {10}
    assert len(starts) > 5


async def test_memory_that_runs_out_halves_the_slots_and_no_text_is_lost_or_changed(bench, alone) -> None:
    crowd = bench(8)

    def three_at_most(parts: Sequence[Part]) -> None:
        if len(parts) > 3:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    tickets = crowd.ask(*(request(n, 40) for n in range(3)))
    for _ in range(5):
        crowd.round()
    crowd.forward.before = three_at_most
    tickets += crowd.ask(*(request(n, 40) for n in range(3, 20)))
    crowd.run()
    assert crowd.scheduler.slots == 2
    for ticket in tickets:
        assert await text_of(ticket) == await alone(ticket.request)
    assert max(crowd.began[ticket] for ticket in tickets[:8]) <= min(crowd.began[ticket] for ticket in tickets[8:])


@pytest.mark.parametrize("at", [1, 20])
async def test_memory_that_runs_out_when_tokens_are_drawn_already_costs_none_of_them(
    bench, alone, monkeypatch: pytest.MonkeyPatch, at: int
) -> None:
    """The same random numbers are for the round that is tried again, whose columns are made anew."""
    crowd = bench(4)
    tickets = crowd.ask(*(request(n, 40) for n in range(4)))
    for _ in range(at):
        crowd.round()

    def foresee(_drawn: Drawn) -> None:
        monkeypatch.undo()
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    monkeypatch.setattr(crowd.forward, "foresee", foresee)
    crowd.run()
    assert crowd.scheduler.slots == 2
    for ticket in tickets:
        assert await text_of(ticket) == await alone(ticket.request)


async def test_memory_that_runs_out_when_tokens_are_noted_draws_none_of_them_twice(
    bench, alone, monkeypatch: pytest.MonkeyPatch
) -> None:
    crowd = bench(3)
    tickets = crowd.ask(*(replace(request(n, 40), sampling=STORY) for n in range(3)))
    for _ in range(5):
        crowd.round()

    def note(_grown: object) -> None:
        monkeypatch.undo()
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    monkeypatch.setattr(crowd.scheduler._draws, "_note_seen", note)
    crowd.run()
    for ticket in tickets:
        assert await text_of(ticket) == await alone(ticket.request)


async def test_all_that_was_written_is_shown_before_a_text_waits_for_memory(bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bot.engine.reader.REST_S", 60.0)
    crowd = bench(4)
    tickets = crowd.ask(*(request(n, 40) for n in range(4)))
    for _ in range(3):
        crowd.round()
    shown = [await ticket.reader.next() for ticket in tickets]
    waiting = [asyncio.create_task(ticket.reader.next()) for ticket in tickets]
    await asyncio.sleep(0)
    crowd.round()  # too soon to show it

    def one_at_most(parts: Sequence[Part]) -> None:
        if len(parts) > 1:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    crowd.forward.before = one_at_most
    await asyncio.sleep(0)
    assert not any(task.done() for task in waiting)
    crowd.round()
    more = await asyncio.wait_for(asyncio.gather(*waiting), 5)
    assert all(before.new_tokens < 4 for before in shown)
    assert [piece.new_tokens for piece in more] == [4] * 4
    assert all(piece.text for piece in more)
    crowd.run()


def fail_the_pass(crowd: Bench, _ticket: Ticket) -> None:
    def fail(_parts: Sequence[Part]) -> None:
        raise RuntimeError("a kernel that went wrong")

    crowd.forward.before = fail
    crowd.round()


def break_the_gpu(crowd: Bench, _ticket: Ticket) -> None:
    def fail(_parts: Sequence[Part]) -> None:
        raise torch.AcceleratorError("gone")

    crowd.forward.before = fail
    crowd.round()


def draw_from_no_numbers(crowd: Bench, _ticket: Ticket) -> None:
    crowd.forward.logits = torch.full_like(crowd.forward.logits, float("nan"))
    crowd.round()


def lose_the_tokenizer(crowd: Bench, ticket: Ticket) -> None:
    def bytes_of(_token: int) -> bytes:
        raise KeyError("a token of no vocabulary")

    ticket.writing._characters._vocabulary.bytes_of = bytes_of
    crowd.round()


def close(crowd: Bench, _ticket: Ticket) -> None:
    crowd.scheduler.end_all(EngineFailed("The bot is stopping."), EngineFailed("The bot has stopped."))


@pytest.mark.parametrize("stop", [(), ("no such words",)])
@pytest.mark.parametrize("end", [fail_the_pass, break_the_gpu, draw_from_no_numbers, lose_the_tokenizer, close])
async def test_what_was_too_soon_to_show_comes_before_the_error_that_ends_a_text(
    bench, alone, monkeypatch: pytest.MonkeyPatch, end: Callable[[Bench, Ticket], None], stop: tuple[str, ...]
) -> None:
    monkeypatch.setattr("bot.engine.reader.REST_S", 60.0)
    crowd = bench(1)
    (ticket,) = crowd.ask(request(2, 40, stop=stop))
    for _ in range(5):
        crowd.round()
    whole = await alone(ticket.request)
    first = await ticket.reader.next()
    assert first.new_tokens < 5
    end(crowd, ticket)
    rest = await ticket.reader.next()
    assert rest.new_tokens == 5
    assert rest.text
    assert whole.text.startswith(first.text + rest.text)
    with pytest.raises(StoryError):
        await ticket.reader.next()
    assert not crowd.scheduler.busy
    assert crowd.scheduler.ended == 1


async def test_a_text_is_decoded_when_somebody_may_be_woken_for_it_and_not_for_each_token(
    bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bot.engine.reader.REST_S", 60.0)
    crowd = bench(1)
    (ticket,) = crowd.ask(request(2, 40))
    pieces: list[int] = []
    for _ in range(40):
        crowd.round()
        piece = await asyncio.wait_for(ticket.reader.next(), 5) if ticket.reader._latest is not None else None
        pieces += [] if piece is None else [piece.new_tokens]
    assert pieces[-1] == 40
    assert len(pieces) < 6  # the first with text, after those of half a character; and the last


async def test_memory_that_does_not_last_for_one_text_fails_it_with_a_sentence_and_the_next_is_tried(bench) -> None:
    crowd = bench(2)

    def never_for_long_ones(parts: Sequence[Part]) -> None:
        if any(part.start + len(part.ids) > 30 for part in parts):
            raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes")

    crowd.forward.before = never_for_long_ones
    long, short = crowd.ask(request(1, 50), request(2, 5))
    crowd.run()
    told = await fate_of(long)
    assert isinstance(told, EngineFailed)
    assert "memory" in str(told)
    assert (await text_of(short)).last.new_tokens == 5


async def test_a_failed_pass_fails_the_texts_in_it_and_not_those_that_wait_for_a_turn(bench, alone) -> None:
    crowd = bench(3)
    crowd.forward.prompt_tokens = 64

    def fail_once(parts: Sequence[Part]) -> None:
        crowd.forward.before = lambda _parts: None
        raise RuntimeError("a kernel that went wrong")

    crowd.forward.before = fail_once
    tickets = crowd.ask(*(request(n, 5, prompt=40) for n in range(5)))
    crowd.run()
    fates = [await fate_of(ticket) for ticket in tickets]
    assert [isinstance(fate, EngineFailed) for fate in fates] == [True, False, False, False, False]
    assert "kernel" not in str(fates[0])
    for ticket, fate in list(zip(tickets, fates, strict=True))[1:]:
        assert fate == await alone(ticket.request)


@pytest.mark.parametrize("error", [RuntimeError("CUDA error: an illegal memory access"), torch.AcceleratorError("gone")])
async def test_a_broken_gpu_is_told_to_all_once_and_to_whoever_comes_later(bench, error) -> None:
    crowd = bench(2)

    def fail(_parts: Sequence[Part]) -> None:
        raise error

    tickets = crowd.ask(*(request(n) for n in range(2)))
    crowd.round()
    crowd.forward.before = fail
    tickets += crowd.ask(request(2), request(3))
    crowd.run()
    tickets += crowd.ask(request(4))
    crowd.run()
    assert all([isinstance(await fate_of(ticket), EngineBroken) for ticket in tickets])
    assert crowd.broken == 1
    with pytest.raises(EngineBroken):
        crowd.scheduler.errand(lambda: [0.0])


async def test_logits_that_are_no_numbers_fail_their_text_alone(bench, alone) -> None:
    crowd = bench(3)
    tickets = crowd.ask(*(request(n, 30) for n in range(3)))
    for _ in range(4):
        crowd.round()
    clean = crowd.forward.logits
    crowd.forward.logits = clean.clone()
    bad = hash(tuple(tickets[1].writing._context)) % len(clean)
    crowd.forward.logits[bad, 7] = float("nan")
    crowd.round()
    crowd.forward.logits = clean
    crowd.run()
    fates = [await fate_of(ticket) for ticket in tickets]
    assert isinstance(fates[1], EngineFailed)
    assert [fates[0], fates[2]] == [await alone(tickets[0].request), await alone(tickets[2].request)]


async def test_who_waits_is_told_a_place_that_only_gets_better_and_an_estimate(bench) -> None:
    crowd = bench(1)
    tickets = crowd.ask(*(request(5 * n, 10, user=1) for n in range(4)))
    places: list[list[tuple[int, float | None]]] = [[] for _ in tickets]
    while crowd.scheduler.busy:
        crowd.round()
        for seen, ticket in zip(places, tickets, strict=True):
            if ticket.told is not None and (ticket.told.position, ticket.told.estimate_s) not in seen:
                seen.append((ticket.told.position, ticket.told.estimate_s))
    assert places[0] == []  # it began at once
    assert [position for position, _ in places[3]] == sorted([position for position, _ in places[3]], reverse=True)
    assert places[3][0] == (3, None)  # before anything was measured
    assert places[3][-1][0] == 1
    assert None not in [estimate_s for _, estimate_s in places[3][1:]]  # their sums are in test_engine_line
    told = await tickets[3].reader.next()
    assert (told.waiting, told.new_tokens) == (None, 10)  # the places are out of date, and nobody reads them
