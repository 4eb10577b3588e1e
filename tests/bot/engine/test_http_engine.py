"""What the HTTP engine promises whatever a server does: whole text, one clear end, tries before the first word only."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, aclosing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from completions_server import DONE, WORD, CompletionsServer, event, fails, never, sends
from tiny_gpt2 import END, TAGS, read
from tokenizers import Tokenizer

from bot.engine import server_wire
from bot.engine.before_writing import MIN_ROOM
from bot.engine.http import HttpEngine
from bot.engine.interface import Engine, FinishReason, GenerationRequest, Sampling
from bot.engine.server_attempts import FIRST_PAUSE_S, TRIES
from bot.engine.server_pool import CHECK_EVERY_S, OPENING_PAUSE_S
from bot.errors import CannotScore, EngineFailed, ModelUnavailable, PromptTooLong, ShuttingDown

Make = Callable[..., GenerationRequest]
Open = Callable[..., Awaitable[HttpEngine]]
QUICK_S = 0.05


class Pauses:
    """Takes the place of sleeping: notes how long, and lets only the background checks wait for ever."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self.before_next: Callable[[], Awaitable[None]] | None = None

    async def __call__(self, seconds: float) -> None:
        if seconds == CHECK_EVERY_S:
            await never().wait()
        self.seconds.append(seconds)
        if self.before_next is not None:
            act, self.before_next = self.before_next, None
            await act()


@pytest.fixture
def pauses() -> Pauses:
    return Pauses()


@pytest.fixture
async def server() -> AsyncIterator[CompletionsServer]:
    async with CompletionsServer() as server:
        yield server


@pytest.fixture
async def over(pristine: Path, pauses: Pauses) -> AsyncIterator[Open]:
    """Make an engine over servers: `await over(server, silence_s=1)`; it is loaded, and closed in the end."""
    async with AsyncExitStack() as stack:

        async def make(*servers: CompletionsServer, load: bool = True, **options: Any) -> HttpEngine:
            urls = ",".join(server.url for server in servers)
            engine = HttpEngine(urls, pristine, pause=pauses, **{"silence_s": 20.0} | options)
            stack.push_async_callback(engine.close)
            if load:
                await engine.load()
            return engine

        yield make


def test_it_is_an_engine_and_promises_no_repeats(pristine: Path) -> None:
    engine: Engine = HttpEngine("http://127.0.0.1:1", pristine)
    assert not engine.ready
    assert not engine.repeatable
    assert engine.n_positions == 64


async def test_text_streams_and_ends_with_the_servers_count(server: CompletionsServer, over: Open, request_for: Make) -> None:
    server.answers.append(sends(event("Once"), event(" upon a time"), event("", "length"), event("", usage=9), DONE))
    text = await read(await over(server), request_for(new=9))
    assert text.text == "Once upon a time"
    assert [piece.text for piece in text.pieces] == ["Once", " upon a time", ""]
    assert (text.last.new_tokens, text.finish_reason) == (9, FinishReason.LENGTH)
    assert [piece.finish_reason for piece in text.pieces[:-1]] == [None, None]


async def test_tokens_are_counted_by_our_tokenizer_where_the_server_does_not(
    server: CompletionsServer, over: Open, request_for: Make, tokenizer: Tokenizer
) -> None:
    server.answers.append(sends(event("the castle"), event("", "stop"), DONE))
    text = await read(await over(server), request_for())
    assert text.last.new_tokens == len(tokenizer.encode("the castle").ids)
    assert text.finish_reason is FinishReason.STOP


async def test_the_end_token_is_not_counted(server: CompletionsServer, over: Open, request_for: Make) -> None:
    server.answers.append(sends(event(" castle"), event("", "stop", usage=2)))
    assert (await read(await over(server), request_for())).last.new_tokens == 1


@pytest.mark.parametrize("size", [1, 2, 3, 7])
async def test_however_the_network_cuts_the_stream_the_text_is_whole(
    server: CompletionsServer, over: Open, request_for: Make, size: int
) -> None:
    story = "Ein Drache 🐉 saß — naïve — im Café."
    raw = '{"choices": [{"index": 0, "text": "' + story + '", "finish_reason": null}]}'
    stream = f": keep-alive\r\n\r\nevent: x\r\ndata: {raw}\r\n\r\n".encode() + event("", "stop") + DONE
    server.answers.append(sends(*(stream[at : at + size] for at in range(0, len(stream), size))))
    text = await read(await over(server), request_for())
    assert text.text == story


async def test_halves_of_a_character_in_two_chunks_are_joined(server: CompletionsServer, over: Open, request_for: Make) -> None:
    server.answers.append(sends(event("a \ud83d"), event("\udc09 b\ud83d"), event("", "stop"), DONE))
    text = await read(await over(server), request_for())
    assert [piece.text for piece in text.pieces] == ["a ", "🐉 b", "\ufffd"]


async def test_a_stream_without_done_or_usage_ends_all_the_same(
    server: CompletionsServer, over: Open, request_for: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_wire, "USAGE_S", QUICK_S)
    server.answers.append(sends(event(" castle"), event("", "stop"), never()))
    assert (await read(await over(server), request_for())).finish_reason is FinishReason.STOP
    await server.disconnected.wait()


@pytest.mark.parametrize(
    ("parts", "closes"),
    [
        ([event(" castle")], True),
        ([event(" castle")], False),
        ([event(" castle"), b'data: {"choices": [{"text": "half'], False),
        ([event(" castle"), b"data: <html>\n\n"], False),
        ([event(" castle"), b'data: {"error": {"message": "out of memory"}}\n\n', DONE], False),
        ([event(" castle"), event("", "abort"), DONE], False),
        ([event(" castle"), b'data: {"choices": [{"text": 5}]}\n\n'], False),
        ([event(" castle"), b"data: [1]\n\n"], False),
        ([event(" castle"), b"x" * (1 << 20) + b"x"], False),
    ],
)
async def test_a_failure_after_the_first_word_ends_the_text_and_is_not_tried_again(
    server: CompletionsServer, over: Open, request_for: Make, parts: list[bytes], closes: bool
) -> None:
    server.answers.append(sends(*parts, closes=closes))
    pieces = (await over(server)).generate(request_for())
    assert (await anext(pieces)).text == " castle"
    with pytest.raises(EngineFailed, match="broke off in the middle"):
        await anext(pieces)
    assert len(server.bodies) == 1


async def test_a_server_that_dies_in_the_middle_is_asked_no_more(over: Open, request_for: Make) -> None:
    async with CompletionsServer() as first, CompletionsServer() as second:
        engine = await over(first, second)
        first.answers.append(sends(event(" castle"), closes=True))
        with pytest.raises(EngineFailed, match="broke off in the middle"):
            await read(engine, request_for())
        assert (await read(engine, request_for(new=3))).text == 3 * WORD
        assert (len(first.bodies), len(second.bodies)) == (1, 1)


async def test_a_long_text_that_no_server_can_go_on_with_broke_off(
    server: CompletionsServer, over: Open, request_for: Make, pauses: Pauses
) -> None:
    request = request_for(new=100)
    room = server.context - len(request.prompt_ids)
    server.answers.append(sends(*[event(WORD)] * room, event("", "length"), event("", usage=room), DONE))
    server.answers.append(sends(closes=True))
    pauses.before_next = server.stop
    pieces = (await over(server)).generate(request)
    assert "".join([(await anext(pieces)).text for _ in range(room)]) == room * WORD
    with pytest.raises(EngineFailed, match="broke off in the middle"):
        [piece async for piece in pieces]


async def test_silence_after_the_first_word_ends_the_text(server: CompletionsServer, over: Open, request_for: Make) -> None:
    server.answers.append(sends(event(" castle"), b": still here\n\n", never()))
    with pytest.raises(EngineFailed, match="broke off"):
        await read(await over(server, silence_s=QUICK_S), request_for())
    await server.disconnected.wait()


@pytest.mark.parametrize(
    "fault",
    [
        fails(500),
        fails(502, "<html>bad gateway</html>"),
        fails(200, "<html>log in</html>", Content_Type="text/html"),
        fails(200, '{"choices": []}', Content_Type="application/json"),
        sends(b"data: {garbage\n\n"),
        sends(closes=True),
        sends(event(""), closes=True),
    ],
)
async def test_a_failure_before_the_first_word_is_tried_again(
    server: CompletionsServer, over: Open, request_for: Make, pauses: Pauses, fault: Any
) -> None:
    server.answers.extend([fault, sends(event(" castle"), event("", "stop"), DONE)])
    assert (await read(await over(server), request_for())).text == " castle"
    assert FIRST_PAUSE_S / 2 <= pauses.seconds[0] <= FIRST_PAUSE_S


async def test_tries_end_with_a_sentence(server: CompletionsServer, over: Open, request_for: Make, pauses: Pauses) -> None:
    server.answers.extend([fails(500)] * (TRIES + 1))
    with pytest.raises(EngineFailed, match="Try again in a minute"):
        await read(await over(server), request_for())
    assert len(server.bodies) == TRIES
    assert pauses.seconds == sorted(pauses.seconds)
    assert len(pauses.seconds) == TRIES - 1


async def test_a_slow_first_token_is_tried_again(server: CompletionsServer, over: Open, request_for: Make) -> None:
    server.answers.extend([sends(never()), sends(event(" castle"), event("", "stop"), DONE)])
    assert (await read(await over(server, silence_s=QUICK_S), request_for())).text == " castle"
    await server.disconnected.wait()


@pytest.mark.parametrize(("header", "pause_s"), [("7", 7.0), ("100000", 30.0), ("soon", None)])
async def test_retry_after_is_honoured(
    server: CompletionsServer, over: Open, request_for: Make, pauses: Pauses, header: str, pause_s: float | None
) -> None:
    server.answers.append(fails(429, Retry_After=header))
    await read(await over(server), request_for(new=2))
    assert pauses.seconds[0] == pause_s if pause_s else pauses.seconds[0] <= FIRST_PAUSE_S


async def test_a_server_that_stays_busy_is_told_as_that(server: CompletionsServer, over: Open, request_for: Make) -> None:
    server.answers.extend([fails(503)] * TRIES)
    with pytest.raises(EngineFailed, match="too much to do"):
        await read(await over(server), request_for())


@pytest.mark.parametrize("status", [400, 401, 404, 422])
async def test_what_a_server_refuses_is_not_asked_again_and_its_words_are_in_the_log(
    server: CompletionsServer, over: Open, request_for: Make, caplog: pytest.LogCaptureFixture, status: int
) -> None:
    server.answers.append(fails(status, '{"error": {"message": "the reason"}}'))
    with pytest.raises(EngineFailed, match=str(status)):
        await read(await over(server), request_for())
    assert len(server.bodies) == 1
    assert "the reason" in caplog.text


async def test_closing_the_generator_closes_the_connection(server: CompletionsServer, over: Open, request_for: Make) -> None:
    server.answers.append(sends(event(" castle"), never(), event(" after the cancel")))
    async with aclosing((await over(server)).generate(request_for())) as pieces:
        assert (await anext(pieces)).text == " castle"
    await server.disconnected.wait()


async def test_a_cancelled_task_closes_the_connection(server: CompletionsServer, over: Open, request_for: Make) -> None:
    engine, started = await over(server), asyncio.Event()
    server.answers.append(sends(event(" castle"), never()))

    async def follow() -> None:
        async for _ in engine.generate(request_for()):
            started.set()

    task = asyncio.create_task(follow())
    await started.wait()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await server.disconnected.wait()


async def test_a_dead_server_hands_its_stories_to_the_other(over: Open, request_for: Make, pauses: Pauses) -> None:
    async with CompletionsServer() as first, CompletionsServer() as second:
        engine = await over(first, second)
        await first.stop()
        texts = await asyncio.gather(*(read(engine, request_for(new=3, seed=seed)) for seed in range(4)))
        assert [text.text for text in texts] == [3 * WORD] * 4
        assert len(second.bodies) == 4
        assert pauses.seconds == []  # another address needs no pause


async def test_a_server_that_comes_back_is_used_again(over: Open, request_for: Make) -> None:
    async with CompletionsServer() as server:
        engine = await over(server)
        await server.stop()
        with pytest.raises(ModelUnavailable, match="ENGINE_URL"):
            await read(engine, request_for(new=3))
        await server.start()
        assert (await read(engine, request_for(new=3))).text == 3 * WORD


async def test_the_background_check_finds_who_went_and_who_came_back(over: Open, request_for: Make) -> None:
    async with CompletionsServer() as first, CompletionsServer() as second:
        engine = await over(first, second)
        first.health = 503
        await engine._pool.check()
        assert [server.up for server in engine._pool.servers] == [False, True]
        first.health = 200
        await engine._pool.check()
        assert [server.up for server in engine._pool.servers] == [True, True]


async def test_a_server_that_returns_during_the_tries_is_found(over: Open, request_for: Make, pauses: Pauses) -> None:
    async with CompletionsServer() as server:
        engine = await over(server)
        await server.stop()
        pauses.before_next = server.start
        engine._pool.servers[0].up = True  # as it seems until it is asked
        assert (await read(engine, request_for(new=3))).text == 3 * WORD


async def test_the_least_busy_server_is_asked(over: Open, request_for: Make) -> None:
    async with CompletionsServer() as first, CompletionsServer() as second:
        engine, hold = await over(first, second), never()
        for server in (first, second):
            server.answers.extend(sends(event(" castle"), hold, event("", "stop"), DONE) for _ in range(3))
        reading = [engine.generate(request_for(seed=seed)) for seed in range(6)]
        for pieces in reading:
            await anext(pieces)
        assert (len(first.bodies), len(second.bodies)) == (3, 3)
        hold.set()
        for pieces in reading:
            assert [piece async for piece in pieces]


async def test_stories_over_the_seats_wait_in_their_order(server: CompletionsServer, over: Open, request_for: Make) -> None:
    engine = await over(server, max_stories=2)
    await asyncio.gather(*(read(engine, request_for(new=3, seed=seed)) for seed in range(7)))
    assert server.most_in_flight <= 2
    assert sorted(body["seed"] for body in server.bodies) == list(range(7))


async def test_one_who_asks_for_three_does_not_hold_up_one_who_asks_for_one(
    server: CompletionsServer, over: Open, request_for: Make
) -> None:
    engine, hold = await over(server, max_stories=1), never()
    server.answers.append(sends(event(" castle"), hold, event("", "stop"), DONE))
    async with asyncio.TaskGroup() as group:
        for seed, user in enumerate((0, 1, 1, 1, 2)):
            group.create_task(read(engine, replace(request_for(new=3, seed=seed), user=user)))
        while len(engine._seats._line) < 4:  # noqa: ASYNC110 - there is no event to wait for inside the engine
            await asyncio.sleep(0)
        hold.set()
    assert [body["seed"] for body in server.bodies] == [0, 1, 4, 2, 3]


async def test_a_text_that_is_left_just_as_its_turn_comes_gives_its_seat_on(
    server: CompletionsServer, over: Open, request_for: Make
) -> None:
    engine = await over(server, max_stories=1)
    server.answers.append(sends(event(" castle"), never()))
    first = engine.generate(request_for())
    await anext(first)
    second, third = (asyncio.create_task(read(engine, request_for(new=3, seed=seed))) for seed in (1, 2))
    while len(engine._seats._line) < 2:  # noqa: ASYNC110 - as above
        await asyncio.sleep(0)
    await first.aclose()
    second.cancel()
    assert (await third).text == 3 * WORD
    assert [body["seed"] for body in server.bodies] == [0, 2]


async def test_a_text_longer_than_the_context_goes_on_and_keeps_its_prompt(
    server: CompletionsServer, over: Open, request_for: Make
) -> None:
    request = request_for(new=5 * server.context)
    text = await read(await over(server), request)
    assert text.text == 5 * server.context * WORD
    assert (text.last.new_tokens, text.finish_reason) == (5 * server.context, FinishReason.LENGTH)
    prompt = list(request.prompt_ids)
    assert len(server.bodies) > 5
    assert all(body["prompt"][: len(prompt)] == prompt for body in server.bodies)
    assert all(len(body["prompt"]) + body["max_tokens"] <= server.context for body in server.bodies)
    assert all(body["max_tokens"] >= MIN_ROOM for body in server.bodies[:-1])


async def test_a_smaller_context_of_the_server_is_kept_and_told(
    over: Open, request_for: Make, caplog: pytest.LogCaptureFixture
) -> None:
    async with CompletionsServer(context=40) as server:
        engine = await over(server)
        assert "--max-model-len 64" in caplog.text
        text = await read(engine, request_for(new=100))
        assert text.last.new_tokens == 100
        with pytest.raises(PromptTooLong, match="reads 24"):
            await read(engine, GenerationRequest((5,) * 30, 10, Sampling(), 0))


async def test_a_story_goes_on_from_a_failure_between_two_requests(
    server: CompletionsServer, over: Open, request_for: Make
) -> None:
    request = request_for(new=100)
    room = server.context - len(request.prompt_ids)
    first = sends(*[event(WORD)] * room, event("", "length"), event("", usage=room), DONE)
    server.answers.extend([first, fails(500)])
    assert (await read(await over(server), request)).text == 100 * WORD


async def test_a_prompt_that_leaves_no_room_is_refused_before_any_server_is_asked(pristine: Path) -> None:
    engine = HttpEngine("http://127.0.0.1:1", pristine)
    with pytest.raises(PromptTooLong, match="49 tokens"):
        await read(engine, GenerationRequest((5,) * 49, 10, Sampling(), 0))


@pytest.mark.parametrize("pieces", [["a castle THE", " END of it"], ["a castle THE END"], [*"a castle THE END"]])
async def test_a_stop_string_ends_the_text_even_if_the_server_knows_none(
    server: CompletionsServer, over: Open, request_for: Make, pieces: list[str]
) -> None:
    server.answers.append(sends(*map(event, pieces), never()))
    text = await read(await over(server), replace(request_for(), stop=("THE END", "###")))
    assert (text.text, text.finish_reason) == ("a castle ", FinishReason.STOP)
    assert server.bodies[0]["stop"] == ["THE END", "###"]
    await server.disconnected.wait()


async def test_what_only_begins_like_a_stop_string_is_not_lost(
    server: CompletionsServer, over: Open, request_for: Make
) -> None:
    server.answers.append(sends(event("a THE"), event("M and THE E"), event("", "stop"), DONE))
    text = await read(await over(server), replace(request_for(), stop=("THE END",)))
    assert text.text == "a THEM and THE E"


async def test_close_ends_those_who_read_those_who_wait_and_those_who_score(
    server: CompletionsServer, over: Open, request_for: Make
) -> None:
    engine = await over(server, max_stories=1)
    server.answers.append(sends(event(" castle"), never()))
    pieces = engine.generate(request_for())
    await anext(pieces)
    waiting = asyncio.create_task(read(engine, request_for()))
    while not engine._seats._line:  # noqa: ASYNC110 - there is no event to wait for inside the engine
        await asyncio.sleep(0)
    await engine.close()
    with pytest.raises(ShuttingDown, match="in the middle"):
        await anext(pieces)
    with pytest.raises(ShuttingDown, match="takes no more"):
        await waiting
    assert not engine.ready


async def test_close_during_a_load_ends_it(over: Open, pristine: Path) -> None:
    engine = HttpEngine("http://127.0.0.1:1", pristine, pause=lambda _: never().wait())
    loading = asyncio.create_task(engine.load())
    while engine._loading is None or not engine._waits._scopes:  # noqa: ASYNC110 - as above
        await asyncio.sleep(0)
    await engine.close()
    with pytest.raises(ShuttingDown):
        await loading


async def test_load_waits_for_a_server_that_starts_later(server: CompletionsServer, over: Open, pauses: Pauses) -> None:
    engine = await over(server, load=False)
    await server.stop()
    pauses.before_next = server.start
    await engine.load()
    assert engine.ready
    assert pauses.seconds == [OPENING_PAUSE_S]


async def test_no_server_at_all_is_told_with_what_to_check(server: CompletionsServer, over: Open) -> None:
    engine = await over(server, load=False)
    await server.stop()
    with pytest.raises(ModelUnavailable, match=f"ENGINE_URL.*Check that each runs.*{server.url}"):
        await engine.load()
    assert not engine.ready
    await server.start()
    await engine.load()
    assert engine.ready


@pytest.mark.parametrize("lists", [True, False])
async def test_a_key_is_sent_and_a_wrong_one_told_at_once(
    server: CompletionsServer, over: Open, request_for: Make, pauses: Pauses, lists: bool
) -> None:
    server.key, server.lists_models = "sesame", lists
    assert (await read(await over(server, api_key="sesame"), request_for(new=2))).text == 2 * WORD
    with pytest.raises(ModelUnavailable, match="ENGINE_API_KEY") as raised:
        await over(server, api_key="wrong")
    assert "401" in str(raised.value)
    assert "wrong" not in str(raised.value)
    assert pauses.seconds == []


async def test_a_model_that_is_not_served_is_told_at_once(server: CompletionsServer, over: Open, pauses: Pauses) -> None:
    with pytest.raises(ModelUnavailable, match="`other` does not exist"):
        await over(server, model="other")
    assert pauses.seconds == []


async def test_the_only_model_that_is_listed_is_asked_for(server: CompletionsServer, over: Open, request_for: Make) -> None:
    await read(await over(server), request_for(new=1))
    assert server.bodies[0]["model"] == "tiny"


@pytest.mark.parametrize("form", ["{}", "{}/", "{}/v1", "{}/v1/", " {} ,"])
async def test_an_address_may_be_written_in_several_ways(
    server: CompletionsServer, pristine: Path, pauses: Pauses, form: str
) -> None:
    engine = HttpEngine(form.format(server.url), pristine, pause=pauses)
    await engine.load()
    await engine.close()


async def test_vllm_gets_token_ids_and_all_that_it_knows(
    server: CompletionsServer, over: Open, request_for: Make, tokenizer: Tokenizer, caplog: pytest.LogCaptureFixture
) -> None:
    sampling = {"temperature": 0.8, "top_p": 0.9, "top_k": 40, "min_p": 0.05, "repetition_penalty": 1.2, "no_repeat_ngram": 4}
    request = request_for(new=5, seed=2**53 - 1, **sampling)
    engine = await over(server)
    await read(engine, request)
    await read(engine, request)
    body = server.bodies[0]
    assert body["prompt"] == list(request.prompt_ids)
    assert body["seed"] == 2**53 - 1
    assert {name: body[name] for name in sampling if name != "no_repeat_ngram"} == {
        name: value for name, value in sampling.items() if name != "no_repeat_ngram"
    }
    assert body["logit_bias"][str(tokenizer.token_to_id(TAGS[0]))] == -100
    assert str(tokenizer.token_to_id(END)) not in body["logit_bias"]
    assert [record.getMessage() for record in caplog.records if "no_repeat_ngram" in record.getMessage()] == [
        f"{server.url}: vLLM has no no_repeat_ngram; stories go without it"
    ]


async def test_what_is_off_is_said_in_words_that_old_versions_of_vllm_take(
    server: CompletionsServer, over: Open, request_for: Make
) -> None:
    await read(await over(server), request_for(new=1))
    assert (server.bodies[0]["top_k"], server.bodies[0]["min_p"], server.bodies[0]["repetition_penalty"]) == (-1, 0.0, 1.0)


@pytest.mark.parametrize("owner", ["vllm", "llamacpp", "somebody"])
async def test_single_tokens_are_banned_and_longer_words_named_once_in_the_log(
    over: Open, request_for: Make, caplog: pytest.LogCaptureFixture, owner: str
) -> None:
    async with CompletionsServer(owner) as server:
        engine = await over(server)
        for _ in range(2):
            await read(engine, request_for(new=1, banned_ids=((20,), (21, 22))))
        bias = {int(token): value for token, value in dict(server.bodies[0]["logit_bias"]).items()}
        assert bias[20] == (False if owner == "llamacpp" else -100)
        assert not {21, 22} & set(bias)
        assert caplog.text.count("has no ban on words of several tokens; stories go without it") == 1


async def test_llama_cpp_gets_its_own_words(over: Open, request_for: Make) -> None:
    async with CompletionsServer("llamacpp") as server:
        request = request_for(new=5, seed=2**40, repetition_penalty=1.2)
        await read(await over(server), request)
        body = server.bodies[0]
        assert body["prompt"] == list(request.prompt_ids)
        assert (body["repeat_penalty"], body["repeat_last_n"], body["top_k"], body["min_p"]) == (1.2, -1, 0, 0.0)
        assert 0 <= body["seed"] < 2**32 - 1
        assert "repetition_penalty" not in body


async def test_transformers_serve_gets_text_and_a_generation_config(
    over: Open, request_for: Make, tokenizer: Tokenizer
) -> None:
    async with CompletionsServer("transformers") as server:
        server.lists_models = False
        engine = await over(server, sampling=Sampling(temperature=0.5, no_repeat_ngram=6))
        drawn = {"temperature": 0.8, "no_repeat_ngram": 6, "top_k": 7, "banned_ids": ((20,), (21, 22))}
        await read(engine, request_for("[FANTASY] a castle", new=5, **drawn))
        assert 'no_repeat_ngram_size": 0' in server.trials[0]["generation_config"]
        body = server.bodies[0]
        assert body["prompt"] == "[FANTASY] a castle"
        assert "model" not in body
        config = json.loads(body["generation_config"])
        assert (config["temperature"], config["no_repeat_ngram_size"], config["top_k"]) == (0.8, 6, 7)
        assert config["eos_token_id"] == [tokenizer.token_to_id(END)]
        assert tokenizer.token_to_id(TAGS[0]) in config["suppress_tokens"]
        assert config["bad_words_ids"] == [[20], [21, 22]]


async def test_a_long_text_goes_on_by_text_too(over: Open, request_for: Make, tokenizer: Tokenizer) -> None:
    async with CompletionsServer("transformers") as server:
        text = await read(await over(server), request_for(new=200))
        assert text.text == 200 * WORD
        for body in server.bodies:
            assert body["prompt"].startswith("[FANTASY] the dragon")
            assert len(tokenizer.encode(body["prompt"]).ids) + body["max_tokens"] <= 64


@pytest.mark.parametrize("way", ["vllm", "somebody"])
async def test_scores_are_sums_over_the_continuation_alone(over: Open, way: str) -> None:
    async with CompletionsServer(way) as server:
        server.logprob = lambda ids: -float(ids[-1])
        assert await (await over(server)).score([[5, 6], [7, 8]], [10, 20, 30]) == [-60.0, -60.0]
        assert server.scored[0]["prompt"] == [[5, 6, 10, 20, 30], [7, 8, 10, 20, 30]]


async def test_nothing_to_score_asks_no_server(pristine: Path) -> None:
    engine = HttpEngine("http://127.0.0.1:1", pristine)
    assert await engine.score([[1], [2]], []) == [0.0, 0.0]


@pytest.mark.parametrize("owner", ["llamacpp", "transformers", "vllm", "somebody"])
async def test_a_server_without_prompt_probabilities_is_told_as_that(over: Open, owner: str) -> None:
    async with CompletionsServer(owner) as server:
        engine = await over(server)
        for _ in range(2):
            with pytest.raises(CannotScore, match="Name the genre"):
                await engine.score([[5], [6]], [7])
        assert len(server.scored) <= 1  # it is not asked again


async def test_scores_are_asked_of_the_server_that_can(over: Open) -> None:
    async with CompletionsServer("llamacpp") as first, CompletionsServer() as second:
        second.logprob = lambda _: -1.0
        engine = await over(first, second)
        assert await engine.score([[5]], [7, 8]) == [-2.0]
        await second.stop()
        with pytest.raises(CannotScore):  # and not that no server can be used
            await engine.score([[5]], [7, 8])


async def test_a_prompt_too_long_to_be_scored_costs_no_other_its_scores(over: Open) -> None:
    async with CompletionsServer(context=40) as server:
        server.logprob = lambda _: -1.0
        engine = await over(server)
        with pytest.raises(PromptTooLong, match="reads 39"):
            await engine.score([[5]], [7] * 45)
        assert await engine.score([[5]], [7, 8]) == [-2.0]


async def test_a_trial_that_is_refused_by_all_says_why(server: CompletionsServer, over: Open) -> None:
    server.refuses_trials = "no completions here"
    with pytest.raises(ModelUnavailable, match="no completions here"):
        await over(server)


async def test_a_torn_model_directory_is_told_and_the_engine_can_be_closed(server: CompletionsServer, model_dir: Path) -> None:
    (model_dir / "tokenizer.json").write_text("{")
    engine = HttpEngine(server.url, model_dir)
    with pytest.raises(ModelUnavailable, match=r"tokenizer\.json"):
        await engine.load()
    await engine.close()


def test_it_imports_no_torch() -> None:
    code = "import sys, bot.engine.http, bot.building; sys.exit('torch' in sys.modules or 'transformers' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0
