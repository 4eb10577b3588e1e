"""`python -m bot`: Discord when there is a token, else the same storyteller in the terminal. Services are built here."""

from __future__ import annotations

import asyncio
import contextlib
import io
import logging
import os
import sys
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import tyro

from bot.bench.options import BenchOptions
from bot.errors import EngineBroken, ModelUnavailable, StoryError
from bot.settings import Settings, load_settings
from bot.storyteller.story import StoryRequest

if TYPE_CHECKING:
    from bot.discord_ui.client import StoryBot

BROKEN_STATUS = 70
"""The exit status when only a new process can go on (EX_SOFTWARE of sysexits.h): a supervisor starts it again."""

_HOW_TO_DISCORD = (
    "To get one: discord.com/developers/applications, New Application, Bot, Reset Token; then put DISCORD_TOKEN=... into .env."
)


@dataclass(frozen=True)
class Run:
    """On Discord when DISCORD_TOKEN is set, else in the terminal."""


@dataclass(frozen=True)
class DiscordOnly:
    """On Discord, or not at all: for containers and services, where nobody types."""


@dataclass(frozen=True)
class ConsoleOptions:
    """The storyteller in the terminal."""

    once: str | None = None
    """Tell one story about this prompt and leave."""
    genre: str | None = None
    """With --once: the genre; found from the prompt when not given."""
    length: int | None = None
    """With --once: new tokens at most."""
    seed: int | None = None
    """With --once: the same seed tells the same story."""
    json: bool = False
    """With --once: print one line of JSON, last on stdout."""
    model: Path | None = None
    """The model directory, in place of MODEL_DIR."""


@dataclass(frozen=True)
class GenreOptions:
    """The genre of each prompt, with the probability of each genre."""

    prompts: Annotated[tuple[str, ...], tyro.conf.Positional] = ()
    """The prompts."""
    file: Path | None = None
    """A file with a prompt on each line."""
    json: bool = False
    """Print a line of JSON for each prompt."""
    model: Path | None = None
    """The model directory, in place of MODEL_DIR."""


Command = (
    Annotated[Run, tyro.conf.subcommand("run")]
    | Annotated[DiscordOnly, tyro.conf.subcommand("discord")]
    | Annotated[ConsoleOptions, tyro.conf.subcommand("console")]
    | Annotated[GenreOptions, tyro.conf.subcommand("genre")]
    | Annotated[BenchOptions, tyro.conf.subcommand("bench")]
)


def main(args: list[str] | None = None) -> int:
    """Run one command; the exit status. A StoryError is its sentence on stderr and status 2, or 70 if the model broke."""
    for stream in (sys.stdin, sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a byte that is no character must not end a story
    command = tyro.cli(
        Command,  # pyright: ignore[reportArgumentType] (a union is a form that tyro reads)
        prog="python -m bot",
        description="A storyteller for Discord and the terminal.",
        default=Run(),
        args=args,
        config=(tyro.conf.OmitArgPrefixes, tyro.conf.OmitSubcommandPrefixes),
    )
    try:
        return _dispatch(command)
    except StoryError as error:
        print(f"bot: {error}", file=sys.stderr)
        return BROKEN_STATUS if isinstance(error, EngineBroken) else 2
    except (KeyboardInterrupt, BrokenPipeError):
        return 130


def _dispatch(command: Run | DiscordOnly | ConsoleOptions | GenreOptions | BenchOptions) -> int:
    if isinstance(command, Run | DiscordOnly):
        settings = load_settings()
        if settings.discord_token is not None:
            _log_to_stderr(settings.log_level)
            return asyncio.run(_discord(settings, settings.discord_token.get_secret_value()))
        if isinstance(command, DiscordOnly):
            raise StoryError(f"There is no DISCORD_TOKEN in the environment or .env. {_HOW_TO_DISCORD}")
        print(f"No DISCORD_TOKEN in the environment or .env, so this is the terminal. {_HOW_TO_DISCORD}", flush=True)
        command = ConsoleOptions()
    settings = load_settings(**({"model_dir": command.model.resolve()} if command.model else {}))
    _log_to_stderr("DEBUG" if settings.log_level == "DEBUG" else "WARNING")
    if isinstance(command, BenchOptions):
        from bot.bench.command import bench

        return asyncio.run(bench(command, settings))
    if isinstance(command, GenreOptions):
        return asyncio.run(_genre(settings, command))
    return asyncio.run(_console(settings, command))


async def _console(settings: Settings, options: ConsoleOptions) -> int:
    from bot import console
    from bot.building import build_storyteller

    storyteller = build_storyteller(settings)
    try:
        if options.once is not None:
            request = StoryRequest(options.once, options.genre, options.length, options.seed)
            return await console.once(storyteller, request, as_json=options.json)
        loading = asyncio.create_task(storyteller.load())  # while the person types; a failure is told at the first story
        loading.add_done_callback(lambda task: task.cancelled() or task.exception())
        if sys.stdin is None:  # pyright: ignore[reportUnnecessaryComparison] (closed by whoever started us)
            raise StoryError("There is no input to read stories from: use --once, or start it in a terminal.")
        return await console.Console(storyteller, sys.stdin, sys.stdout).run()
    finally:
        await storyteller.close()


async def _genre(settings: Settings, options: GenreOptions) -> int:
    from bot import console
    from bot.building import build_storyteller

    prompts = [*options.prompts, *(_prompts_of(options.file) if options.file else [])]
    if not prompts:
        raise StoryError("Give a prompt, or --file with a prompt on each line.")
    storyteller = build_storyteller(settings)
    try:
        return await console.genres(storyteller, prompts, as_json=options.json)
    finally:
        await storyteller.close()


def _prompts_of(path: Path) -> list[str]:
    try:
        return [line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise StoryError(f"{path} can't be read as lines of UTF-8 text ({error}).") from None


async def _discord(settings: Settings, token: str) -> int:
    """Connect first, load the model meanwhile. A model that can't be loaded, or that broke, ends the bot with its sentence."""
    from bot.building import build_storyteller
    from bot.discord_ui.client import StoryBot
    from bot.discord_ui.run import serve

    loop, broken = asyncio.get_running_loop(), asyncio.Event()
    storyteller = build_storyteller(settings, on_broken=lambda: loop.call_soon_threadsafe(broken.set))
    bot = StoryBot(
        storyteller,
        state_dir=settings.state_dir,
        edit_interval_s=settings.edit_interval_s,
        max_stories_per_user=settings.max_stories_per_user,
    )
    serving = asyncio.create_task(serve(token, bot, api_url=settings.discord_api_url, gateway_url=settings.discord_gateway_url))
    loading = asyncio.create_task(storyteller.load())
    breaking = asyncio.create_task(broken.wait(), name="broken")
    try:
        await asyncio.wait({serving, loading}, return_when=asyncio.FIRST_COMPLETED)
        if loading.done() and not serving.done() and isinstance(fault := loading.exception(), ModelUnavailable):
            await _leave(bot, serving)
            raise fault
        await asyncio.wait({serving, breaking}, return_when=asyncio.FIRST_COMPLETED)
        if not serving.done():
            await _leave(bot, serving)
            raise EngineBroken("The GPU's context is lost, and only a new process gets another. Start the bot again.")
        await serving
    finally:
        loading.cancel()
        breaking.cancel()
        with contextlib.suppress(asyncio.CancelledError, StoryError):
            await loading
        await storyteller.close()
    return 0


async def _leave(bot: StoryBot, serving: asyncio.Task[None]) -> None:
    """Let those who wait read why there will be no story, then leave Discord."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(5):
            await bot.wait_until_idle()
    serving.cancel()
    await asyncio.wait({serving})


def _log_to_stderr(level: str) -> None:
    logging.basicConfig(level=level, format="%(asctime)s %(levelname)-7s %(name)s: %(message)s", stream=sys.stderr)
    logging.getLogger("discord").setLevel(max(logging.INFO, logging.getLogger().level))
    logging.getLogger("torch").setLevel(logging.WARNING)  # it tells of its caches when the process ends


def leave(status: int) -> NoReturn:
    """End this process, at once if a thread is still in a load, which nothing can interrupt.

    Python would take itself apart under that thread, which is in libraries of C++, and now and then it would end by a signal.
    """
    if any(thread.daemon for thread in threading.enumerate()):
        logging.shutdown()
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError, AttributeError):  # closed, or never there
                stream.flush()
        os._exit(status)
    sys.exit(status)


if __name__ == "__main__":
    leave(main())
