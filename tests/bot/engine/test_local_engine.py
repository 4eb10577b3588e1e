"""What the engine promises: texts that stream, don't touch each other, end cleanly, and never outgrow the model."""

from __future__ import annotations

import asyncio
import itertools
import threading
from collections.abc import Callable, Sequence
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_gpt2 import END, N_POSITIONS, TAGS, Text, read
from tokenizers import Tokenizer
from torch import Tensor
from transformers import GPT2LMHeadModel

from bot.engine import cpu_forward, loading, reader
from bot.engine.before_writing import MIN_ROOM
from bot.engine.characters import Vocabulary
from bot.engine.cpu_forward import CpuForward
from bot.engine.forward import Part
from bot.engine.interface import Engine, FinishReason, GenerationRequest, Sampling
from bot.engine.loading import LoadedModel
from bot.engine.local import LocalEngine
from bot.engine.reader import Reader
from bot.engine.scheduler import Scheduler
from bot.engine.text_draws import TextDraws
from bot.engine.ticket import Ticket
from bot.engine.writing import Writing
from bot.errors import EngineBroken, EngineFailed, PromptTooLong, QueueFull, ShuttingDown

Make = Callable[..., GenerationRequest]
NO_MORE_STORIES = "The storyteller is closing and takes no more stories. Try again in a few minutes."
PROMPTS = ("[FANTASY] the dragon", "[HORROR] the sea", "a café", "once upon a time", "the stones", "magic", "x", "🐉")
SAMPLING = {"temperature": 1.2, "top_p": 0.95, "repetition_penalty": 1.1, "no_repeat_ngram": 4}


@pytest.fixture
async def endless(engine: LocalEngine, monkeypatch: pytest.MonkeyPatch) -> LocalEngine:
    """An engine whose model never writes its end token, so that a text ends where the test says."""
    load_model = loading.load_model

    def without_end(*args: Any) -> LoadedModel:
        model = load_model(*args)
        model.unwritable[sorted(model.config.eos_ids)] = True
        return model

    monkeypatch.setattr(loading, "load_model", without_end)
    await engine.load()
    return engine


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Every token that is drawn, in order."""
    tokens: list[int] = []
    note = TextDraws.note
    monkeypatch.setattr(TextDraws, "note", lambda self, token: (tokens.append(token), note(self, token))[1])
    return tokens


@pytest.fixture
def passes(monkeypatch: pytest.MonkeyPatch) -> list[Part]:
    """Every part that the model is given, in order."""
    parts: list[Part] = []
    real = CpuForward.__call__
    monkeypatch.setattr(CpuForward, "__call__", lambda self, some: (parts.extend(some), real(self, some))[1])
    return parts


class Gate:
    """Holds the decode thread before it takes up its next work, so that texts are there together."""

    def __init__(self, engine: LocalEngine) -> None:
        self._opened = threading.Event()
        engine._thread.submit(self._opened.wait)

    def open(self) -> None:
        self._opened.set()


async def idle(engine: LocalEngine) -> None:
    """Until the decode thread has no text left: what is submitted runs only then."""
    await asyncio.wrap_future(engine._thread.submit(lambda: None))


async def arrived(engine: LocalEngine, count: int) -> None:
    """Until so many texts and errands are in the inbox of a held thread."""
    await until(lambda: len(engine._thread._inbox) >= count)


async def until(condition: Callable[[], bool]) -> None:
    """Let the other tasks of this loop run until they have brought it about."""
    while not condition():  # noqa: ASYNC110 - there is no event to wait for inside the engine
        await asyncio.sleep(0)


def test_the_local_engine_is_an_engine(pristine: Path) -> None:
    engine: Engine = LocalEngine(pristine, threads=1)
    assert not engine.ready


@pytest.mark.parametrize("prompt", PROMPTS)
async def test_greedy_equals_generate_token_for_token(
    engine: LocalEngine, request_for: Make, reference: GPT2LMHeadModel, drawn: list[int], tokenizer: Tokenizer, prompt: str
) -> None:
    request = request_for(prompt, temperature=0, repetition_penalty=1.3)
    await read(engine, request)
    unwritable = sorted(Vocabulary(tokenizer, reference.config.vocab_size, frozenset([tokenizer.token_to_id(END)])).unwritable)
    prompt_ids = torch.tensor([request.prompt_ids])
    theirs = reference.generate(
        prompt_ids,
        attention_mask=torch.ones_like(prompt_ids),
        max_new_tokens=request.max_new_tokens,
        do_sample=False,
        repetition_penalty=1.3,
        suppress_tokens=unwritable,
        pad_token_id=0,
    )
    assert drawn == theirs[0, len(request.prompt_ids) :].tolist()
    assert len(set(drawn)) > 5  # else there was little to compare


@pytest.mark.parametrize("seed", range(5))
async def test_streamed_equals_whole(
    endless: LocalEngine, request_for: Make, drawn: list[int], tokenizer: Tokenizer, seed: int
) -> None:
    text = await read(endless, request_for(new=150, seed=seed, temperature=1.5))
    whole = tokenizer.decode(drawn)
    counts = [piece.new_tokens for piece in text.pieces]
    assert counts == sorted(set(counts))
    assert counts[-1] == 150
    assert whole.startswith(text.text)
    assert set(whole[len(text.text) :]) <= {"\ufffd"}


async def test_the_same_seed_gives_the_same_text_alone_or_among_seven_others(endless: LocalEngine, request_for: Make) -> None:
    requests = [request_for(prompt, new=40 + 15 * at, seed=at, **SAMPLING) for at, prompt in enumerate(PROMPTS)]
    alone = [await read(endless, request) for request in requests]
    together = await asyncio.gather(*(read(endless, request) for request in requests))
    assert list(together) == alone


async def test_different_seeds_give_different_texts(endless: LocalEngine, request_for: Make) -> None:
    texts = [(await read(endless, request_for(seed=seed))).text for seed in range(4)]
    assert len(set(texts)) == 4


@pytest.mark.parametrize("how", ["closed", "task cancelled"])
async def test_a_cancelled_text_leaves_and_its_neighbours_go_on_unchanged(
    endless: LocalEngine, request_for: Make, how: str
) -> None:
    neighbours = [request_for(new=60, seed=seed) for seed in range(3)]
    undisturbed = [await read(endless, request) for request in neighbours]
    reading = [asyncio.create_task(read(endless, request)) for request in neighbours]
    for_ever = request_for(new=10**9)
    if how == "closed":
        async with aclosing(endless.generate(for_ever)) as pieces:
            await anext(pieces)
    else:
        lost = asyncio.create_task(anext_and_wait(endless, for_ever, started := asyncio.Event()))
        await started.wait()
        lost.cancel()
        await asyncio.gather(lost, return_exceptions=True)
    assert list(await asyncio.gather(*reading)) == undisturbed
    await idle(endless)  # which it never would be, had the endless text stayed


async def anext_and_wait(engine: LocalEngine, request: GenerationRequest, started: asyncio.Event) -> None:
    async for _ in engine.generate(request):
        started.set()


async def test_a_text_cancelled_while_it_waits_for_a_seat_is_never_begun(
    pristine: Path, request_for: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[int] = []
    begin = Writing.__init__
    monkeypatch.setattr(
        Writing, "__init__", lambda self, request, *rest: (begun.append(request.seed), begin(self, request, *rest))[1]
    )
    engine = LocalEngine(pristine, threads=1, device="cpu", max_stories=1)
    await engine.load()
    gate = Gate(engine)
    reading = [asyncio.create_task(read(engine, request_for(new=5, seed=seed))) for seed in range(3)]
    await arrived(engine, 3)
    reading[1].cancel()
    await asyncio.gather(reading[1], return_exceptions=True)
    gate.open()
    await asyncio.gather(reading[0], reading[2])
    assert set(begun) == {0, 2}
    await engine.close()


async def test_texts_over_the_seats_wait_in_their_order(pristine: Path, request_for: Make) -> None:
    engine = LocalEngine(pristine, threads=1, device="cpu", max_stories=2)
    finished: list[int] = []

    async def follow(seed: int) -> None:
        await read(engine, request_for(new=12, seed=seed, temperature=0))
        assert len(engine._thread._scheduler._seated) <= 2
        finished.append(seed)

    await engine.load()
    await asyncio.gather(*(follow(seed) for seed in range(7)))
    assert finished == list(range(7))
    await engine.close()


async def test_a_text_longer_than_the_context_goes_on_and_keeps_its_prompt(
    endless: LocalEngine, request_for: Make, passes: list[Part]
) -> None:
    request = request_for(new=5 * N_POSITIONS)
    prompt = len(request.prompt_ids)
    text = await read(endless, request)
    assert text.last.new_tokens == 5 * N_POSITIONS
    assert text.finish_reason is FinishReason.LENGTH
    first, *again = [part for part in passes if len(part.ids) > 1]
    assert (first.start, tuple(first.ids)) == (0, request.prompt_ids)
    assert len(again) > 5
    assert {part.start for part in again} == {prompt}  # the slot still holds it, so it is kept and not even read again
    assert all(part.start + len(part.ids) <= N_POSITIONS for part in passes)


async def test_a_text_up_to_the_context_is_read_once(endless: LocalEngine, request_for: Make, passes: list[Part]) -> None:
    request = request_for()
    to_the_brim = N_POSITIONS - len(request.prompt_ids) + 1  # the last token is only written, never read
    await read(endless, replace(request, max_new_tokens=to_the_brim))
    assert [len(part.ids) for part in passes] == [len(request.prompt_ids)] + [1] * (to_the_brim - 1)


async def test_a_prompt_that_leaves_no_room_is_refused_at_once(engine: LocalEngine) -> None:
    request = GenerationRequest((5,) * (N_POSITIONS - MIN_ROOM + 1), 10, Sampling(), seed=0)
    with pytest.raises(PromptTooLong, match="49 tokens"):
        await read(engine, request)
    assert not engine.ready  # it did not even wait for the model
    fits = await read(engine, replace(request, prompt_ids=request.prompt_ids[1:]))
    assert fits.pieces


async def test_never_a_special_token_in_the_text(
    endless: LocalEngine, request_for: Make, drawn: list[int], tokenizer: Tokenizer
) -> None:
    text = await read(endless, request_for(new=1500, temperature=50.0))  # nearly uniform over the vocabulary
    assert not {tokenizer.token_to_id(tag) for tag in TAGS} & set(drawn)
    assert max(drawn) < tokenizer.get_vocab_size()
    assert len(set(drawn)) > 250
    assert not any(tag in text.text for tag in (*TAGS, END))


async def test_the_end_token_stops_the_text_and_is_not_counted(
    engine: LocalEngine, request_for: Make, monkeypatch: pytest.MonkeyPatch, tokenizer: Tokenizer
) -> None:
    real = CpuForward.__call__

    def end_at_seven(self: CpuForward, parts: Sequence[Part]) -> Tensor:
        logits = real(self, parts).clone()
        (part,) = parts
        logits[0, tokenizer.token_to_id(END)] = 1000 if part.start + len(part.ids) == prompt + 7 else -1000
        return logits

    request = request_for(new=30, temperature=0)
    prompt = len(request.prompt_ids)
    seven = await read(engine, request_for(new=7, temperature=0))
    monkeypatch.setattr(CpuForward, "__call__", end_at_seven)
    text = await read(engine, request)
    assert (text.finish_reason, text.last.new_tokens) == (FinishReason.STOP, 7)
    assert text.text == seven.text
    assert not any(piece.finish_reason for piece in text.pieces[:-1])


async def test_the_limit_ends_the_text_with_its_last_token(endless: LocalEngine, request_for: Make) -> None:
    text = await read(endless, request_for(new=9))
    assert (text.finish_reason, text.last.new_tokens) == (FinishReason.LENGTH, 9)


@pytest.mark.parametrize("at_once", [1, 3000, 2**24])
async def test_score_equals_the_sum_of_log_softmax_by_hand(
    engine: LocalEngine, reference: GPT2LMHeadModel, tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch, at_once: int
) -> None:
    monkeypatch.setattr(cpu_forward, "LOGITS_AT_ONCE", at_once)
    prefixes = [[tokenizer.token_to_id(tag), 40] for tag in (*TAGS, END)]
    continuation = tokenizer.encode("the dragon woke").ids
    scores = await engine.score(prefixes, continuation)
    for prefix, score in zip(prefixes, scores, strict=True):
        with torch.no_grad():
            log_p = reference(torch.tensor([prefix + continuation])).logits[0].log_softmax(-1)
        by_hand = sum(float(log_p[len(prefix) - 1 + at, token]) for at, token in enumerate(continuation))
        assert score == pytest.approx(by_hand, abs=1e-3)
    assert len(set(scores)) == 3


async def test_score_is_answered_between_the_steps_of_texts_that_do_not_end(endless: LocalEngine, request_for: Make) -> None:
    alone = await endless.score([[1], [2]], [3, 4])
    async with aclosing(endless.generate(request_for(new=10**9))) as pieces:
        await anext(pieces)
        assert await endless.score([[1], [2]], [3, 4]) == alone


async def test_a_long_score_lets_the_texts_go_on_between_its_parts(
    endless: LocalEngine, request_for: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    prefixes = [[token] for token in range(20, 28)]
    whole = await endless.score(prefixes, list(range(50)))
    calls: list[str] = []
    real = CpuForward.score
    monkeypatch.setattr(CpuForward, "score", lambda self, some, rest: (calls.append("score"), real(self, some, rest))[1])
    step = CpuForward.__call__
    monkeypatch.setattr(CpuForward, "__call__", lambda self, parts: (calls.append("step"), step(self, parts))[1])
    async with aclosing(endless.generate(request_for(new=10**9))) as pieces:
        await anext(pieces)
        assert await endless.score(prefixes, list(range(50))) == whole
    at = [index for index, call in enumerate(calls) if call == "score"]
    assert len(at) == 4  # two prefixes of 51 tokens at a time
    assert all(later - earlier == 2 for earlier, later in itertools.pairwise(at))


async def test_score_fills_the_context_and_no_more(engine: LocalEngine) -> None:
    assert await engine.score([[1]], [2] * (N_POSITIONS - 1))
    with pytest.raises(PromptTooLong, match="65 tokens"):
        await engine.score([[1]], [2] * N_POSITIONS)


async def test_the_event_loop_goes_on_while_a_step_takes_its_time(
    endless: LocalEngine, request_for: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_step, go_on = threading.Event(), threading.Event()
    real = CpuForward.__call__

    def slow(self: CpuForward, parts: Sequence[Part]) -> Tensor:
        in_step.set()
        go_on.wait()
        return real(self, parts)

    monkeypatch.setattr(CpuForward, "__call__", slow)
    reading = asyncio.create_task(read(endless, request_for()))
    await asyncio.to_thread(in_step.wait)
    for _ in range(1000):  # would never be counted, did the loop wait for the step
        await asyncio.sleep(0)
    assert not reading.done()
    go_on.set()
    assert (await reading).last.new_tokens == 30


async def test_a_reader_that_does_not_read_holds_nobody_up_and_loses_nothing(endless: LocalEngine, request_for: Make) -> None:
    whole = await read(endless, request_for(new=50))
    slow = endless.generate(request_for(new=50))
    first = await anext(slow)
    await read(endless, request_for(new=120, seed=1))
    await idle(endless)
    late = [piece async for piece in slow]
    assert len(late) == 1  # all that it had not read is one piece
    assert Text([first, *late]) == whole


async def test_texts_of_one_round_reach_the_event_loop_in_one_call(
    endless: LocalEngine, request_for: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[int] = []
    loop = asyncio.get_running_loop()
    real = loop.call_soon_threadsafe

    def count(callback: Any, *args: Any, **kwargs: Any) -> asyncio.Handle:
        if callback is reader._wake:
            calls.append(len(args[0]))
        return real(callback, *args, **kwargs)

    monkeypatch.setattr(loop, "call_soon_threadsafe", count)
    gate = Gate(endless)
    reading = [asyncio.create_task(read(endless, request_for(new=10, seed=seed))) for seed in range(3)]
    await arrived(endless, 3)
    gate.open()
    await asyncio.gather(*reading)
    assert len(calls) <= 10
    assert calls[0] == 3


async def test_an_exception_in_a_step_fails_the_texts_in_it_and_not_those_that_wait(
    pristine: Path, request_for: Make, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    engine = LocalEngine(pristine, threads=1, device="cpu", max_stories=2)
    requests = [request_for(prompt, seed=2) for prompt in PROMPTS[:4]]
    alone = [await read(engine, request) for request in requests]
    real = CpuForward.__call__
    broken: list[int] = []

    def break_once(self: CpuForward, parts: Sequence[Part]) -> Tensor:
        if not broken:
            broken.append(len(parts))
            raise RuntimeError("a kernel that went wrong")
        return real(self, parts)

    monkeypatch.setattr(CpuForward, "__call__", break_once)
    gate = Gate(engine)
    reading = [asyncio.create_task(read(engine, one)) for one in requests]
    await arrived(engine, 4)
    gate.open()
    results = await asyncio.gather(*reading, return_exceptions=True)
    assert [type(result) for result in results[:2]] == [EngineFailed] * 2
    assert [result.text for result in results[2:]] == [text.text for text in alone[2:]]
    assert "a kernel that went wrong" in caplog.text
    assert "kernel" not in str(results[0])
    assert await read(engine, requests[0]) == alone[0]
    await engine.close()


async def test_a_broken_gpu_is_told_to_all_and_to_the_process(
    pristine: Path, request_for: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []
    engine = LocalEngine(pristine, threads=1, device="cpu", max_stories=1, on_broken=lambda: calls.append("broken"))
    await engine.load()

    def assert_on_device(*_: object) -> Tensor:
        raise RuntimeError("CUDA error: device-side assert triggered")

    monkeypatch.setattr(CpuForward, "__call__", assert_on_device)
    results = await asyncio.gather(*(read(engine, request_for(seed=seed)) for seed in range(3)), return_exceptions=True)
    assert [type(result) for result in results] == [EngineBroken] * 3
    for call in (read(engine, request_for()), engine.score([[1]], [2])):
        with pytest.raises(EngineBroken):
            await call
    assert calls == ["broken"]
    await engine.close()


async def test_more_than_may_wait_are_refused_at_once_and_taken_again_later(pristine: Path, request_for: Make) -> None:
    engine = LocalEngine(pristine, threads=1, device="cpu", max_stories=1, max_queued=2)
    await engine.load()
    gate = Gate(engine)
    reading = [asyncio.create_task(read(engine, request_for(new=5, seed=seed))) for seed in range(3)]
    await arrived(engine, 3)
    with pytest.raises(QueueFull, match="2 stories are waiting"):
        await read(engine, request_for())
    gate.open()
    await asyncio.gather(*reading)
    await idle(engine)
    assert (await read(engine, request_for(new=5))).last.new_tokens == 5
    await engine.close()


async def test_an_exception_while_scoring_fails_that_score_only(
    endless: LocalEngine, request_for: Make, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(CpuForward, "score", lambda *_: 1 / 0)
    reading = asyncio.create_task(read(endless, request_for()))
    with pytest.raises(EngineFailed):
        await endless.score([[1]], [2])
    assert "ZeroDivisionError" in caplog.text
    assert (await reading).last.new_tokens == 30


async def test_a_fault_between_two_steps_leaves_no_reader_waiting(
    endless: LocalEngine, request_for: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Scheduler._tell_who_waits
    monkeypatch.setattr(Scheduler, "_tell_who_waits", lambda _self: 1 / 0)
    with pytest.raises(EngineFailed):
        await read(endless, request_for())
    monkeypatch.setattr(Scheduler, "_tell_who_waits", real)
    assert (await read(endless, request_for())).last.new_tokens == 30


async def test_a_reader_whose_event_loop_is_closed_is_let_go(endless: LocalEngine, request_for: Make) -> None:
    closed = asyncio.new_event_loop()
    closed.close()
    endless._thread.put(Ticket(request_for(new=10**9), Reader(loop=closed)))
    assert (await read(endless, request_for())).last.new_tokens == 30
    await idle(endless)


async def test_close_ends_all_readers_seated_or_waiting_and_those_who_score(pristine: Path, request_for: Make) -> None:
    engine = LocalEngine(pristine, threads=1, device="cpu", max_stories=2)
    await engine.load()
    gate = Gate(engine)
    reading = [asyncio.create_task(read(engine, request_for(new=10**9, seed=seed))) for seed in range(5)]
    scoring = asyncio.create_task(engine.score([[1]], [2]))
    await arrived(engine, 6)
    closing = asyncio.create_task(engine.close())
    await until(lambda: engine._thread._closing)
    gate.open()
    await closing
    results = await asyncio.gather(*reading, scoring, return_exceptions=True)
    assert [type(result) for result in results] == [ShuttingDown] * 6
    assert {str(result) for result in results} == {NO_MORE_STORIES}  # none had a word, so none is "in the middle"


async def test_close_ends_the_thread(engine: LocalEngine) -> None:
    await engine.load()
    await engine.close()
    assert not engine.ready
    assert not engine._thread._thread.is_alive()


@pytest.mark.parametrize("repeatable", [True, False])
async def test_it_promises_repeats_as_its_model_does_and_a_story_that_a_close_cut_off_may_ask_too(
    engine: LocalEngine, monkeypatch: pytest.MonkeyPatch, repeatable: bool
) -> None:
    monkeypatch.setattr(CpuForward, "repeatable", repeatable)
    assert not engine.repeatable
    await engine.load()
    assert engine.repeatable is repeatable
    await engine.close()
    assert engine.repeatable is repeatable
