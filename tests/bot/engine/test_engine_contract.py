"""What every engine promises, whoever does the sums. The engines are in contract.py.

Texts are greedy where one must come again: a seed is a promise of some engines only.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path

import pytest
from contract import ENGINES, Open
from tiny_gpt2 import END, N_POSITIONS, TAGS, read
from tokenizers import Tokenizer

from bot.engine.interface import Engine, FinishReason, GenerationRequest, Sampling
from bot.errors import PromptTooLong, QueueFull, ShuttingDown

Make = Callable[..., GenerationRequest]


@pytest.fixture(params=ENGINES)
def open_engine(request: pytest.FixtureRequest) -> Open:
    return ENGINES[request.param]


@pytest.fixture
async def any_engine(open_engine: Open, pristine: Path) -> AsyncIterator[Engine]:
    async with open_engine(pristine) as engine:
        yield engine


async def test_generate_before_load_loads(any_engine: Engine, request_for: Make) -> None:
    assert not any_engine.ready
    assert (await read(any_engine, request_for(new=3))).finish_reason is not None
    assert any_engine.ready


async def test_a_second_load_waits_for_the_first(any_engine: Engine) -> None:
    await asyncio.gather(any_engine.load(), any_engine.load())
    assert any_engine.ready
    assert any_engine.n_positions == N_POSITIONS


async def test_pieces_are_whole_characters_and_only_the_last_says_why_it_ended(any_engine: Engine, request_for: Make) -> None:
    for seed in range(6):
        text = await read(any_engine, request_for(new=40, seed=seed, temperature=1.3))
        assert text.finish_reason in (FinishReason.STOP, FinishReason.LENGTH)
        assert not any(piece.finish_reason for piece in text.pieces[:-1])
        counts = [piece.new_tokens for piece in text.pieces if piece.waiting is None]
        assert counts == sorted(counts)
        assert text.last.new_tokens == 40 or (text.finish_reason is FinishReason.STOP and 0 <= text.last.new_tokens < 40)
        assert not any(special in text.text for special in (*TAGS, END))
        text.text.encode()  # no half of a character


async def test_a_text_may_be_longer_than_the_context(any_engine: Engine, request_for: Make) -> None:
    text = await read(any_engine, request_for(new=3 * N_POSITIONS, temperature=1.0, banned_ids=((0,),)))
    assert (text.last.new_tokens, text.finish_reason) == (3 * N_POSITIONS, FinishReason.LENGTH)


async def test_the_same_seed_gives_the_same_text_and_another_seed_another(any_engine: Engine, request_for: Make) -> None:
    await any_engine.load()
    once, again, other = [await read(any_engine, request_for(seed=seed, temperature=1.0)) for seed in (1, 1, 2)]
    if any_engine.repeatable:
        assert once == again
    assert once != other


async def test_two_at_once_do_not_mix(any_engine: Engine, request_for: Make) -> None:
    requests = [request_for(prompt, temperature=0) for prompt in ("[FANTASY] the dragon", "[HORROR] the sea")]
    alone = [await read(any_engine, one) for one in requests]
    assert list(await asyncio.gather(*(read(any_engine, one) for one in requests))) == alone


async def test_closing_the_generator_cancels_the_text_and_the_others_go_on(any_engine: Engine, request_for: Make) -> None:
    other = asyncio.create_task(read(any_engine, request_for(new=20)))
    async with aclosing(any_engine.generate(request_for(new=200, seed=1, temperature=1.0))) as pieces:
        async for piece in pieces:
            if piece.waiting is None:
                break
    assert (await other).finish_reason is not None
    assert (await read(any_engine, request_for(new=5, temperature=0))).finish_reason is not None


async def test_who_waits_is_told_where_and_one_too_many_is_refused_at_once(
    open_engine: Open, pristine: Path, request_for: Make
) -> None:
    endless = request_for(new=10**6, temperature=1.0, banned_ids=((0,),))
    async with open_engine(pristine, max_stories=1, max_queued=2) as engine:
        async with aclosing(engine.generate(endless)) as first:
            await anext(first)
            second, third = (engine.generate(replace(endless, user=user)) for user in (1, 2))
            for position, pieces in enumerate((second, third), 1):
                waiting = (await anext(pieces)).waiting
                assert waiting is not None
                assert waiting.position == position
            with pytest.raises(QueueFull, match="2 stories are waiting"):
                await read(engine, endless)
            await second.aclose()
            async for piece in third:  # an estimate may change before its place does
                assert piece.waiting is not None
                if piece.waiting.position == 1:
                    break
        async for piece in third:
            if piece.waiting is None:  # its turn has come
                break
        await third.aclose()


async def test_a_text_ends_before_its_stop_string(any_engine: Engine, request_for: Make) -> None:
    request = request_for(new=40, temperature=0)
    whole = (await read(any_engine, request)).text
    stop = whole[len(whole) // 2 :][:3]
    text = await read(any_engine, replace(request, stop=("never there", stop)))
    assert text.text == whole[: whole.index(stop)]
    assert text.finish_reason is FinishReason.STOP


async def test_a_stop_string_that_never_comes_changes_nothing(any_engine: Engine, request_for: Make) -> None:
    request = request_for(new=40, temperature=0)
    whole = await read(any_engine, request)
    almost = whole.text[-3:] + "\x00"  # the text ends with a beginning of it
    assert await read(any_engine, replace(request, stop=(almost,))) == whole


async def test_a_prompt_that_leaves_no_room_is_a_sentence(any_engine: Engine) -> None:
    with pytest.raises(PromptTooLong, match=r"tokens"):
        await read(any_engine, GenerationRequest((5,) * N_POSITIONS, 10, Sampling(), seed=0))


@pytest.mark.parametrize("ids", [(), (-1,), (10**6,)])
async def test_tokens_that_the_model_does_not_have_are_refused(
    any_engine: Engine, request_for: Make, ids: tuple[int, ...]
) -> None:
    with pytest.raises(ValueError, match="token"):
        await read(any_engine, replace(request_for(), prompt_ids=ids))
    with pytest.raises(ValueError, match="token"):
        await any_engine.score([ids], [5])


async def test_scores_are_of_each_prefix_in_its_place(any_engine: Engine, tokenizer: Tokenizer) -> None:
    prefixes = [[tokenizer.token_to_id(tag)] for tag in TAGS]
    continuation = tokenizer.encode("the dragon woke").ids
    scores = await any_engine.score(prefixes, continuation)
    assert await any_engine.score(prefixes[::-1], continuation) == pytest.approx(scores[::-1], abs=1e-3)
    assert all(score < 0 for score in scores)
    assert len(set(scores)) == 2


async def test_what_can_not_be_scored_is_refused_and_nothing_is_nothing(any_engine: Engine) -> None:
    assert await any_engine.score([], [1]) == []
    assert await any_engine.score([[1], [2]], []) == [0.0, 0.0]
    with pytest.raises(ValueError, match="same length"):
        await any_engine.score([[1], [1, 2]], [3])
    with pytest.raises(PromptTooLong):
        await any_engine.score([[1] * 40], [3] * 40)


async def test_closing_ends_the_texts_in_flight_and_takes_no_more(any_engine: Engine, request_for: Make) -> None:
    await any_engine.load()
    assert any_engine.ready
    pieces = any_engine.generate(request_for(new=10**6, temperature=1.0, banned_ids=((0,),)))
    await anext(pieces)
    await any_engine.close()
    with pytest.raises(ShuttingDown, match="in the middle"):
        [piece async for piece in pieces]
    await any_engine.close()
    for call in (any_engine.load(), read(any_engine, request_for()), any_engine.score([[1]], [2])):
        with pytest.raises(ShuttingDown, match="takes no more stories"):
            await call
