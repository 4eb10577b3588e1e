"""What every engine promises, whoever does the sums. The engines are in contract.py."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path

import pytest
from contract import ENGINES
from tiny_gpt2 import END, N_POSITIONS, TAGS, read
from tokenizers import Tokenizer

from bot.engine.interface import Engine, FinishReason, GenerationRequest, Sampling
from bot.errors import PromptTooLong, ShuttingDown

Make = Callable[..., GenerationRequest]


@pytest.fixture(params=ENGINES)
async def any_engine(request: pytest.FixtureRequest, pristine: Path) -> AsyncIterator[Engine]:
    async with ENGINES[request.param](pristine) as engine:
        yield engine


async def test_pieces_are_whole_characters_and_only_the_last_says_why_it_ended(any_engine: Engine, request_for: Make) -> None:
    for seed in range(6):
        text = await read(any_engine, request_for(new=40, seed=seed, temperature=1.3))
        assert text.finish_reason in (FinishReason.STOP, FinishReason.LENGTH)
        assert not any(piece.finish_reason for piece in text.pieces[:-1])
        counts = [piece.new_tokens for piece in text.pieces if piece.waiting is None]
        assert counts == sorted(counts)
        assert 0 <= text.last.new_tokens <= 40
        assert not any(special in text.text for special in (*TAGS, END))
        text.text.encode()  # no half of a character


async def test_the_same_seed_gives_the_same_text_and_another_seed_another(any_engine: Engine, request_for: Make) -> None:
    once, again, other = [await read(any_engine, request_for(seed=seed, temperature=1.0)) for seed in (1, 1, 2)]
    assert once == again
    assert once != other


async def test_two_at_once_do_not_mix(any_engine: Engine, request_for: Make) -> None:
    requests = [request_for(prompt, seed=3, temperature=1.0) for prompt in ("[FANTASY] the dragon", "[HORROR] the sea")]
    alone = [await read(any_engine, one) for one in requests]
    assert list(await asyncio.gather(*(read(any_engine, one) for one in requests))) == alone


async def test_closing_the_generator_cancels_the_text_and_the_engine_goes_on(any_engine: Engine, request_for: Make) -> None:
    async with aclosing(any_engine.generate(request_for(new=40, seed=1, temperature=1.0))) as pieces:
        async for piece in pieces:
            if piece.waiting is None:
                break
    assert (await read(any_engine, request_for(new=5, temperature=0))).pieces


async def test_a_text_ends_before_its_stop_string(any_engine: Engine, request_for: Make) -> None:
    request = request_for(new=40, seed=5, temperature=1.0)
    whole = (await read(any_engine, request)).text
    stop = whole[len(whole) // 2 :][:3]
    text = await read(any_engine, replace(request, stop=("never there", stop)))
    assert text.text == whole[: whole.index(stop)]
    assert text.finish_reason is FinishReason.STOP


async def test_a_stop_string_that_never_comes_changes_nothing(any_engine: Engine, request_for: Make) -> None:
    request = request_for(new=40, seed=5, temperature=1.0)
    whole = await read(any_engine, request)
    almost = whole.text[-3:] + "\x00"  # the text ends with a beginning of it
    assert await read(any_engine, replace(request, stop=(almost,))) == whole


async def test_a_prompt_that_leaves_no_room_is_a_sentence(any_engine: Engine) -> None:
    with pytest.raises(PromptTooLong, match=r"tokens"):
        await read(any_engine, GenerationRequest((5,) * N_POSITIONS, 10, Sampling(), seed=0))


async def test_scores_are_of_each_prefix_in_its_place(any_engine: Engine, tokenizer: Tokenizer) -> None:
    prefixes = [[tokenizer.token_to_id(tag)] for tag in TAGS]
    continuation = tokenizer.encode("the dragon woke").ids
    scores = await any_engine.score(prefixes, continuation)
    assert await any_engine.score(prefixes[::-1], continuation) == pytest.approx(scores[::-1], abs=1e-3)
    assert all(score < 0 for score in scores)
    assert len(set(scores)) == 2


async def test_closing_ends_the_texts_in_flight_and_takes_no_more(any_engine: Engine, request_for: Make) -> None:
    await any_engine.load()
    assert any_engine.ready
    pieces = any_engine.generate(request_for(new=10**6, temperature=1.0, banned_ids=((0,),)))
    await anext(pieces)
    await any_engine.close()
    with pytest.raises(ShuttingDown):
        [piece async for piece in pieces]
    with pytest.raises(ShuttingDown):
        await read(any_engine, request_for())
