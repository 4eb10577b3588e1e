from __future__ import annotations

import io
import json
from collections.abc import AsyncGenerator
from dataclasses import replace

import pytest

from bot import console
from bot.console import Console, parse
from bot.discord_ui.wording import footer
from bot.errors import EmptyPrompt, StoryError
from bot.storyteller.story import Ending, Stage, Story, StoryRequest, StoryUpdate


class ScriptedStoryteller:
    genres = ("FANTASY", "HORROR")
    min_length = 16
    max_length = 400
    max_seed = 2**53 - 1

    def __init__(self) -> None:
        self.requests: list[StoryRequest] = []

    async def tell(self, request: StoryRequest) -> AsyncGenerator[StoryUpdate, None]:
        self.requests.append(request)
        if request.prompt == "nothing":
            raise EmptyPrompt("There are no words in that prompt.")
        text = "[FANTASY] The castle"
        yield StoryUpdate(Stage.WRITING, "[FANTASY] The")
        yield StoryUpdate(Stage.WRITING, text)
        story = Story(request.prompt, "FANTASY", f"{text} sang.", 7, 5, 3, 1.0, 9.0, Ending.STOP, "m")
        yield StoryUpdate(Stage.DONE, story.text, story)

    async def genre_odds(self, prompt: str) -> dict[str, float]:
        if not prompt.strip():
            raise EmptyPrompt("There are no words in that prompt.")
        return {"FANTASY": 0.25, "HORROR": 0.75}

    async def load(self) -> None: ...

    async def close(self) -> None: ...


async def typed(text: str) -> tuple[str, list[StoryRequest]]:
    storyteller, sink = ScriptedStoryteller(), io.StringIO()
    await Console(storyteller, io.StringIO(text), sink).run()
    return sink.getvalue(), storyteller.requests


async def test_a_story_is_printed_once_as_it_grows() -> None:
    shown, requests = await typed("/story magic castle\n/quit\n/story never\n")
    assert shown.count("[FANTASY] The castle sang.\n") == 1
    assert "seed 7" in shown
    assert [request.prompt for request in requests] == ["magic castle"]


async def test_a_plain_line_is_a_prompt_and_the_end_of_input_ends_it() -> None:
    _, requests = await typed("old house\n\n")
    assert [request.prompt for request in requests] == ["old house"]


async def test_options_are_typed_as_discord_shows_them() -> None:
    assert parse("an old clock genre:HORROR length:80 seed:7") == StoryRequest("an old clock", "HORROR", 80, 7)
    assert parse("prompt:an old clock genre:HORROR") == StoryRequest("an old clock", "HORROR")
    assert parse("time: the enemy") == StoryRequest("time: the enemy")


async def test_an_error_is_a_sentence_and_the_console_goes_on() -> None:
    shown, requests = await typed("/STORY\tnothing\n/story x length:long\n/dance\n/genres\n/help\n/story castle\n")
    assert "There are no words in that prompt." in shown
    assert "length: takes a whole number, not 'long'." in shown
    assert "There is no command /dance." in shown
    assert "FANTASY, HORROR" in shown
    assert "/quit" in shown
    assert [request.prompt for request in requests] == ["nothing", "castle"]


async def test_once_prints_the_json_line_last(capsys: pytest.CaptureFixture[str]) -> None:
    assert await console.once(ScriptedStoryteller(), StoryRequest("castle"), as_json=True) == 0
    line = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert line == {
        "prompt": "castle",
        "genre": "FANTASY",
        "text": "[FANTASY] The castle sang.",
        "seed": 7,
        "prompt_tokens": 5,
        "new_tokens": 3,
        "ttft_ms": 1.0,
        "tok_per_s": 9.0,
        "finish_reason": "stop",
        "model": "m",
    }


async def test_genres_prints_a_line_for_each_prompt_and_loses_none(capsys: pytest.CaptureFixture[str]) -> None:
    status = await console.genres(ScriptedStoryteller(), ["a", " ", "b"], as_json=True)
    captured = capsys.readouterr()
    lines = [json.loads(line) for line in captured.out.splitlines()]
    assert status == 2
    assert [line["prompt"] for line in lines] == ["a", "b"]
    assert lines[0]["genre"] == "HORROR"
    assert lines[0]["probabilities"] == {"FANTASY": 0.25, "HORROR": 0.75}
    assert "no words" in captured.err


async def test_a_trimmed_end_is_marked_where_it_can_not_be_taken_back() -> None:
    class Trimming(ScriptedStoryteller):
        async def tell(self, request: StoryRequest) -> AsyncGenerator[StoryUpdate, None]:
            yield StoryUpdate(Stage.WRITING, "[FANTASY] It sang. The cas")
            story = Story("x", "FANTASY", "[FANTASY] It sang.", 7, 5, 3, 1.0, 9.0, Ending.LENGTH, "m")
            yield StoryUpdate(Stage.DONE, story.text, story)

    sink = io.StringIO()
    await console.stream(Trimming(), StoryRequest("castle"), sink)
    assert sink.getvalue() == "[FANTASY] It sang. The cas…\n"


async def test_a_place_in_the_line_is_said_beside_the_story_and_all_that_is_typed_is_one_users(
    capsys: pytest.CaptureFixture[str],
) -> None:
    class Busy(ScriptedStoryteller):
        async def tell(self, request: StoryRequest) -> AsyncGenerator[StoryUpdate, None]:
            yield StoryUpdate(Stage.QUEUED, position=3, estimate_s=20.0)
            async for update in super().tell(request):
                yield update

    sink, busy = io.StringIO(), Busy()
    await console.stream(busy, StoryRequest("castle"), sink)
    assert capsys.readouterr().err == "3rd in line, about 20 s ...\n"
    assert sink.getvalue() == "[FANTASY] The castle sang.\n"
    assert (busy.requests[0].user, busy.requests[0].server) == ("console", "console")


async def test_a_storyteller_that_ends_without_a_story_is_an_error() -> None:
    class Silent(ScriptedStoryteller):
        async def tell(self, request: StoryRequest) -> AsyncGenerator[StoryUpdate, None]:
            yield StoryUpdate(Stage.WRITING, "[FANTASY] x")

    with pytest.raises(StoryError):
        await console.stream(Silent(), StoryRequest("castle"), None)


def test_what_a_seed_does_not_promise_is_said_below_the_story() -> None:
    story = Story("castle", "FANTASY", "[FANTASY] x", 7, 5, 3, 1.0, 9.0, Ending.STOP, "m")
    assert console.closing_line(story) == "(3 tokens, 9 a second, seed 7)"
    served = replace(story, repeatable=False, genre_assumed=True)
    assert (
        console.closing_line(served) == "(3 tokens, 9 a second, seed 7, not repeatable here; genre: only the most common one)"
    )
    assert footer(story) == "seed 7"
    assert footer(served) == "seed 7, not repeatable here · genre: only the most common one"
