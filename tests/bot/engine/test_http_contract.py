"""What any engine promises to the storyteller, here of the HTTP one.

Each function takes an `engine` and `request_for` and calls nothing but the Engine protocol, so that other engines can run the
same ones: they are listed in CONTRACT.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path

import pytest
from completions_server import CompletionsServer

from bot.engine.http import HttpEngine
from bot.engine.interface import Engine, FinishReason, GenerationRequest, Piece, Sampling
from bot.errors import PromptTooLong, ShuttingDown

Make = Callable[..., GenerationRequest]


@pytest.fixture
async def engine(pristine: Path) -> AsyncIterator[Engine]:
    async with CompletionsServer() as server:
        server.logprob = lambda token: -float(token)
        engine = HttpEngine(server.url, pristine)
        yield engine
        await engine.close()


async def pieces_of(engine: Engine, request: GenerationRequest) -> list[Piece]:
    return [piece async for piece in engine.generate(request)]


async def test_generate_before_load_loads(engine: Engine, request_for: Make) -> None:
    assert not engine.ready
    assert await pieces_of(engine, request_for(new=3))
    assert engine.ready


async def test_a_second_load_waits_for_the_first(engine: Engine) -> None:
    await asyncio.gather(engine.load(), engine.load())
    assert engine.ready


async def test_only_the_last_piece_has_a_reason_and_tokens_only_grow(engine: Engine, request_for: Make) -> None:
    pieces = await pieces_of(engine, request_for(new=20))
    assert [piece.finish_reason is None for piece in pieces] == [True] * (len(pieces) - 1) + [False]
    counts = [piece.new_tokens for piece in pieces]
    assert counts == sorted(counts)
    assert counts[-1] <= 20


async def test_no_more_is_written_than_was_asked_for(engine: Engine, request_for: Make) -> None:
    last = (await pieces_of(engine, request_for(new=7)))[-1]
    assert last.new_tokens == 7 or last.finish_reason is FinishReason.STOP


async def test_a_text_may_be_longer_than_the_context(engine: Engine, request_for: Make) -> None:
    last = (await pieces_of(engine, request_for(new=3 * engine.n_positions)))[-1]
    assert last.new_tokens == 3 * engine.n_positions or last.finish_reason is FinishReason.STOP


async def test_a_prompt_without_room_is_refused(engine: Engine) -> None:
    with pytest.raises(PromptTooLong):
        await pieces_of(engine, GenerationRequest((5,) * engine.n_positions, 10, Sampling(), seed=0))


async def test_a_stop_string_is_never_in_the_text(engine: Engine, request_for: Make) -> None:
    whole = "".join(piece.text for piece in await pieces_of(engine, request_for(temperature=0.0)))
    stop = whole[3:6]
    pieces = await pieces_of(engine, replace(request_for(temperature=0.0), stop=(stop,)))
    assert stop not in "".join(piece.text for piece in pieces)
    assert pieces[-1].finish_reason is FinishReason.STOP


async def test_a_text_that_is_left_disturbs_no_other(engine: Engine, request_for: Make) -> None:
    other = asyncio.create_task(pieces_of(engine, request_for(new=20)))
    async with aclosing(engine.generate(request_for(new=200))) as pieces:
        await anext(pieces)
    assert (await other)[-1].finish_reason is not None


async def test_scores_are_one_number_a_prefix(engine: Engine) -> None:
    scores = await engine.score([[5], [6], [7]], [8, 9])
    assert len(scores) == 3
    assert all(score <= 0 for score in scores)


async def test_a_closed_engine_says_so(engine: Engine, request_for: Make) -> None:
    await engine.load()
    await engine.close()
    await engine.close()
    for call in (engine.load(), pieces_of(engine, request_for()), engine.score([[1]], [2])):
        with pytest.raises(ShuttingDown):
            await call


CONTRACT = [
    test_generate_before_load_loads,
    test_a_second_load_waits_for_the_first,
    test_only_the_last_piece_has_a_reason_and_tokens_only_grow,
    test_no_more_is_written_than_was_asked_for,
    test_a_text_may_be_longer_than_the_context,
    test_a_prompt_without_room_is_refused,
    test_a_stop_string_is_never_in_the_text,
    test_a_text_that_is_left_disturbs_no_other,
    test_scores_are_one_number_a_prefix,
    test_a_closed_engine_says_so,
]
