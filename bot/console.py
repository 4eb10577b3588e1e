"""The terminal front end: the same storyteller without Discord. What Discord can do, it can.

Ctrl-C ends a story, and at the prompt the program.
"""

from __future__ import annotations

import asyncio
import json
import re
import signal
import sys
import threading
from collections.abc import AsyncIterator, Callable, Generator
from contextlib import aclosing, contextmanager, suppress
from dataclasses import asdict, replace
from typing import Any, TextIO

from bot.errors import EngineBroken, ModelUnavailable, StoryError
from bot.storyteller.interface import Storyteller
from bot.storyteller.story import Stage, Story, StoryRequest, place_in_line

HELP = """/story PROMPT [genre:G] [length:N] [seed:S]   tell a story; a line without a slash is a prompt too
/genres   the genres that this model knows
/help     this
/quit     leave (Ctrl-D does as well; Ctrl-C ends a story)"""

_USER = "console"
"""Who asks, in the line for the model: all that is typed here is one user's."""
_OPTION = re.compile(r"(?:^|\s)(genre|length|seed):(\S+)", re.IGNORECASE)


class Console:
    """Reads commands from one stream and tells stories to another."""

    def __init__(self, storyteller: Storyteller, source: TextIO, sink: TextIO) -> None:
        """`source` is read line by line to its end; stories go to `sink`."""
        self._storyteller = storyteller
        self._source = source
        self._sink = sink
        self._failed = False

    async def run(self) -> int:
        """Answer until the end of the input or /quit. 2 when a script was typed in and a story of it failed, else 0."""
        self._print("Type /story magic castle, or /help.")
        async for line in self._lines():
            command, _, rest = " ".join(line.split()).partition(" ")
            command = command.lower()
            if command in ("/quit", "/exit"):
                break
            if command == "/help":
                self._print(HELP)
            elif command == "/genres":
                self._print(", ".join(self._storyteller.genres))
            elif command.startswith("/") and command != "/story":
                self._print(f"There is no command {command[:40]}. /help lists them.")
            elif line.strip():
                await self._answer(rest if command == "/story" else line.strip())
        return 2 if self._failed and not self._source.isatty() else 0

    async def _answer(self, text: str) -> None:
        try:
            request = parse(text)
            with _ctrl_c_cancels():
                story = await stream(self._storyteller, request, self._sink)
        except (ModelUnavailable, EngineBroken):
            raise  # no other story would fare better
        except StoryError as error:
            self._failed = True
            self._print(str(error))
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is not None:
                task.uncancel()
            self._print("\n(stopped)")
        else:
            self._print(closing_line(story))

    async def _lines(self) -> AsyncIterator[str]:
        """The lines as they are typed. Read in a daemon thread: one that waits for a key must not hold up the end."""
        loop = asyncio.get_running_loop()
        wanted, lines = threading.Semaphore(0), asyncio.Queue[str]()

        def read() -> None:
            while wanted.acquire():
                line = self._source.readline()
                with suppress(RuntimeError):  # the loop is closed, and nobody waits
                    loop.call_soon_threadsafe(lines.put_nowait, line)
                if not line:
                    return

        threading.Thread(target=read, name="stdin", daemon=True).start()
        while True:
            if self._source.isatty():
                self._sink.write("> ")
                self._sink.flush()
            wanted.release()
            line = await lines.get()
            if not line:
                return
            yield line

    def _print(self, text: str) -> None:
        print(text, file=self._sink, flush=True)


def closing_line(story: Story) -> str:
    """What stands below a story: its size, its speed, and how to tell it again."""
    seed = f"seed {story.seed}" if story.repeatable else f"seed {story.seed}, not repeatable here"
    genre = "; genre: only the most common one" if story.genre_assumed else ""
    return f"({story.new_tokens} tokens, {story.tok_per_s:.0f} a second, {seed}{genre})"


def parse(text: str) -> StoryRequest:
    """A prompt with its options, written as Discord shows them: "prompt:an old clock genre:HORROR seed:7"."""
    options = {name.lower(): value for name, value in _OPTION.findall(text)}
    prompt = _OPTION.sub("", text).strip().removeprefix("prompt:").strip()
    return StoryRequest(
        prompt, options.get("genre"), _whole(options.get("length"), "length"), _whole(options.get("seed"), "seed")
    )


def _whole(value: str | None, name: str) -> int | None:
    if value is None:
        return None
    try:
        return int(value)
    except ValueError:
        raise StoryError(f"{name}: takes a whole number, not {value[:40]!r}.") from None


async def stream(storyteller: Storyteller, request: StoryRequest, sink: TextIO | None) -> Story:
    """Tell one story, written to the sink as it grows. Raises StoryError."""
    shown = ""
    write: Callable[[str], object] = sink.write if sink else lambda _: None
    async with aclosing(storyteller.tell(replace(request, user=_USER, server=_USER))) as updates:
        async for update in updates:
            if update.stage is Stage.LOADING:
                print("The model is loading ...", file=sys.stderr, flush=True)
            elif update.stage is Stage.QUEUED:
                print(f"{place_in_line(update)} ...", file=sys.stderr, flush=True)
            elif update.text.startswith(shown):
                write(update.text[len(shown) :])
                shown = update.text
            elif len(update.text) < len(shown):
                write("…")  # the end was trimmed, and a terminal can't take back what it shows
            if sink:
                sink.flush()
            if update.story is not None:
                write("\n")
                return update.story
    raise StoryError("The story ended without an end. Try it again.")


async def once(storyteller: Storyteller, request: StoryRequest, *, as_json: bool) -> int:
    """One story and out; with `as_json` its JSON line and nothing else on stdout. Raises StoryError."""
    story = await stream(storyteller, request, None if as_json else sys.stdout)
    if as_json:
        print(json.dumps(_facts(story)), flush=True)
    return 0


def _facts(story: Story) -> dict[str, Any]:
    """All of a story; what its engine could not promise is named only then."""
    facts = asdict(story)
    return {
        name: value for name, value in facts.items() if (name, value) not in (("repeatable", True), ("genre_assumed", False))
    }


async def genres(storyteller: Storyteller, prompts: list[str], *, as_json: bool) -> int:
    """The odds of each genre for each prompt, a line each; 2 when a prompt can't be told about. The others are not lost."""
    await storyteller.load()
    status = 0
    for prompt in prompts:
        try:
            odds = await storyteller.genre_odds(prompt)
        except StoryError as error:
            print(f"{prompt[:60]!r}: {error}", file=sys.stderr, flush=True)
            status = 2
            continue
        best = max(odds, key=odds.__getitem__)
        if as_json:
            rounded = {genre: round(value, 4) for genre, value in odds.items()}
            print(json.dumps({"prompt": prompt, "genre": best, "probabilities": rounded}), flush=True)
        else:
            ranked = sorted(odds.items(), key=lambda pair: -pair[1])
            print(f"[{best}] {prompt}   {', '.join(f'{genre} {value:.0%}' for genre, value in ranked[:4])}", flush=True)
    return status


@contextmanager
def _ctrl_c_cancels() -> Generator[None]:
    """Inside this block Ctrl-C cancels the task that runs it instead of ending the program."""
    loop = asyncio.get_running_loop()
    task = asyncio.current_task()
    handled = False
    with suppress(NotImplementedError, RuntimeError):  # Windows, or a loop outside the main thread
        if task is not None:
            loop.add_signal_handler(signal.SIGINT, task.cancel)
            handled = True
    try:
        yield
    finally:
        if handled:
            loop.remove_signal_handler(signal.SIGINT)
