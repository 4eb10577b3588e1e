"""A crowd over the GPU's forward pass, whose next step is begun before anybody knows what was drawn: no text gets another's.

Without a GPU it runs here without its graphs.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tiny_gpt2 import N_POSITIONS, Text
from tokenizers import Tokenizer
from torch import Tensor

from bot.engine.characters import Vocabulary
from bot.engine.cuda_forward import CudaForward
from bot.engine.drawn import Drawn
from bot.engine.draws import Draws
from bot.engine.forward import Part
from bot.engine.gpt2_weights import Gpt2Shape, covered_shape, read_weights
from bot.engine.interface import GenerationRequest, Sampling
from bot.engine.model_files import read_fields
from bot.engine.reader import Reader
from bot.engine.scheduler import Scheduler
from bot.engine.ticket import Ticket
from bot.engine.writing import Writing

GREEDY, FLAT = Sampling(temperature=0), Sampling(temperature=3.0, top_p=0.99)
"""What is flat reaches past the tokens that are looked at first, and is drawn again after the next step was begun."""


class Counting(CudaForward):
    """It counts the steps that were begun early, and those that were not."""

    begun = late = 0

    def foresee(self, drawn: Drawn) -> None:
        super().foresee(drawn)
        self.begun += self._foreseen is not None

    def _step(self, parts: Sequence[Part]) -> Tensor:
        self.late += 1
        return super()._step(parts)


@pytest.fixture(params=["cpu", "cuda"])
def device(request: pytest.FixtureRequest) -> torch.device:
    if request.param == "cuda" and not torch.cuda.is_available():
        pytest.skip("no CUDA device on this machine")
    return torch.device(request.param)


class Crowd:
    """A scheduler over the tiny model."""

    def __init__(self, directory: Path, tokenizer: Tokenizer, device: torch.device, slots: int) -> None:
        shape = covered_shape(read_fields(directory))
        assert isinstance(shape, Gpt2Shape)
        vocabulary = Vocabulary(tokenizer, shape.vocab_size, frozenset())
        unwritable = torch.zeros(shape.vocab_size, dtype=torch.bool)
        unwritable[sorted(vocabulary.unwritable)] = True
        self.forward = Counting(read_weights(directory, shape), device, torch.float32, slots)
        self.scheduler = Scheduler(
            self.forward,
            lambda slots: Draws(slots, unwritable),
            lambda request: Writing(request, vocabulary, shape.n_positions, frozenset()),
        )

    def ask(self, request: GenerationRequest) -> Ticket:
        ticket = Ticket(request, Reader())
        self.scheduler.add([ticket])
        return ticket


async def text_of(ticket: Ticket) -> Text:
    text = Text()
    while not text.pieces or text.finish_reason is None:
        text.pieces.append(await ticket.reader.next())
    return text


def request(seed: int, sampling: Sampling) -> GenerationRequest:
    draw = random.Random(seed)
    prompt = tuple(draw.randrange(1, 300) for _ in range(draw.randint(1, 20)))
    return GenerationRequest(prompt, draw.choice((3, 30, 2 * N_POSITIONS)), sampling, seed)


@pytest.mark.parametrize("seed", range(3))
async def test_texts_that_join_leave_and_outgrow_the_context_are_those_told_alone(
    pristine: Path, tokenizer: Tokenizer, device: torch.device, seed: int
) -> None:
    draw = random.Random(seed)
    crowd = Crowd(pristine, tokenizer, device, slots=5)
    asked: list[Ticket] = []
    for number in range(30):
        asked.append(crowd.ask(request(100 * seed + number, draw.choice((GREEDY, FLAT)))))
        for _ in range(draw.randint(0, 12)):
            crowd.scheduler.round()
        if draw.random() < 0.2:
            draw.choice(asked).reader.gone = True
    while crowd.scheduler.busy:
        crowd.scheduler.round()
    assert crowd.forward.begun > 100
    alone = Crowd(pristine, tokenizer, device, slots=1)
    for ticket in asked:
        if ticket.reader.gone:
            continue
        quiet = alone.ask(replace(ticket.request))
        while alone.scheduler.busy:
            alone.scheduler.round()
        told, expected = await text_of(ticket), await text_of(quiet)
        assert (told.text, told.last.new_tokens) == (expected.text, expected.last.new_tokens)


async def test_a_text_alone_has_all_its_steps_begun_early(pristine: Path, tokenizer: Tokenizer, device: torch.device) -> None:
    crowd = Crowd(pristine, tokenizer, device, slots=2)
    ticket = crowd.ask(GenerationRequest((5, 6, 7), 30, GREEDY, 1))
    while crowd.scheduler.busy:
        crowd.scheduler.round()
    assert (await text_of(ticket)).last.new_tokens == 30
    assert (crowd.forward.begun, crowd.forward.late) == (30, 0)


async def test_a_context_without_room_is_not_stepped_past(pristine: Path, tokenizer: Tokenizer, device: torch.device) -> None:
    """The token drawn at the last position has none to stand at: half of the new text is forgotten and read anew."""
    crowd = Crowd(pristine, tokenizer, device, slots=1)
    crowd.ask(GenerationRequest(tuple(range(1, 41)), 30, GREEDY, 1))
    positions: list[int] = []
    real = crowd.forward._step_for
    crowd.forward._step_for = lambda slot, position: (positions.append(position), real(slot, position))[1]
    while crowd.scheduler.busy:
        crowd.scheduler.round()
    assert positions == [*range(40, N_POSITIONS), *range(52, 57)]
