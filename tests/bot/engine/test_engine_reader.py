from __future__ import annotations

import asyncio

import pytest

from bot.engine.interface import FinishReason, Piece, Waiting
from bot.engine.reader import REST_S, Reader, hand_over
from bot.errors import EngineFailed


async def test_what_a_slow_reader_did_not_take_is_one_piece_and_memory_stays_flat() -> None:
    reader = Reader()
    for n in range(1, 10_001):
        hand_over([(reader, Piece("ab", n))])
    hand_over([(reader, Piece("c", 10_001, FinishReason.LENGTH))])
    assert await reader.next() == Piece("ab" * 10_000 + "c", 10_001, FinishReason.LENGTH)
    assert not reader._texts


async def test_a_place_in_the_line_is_replaced_by_a_newer_one_and_by_the_first_text() -> None:
    reader = Reader()
    hand_over([(reader, Piece("", 0, waiting=Waiting(3, None)))])
    hand_over([(reader, Piece("", 0, waiting=Waiting(2, 5.0)))])
    assert (await reader.next()).waiting == Waiting(2, 5.0)
    hand_over([(reader, Piece("", 0, waiting=Waiting(1, 1.0)))])
    hand_over([(reader, Piece("a", 1))])
    assert await reader.next() == Piece("a", 1)


async def test_an_error_comes_after_the_text_that_was_written_before_it() -> None:
    reader = Reader()
    hand_over([(reader, Piece("a", 1))])
    hand_over([(reader, EngineFailed("It broke."))])
    assert (await reader.next()).text == "a"
    with pytest.raises(EngineFailed):
        await reader.next()


async def test_sleepers_of_one_loop_are_woken_by_one_call_and_who_is_awake_by_none(monkeypatch: pytest.MonkeyPatch) -> None:
    loop = asyncio.get_running_loop()
    readers = [Reader() for _ in range(5)]
    sleeping = [asyncio.create_task(reader.next()) for reader in readers[:3]]
    await asyncio.sleep(0)
    calls: list[int] = []
    real = loop.call_soon_threadsafe
    monkeypatch.setattr(loop, "call_soon_threadsafe", lambda call, *args: (calls.append(len(args[0])), real(call, *args)))
    for n in range(1, 4):
        hand_over([(reader, Piece("a", n)) for reader in readers])
    assert calls == [3]
    assert [piece.text for piece in await asyncio.gather(*sleeping)] == ["aaa"] * 3


async def test_half_a_character_wakes_nobody() -> None:
    reader = Reader()
    sleeping = asyncio.create_task(reader.next())
    await asyncio.sleep(0)
    hand_over([(reader, Piece("", 1))])
    await asyncio.sleep(0)
    assert not sleeping.done()
    hand_over([(reader, Piece("é", 2))])
    assert await sleeping == Piece("é", 2)


def test_a_closed_loop_lets_its_readers_go() -> None:
    loop = asyncio.new_event_loop()
    reader = Reader(loop)
    loop.close()
    hand_over([(reader, Piece("a", 1))])
    assert reader.gone


async def test_text_that_was_held_back_goes_with_the_next_token_even_if_that_has_none() -> None:
    reader = Reader()
    sleeping = asyncio.create_task(reader.next())
    await asyncio.sleep(0)
    hand_over([(reader, Piece("a", 1))])
    assert await sleeping == Piece("a", 1)
    sleeping = asyncio.create_task(reader.next())
    await asyncio.sleep(0)
    hand_over([(reader, Piece("b", 2))])  # too soon to wake anybody
    await asyncio.sleep(2 * REST_S)
    assert not sleeping.done()
    hand_over([(reader, Piece("", 3))])
    assert await asyncio.wait_for(sleeping, 5) == Piece("b", 3)
