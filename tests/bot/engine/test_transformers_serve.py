"""The HTTP engine over a real `transformers serve` of the bundled model, on loopback and without a network."""

from __future__ import annotations

import asyncio
import importlib.util
import math
import os
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from threading import Thread

import pytest
from tiny_gpt2 import read

from bot.engine.http import HttpEngine
from bot.engine.interface import FinishReason, GenerationRequest
from bot.engine.local import LocalEngine
from bot.errors import CannotScore, ModelUnavailable
from bot.model_dir import ModelDescription, describe
from bot.settings import default_model_dir, load_settings
from bot.storyteller.story import StoryRequest

MISSING = [name for name in ("fastapi", "uvicorn", "openai") if importlib.util.find_spec(name) is None]
pytestmark = pytest.mark.skipif(bool(MISSING), reason=f"transformers serve needs {', '.join(MISSING)}: make test installs them")
GREEDY = {"temperature": 0.0, "no_repeat_ngram": 0, "repetition_penalty": 1.0}


@pytest.fixture(scope="module")
def model() -> ModelDescription:
    return describe(default_model_dir())


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server that is up, and killed in the end."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    hub = tmp_path_factory.mktemp("hub")
    offline = {"HF_HOME": str(hub), "HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_UPDATE_CHECK": "1"}
    serve = "import sys; from transformers.cli.transformers import main; sys.exit(main())"
    arguments = ["serve", str(default_model_dir()), "--host", "127.0.0.1", "--port", str(port), "--device", "cpu"]
    log = hub / "server.log"
    with log.open("w") as sink:
        server = subprocess.Popen(
            [sys.executable, "-c", serve, *arguments],
            env=os.environ | offline,
            stdin=subprocess.DEVNULL,
            stdout=sink,
            stderr=subprocess.PIPE,
            text=True,
        )
    try:
        lines: list[str] = []
        assert server.stderr is not None
        for line in server.stderr:
            lines.append(line)
            if "Uvicorn running" in line:
                break
        else:
            pytest.fail("transformers serve did not start: " + "".join(lines[-20:]))
        Thread(target=server.stderr.read, daemon=True).start()  # a full pipe would stop the server
        yield f"http://127.0.0.1:{port}"
    finally:
        server.kill()
        server.communicate()


@pytest.fixture
async def engine(url: str, model: ModelDescription) -> AsyncIterator[HttpEngine]:
    engine = HttpEngine(url, model.directory, sampling=model.sampling)
    await engine.load()
    yield engine
    await engine.close()


def request_for(model: ModelDescription, prompt: str = "magic castle", new: int = 40, **sampling: float) -> GenerationRequest:
    ids = model.codec.opening("FANTASY", model.codec.encode_prompt(prompt))
    return GenerationRequest(tuple(ids), new, replace(model.sampling, **sampling), seed=1)


async def test_it_is_recognised(engine: HttpEngine) -> None:
    server = engine._pool.servers[0]
    assert server.dialect is not None
    assert (server.dialect.name, server.model) == ("transformers serve", None)


async def test_greedy_is_what_the_local_engine_writes(engine: HttpEngine, model: ModelDescription) -> None:
    """So the tag arrives as a tag, and no token of the prompt is lost on the way."""
    local = LocalEngine(model.directory, threads=1, device="cpu")
    request = request_for(model, "the old clock & a story", **GREEDY)
    served, ours = await read(engine, request), await read(local, request)
    await local.close()
    assert served.text == ours.text
    assert (served.last.new_tokens, served.finish_reason) == (ours.last.new_tokens, ours.finish_reason)


async def test_a_whole_story_ends_by_itself_and_is_counted(engine: HttpEngine, model: ModelDescription) -> None:
    text = await read(engine, request_for(model, new=400))
    assert text.finish_reason is FinishReason.STOP
    assert text.last.new_tokens == pytest.approx(len(model.codec.encode_text(text.text)), abs=3)
    assert len(text.pieces) > 20


async def test_stories_at_the_same_time_do_not_mix(engine: HttpEngine, model: ModelDescription) -> None:
    requests = [request_for(model, prompt, 20, **GREEDY) for prompt in ("a dragon", "the sea", "an old clock")]
    alone = [(await read(engine, request)).text for request in requests]
    assert [text.text for text in await asyncio.gather(*(read(engine, request) for request in requests))] == alone


async def test_a_cancelled_story_makes_room_for_the_next(engine: HttpEngine, model: ModelDescription) -> None:
    async with aclosing(engine.generate(request_for(model, new=400))) as pieces:
        await anext(pieces)
    assert (await read(engine, request_for(model, new=5))).last.new_tokens == 5


async def test_a_story_past_the_context_goes_on(engine: HttpEngine, model: ModelDescription) -> None:
    request = request_for(model, "a dragon", new=model.n_positions + 30)
    long = GenerationRequest((*request.prompt_ids, *[40] * (model.n_positions - 40)), 80, replace(request.sampling), seed=2)
    text = await read(engine, long)
    assert text.finish_reason is FinishReason.STOP or text.last.new_tokens >= 75


async def test_a_stop_string_ends_it(engine: HttpEngine, model: ModelDescription) -> None:
    request = request_for(model, new=200, **GREEDY)
    whole = (await read(engine, request)).text
    stop = whole.split()[5]
    text = await read(engine, replace(request, stop=(stop,)))
    assert text.text == whole[: whole.index(stop)]
    assert text.finish_reason is FinishReason.STOP


async def test_a_banned_word_of_several_tokens_is_not_written(engine: HttpEngine, model: ModelDescription) -> None:
    whole = (await read(engine, request_for(model, **GREEDY))).text
    word = model.codec.encode_text(whole)[3:5]
    request = request_for(model, **GREEDY)
    text = await read(engine, replace(request, sampling=replace(request.sampling, banned_ids=(tuple(word),))))
    assert text.text != whole
    assert not [pair for pair in pairwise(model.codec.encode_text(text.text)) if list(pair) == word]


async def test_it_can_not_score(engine: HttpEngine) -> None:
    with pytest.raises(CannotScore):
        await engine.score([[1]], [2])


async def test_a_model_name_that_it_is_not_pinned_to_is_told(url: str, model: ModelDescription) -> None:
    wrong = HttpEngine(url, model.directory, model="other")
    with pytest.raises(ModelUnavailable, match="pinned"):
        await wrong.load()
    await wrong.close()


async def test_a_story_is_told_through_the_settings(url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from bot.building import build_storyteller

    monkeypatch.setenv("STORYTELLER_ENV_FILE", str(tmp_path / "none"))
    storyteller = build_storyteller(load_settings(engine_url=url))
    updates = [update async for update in storyteller.tell(StoryRequest("magic castle", length=60))]
    await storyteller.close()
    story = updates[-1].story
    assert story is not None
    assert story.text.startswith(f"[{story.genre}] ")
    assert story.genre_assumed
    assert not story.repeatable
    assert not math.isnan(story.tok_per_s)
