"""The real bot as a child process: started with the environment of a loopback Discord, ended by a signal."""

import asyncio
import os
import signal
import sys
from collections.abc import Awaitable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from discord_server import DiscordServer

PROJECT = Path(__file__).resolve().parents[2]
KILL_AFTER_S = 20.0  # Docker gives 10; a machine of two cores that trains at the same time gets more

T = TypeVar("T")


@dataclass(eq=False)
class BotProcess:
    """One run of `python -m bot`. All it writes goes to `log`."""

    process: asyncio.subprocess.Process
    server: DiscordServer
    log: Path
    readies_before: int = 0

    @property
    def returncode(self) -> int | None:
        return self.process.returncode

    def output(self) -> str:
        """All that the bot has written to stdout and stderr."""
        return self.log.read_text("utf-8", errors="replace")

    async def ready(self, timeout_s: float = 60.0) -> None:
        """Return when this process is connected; fail at once, with its output, if it ends instead."""
        await self.alive_while(self.server.wait_ready(timeout_s, times=self.readies_before + 1))

    async def alive_while(self, waiting: Awaitable[T]) -> T:
        """Await something that the bot must not die during."""
        wanted, ended = asyncio.ensure_future(waiting), asyncio.ensure_future(self.process.wait())
        try:
            await asyncio.wait({wanted, ended}, return_when=asyncio.FIRST_COMPLETED)
            if not wanted.done():
                raise AssertionError(f"The bot ended with {self.returncode}. It wrote:\n{self.output()}")
            return wanted.result()
        finally:
            wanted.cancel()
            ended.cancel()

    async def wait(self, timeout_s: float = 60.0) -> int:
        """Return the exit status once the bot has ended by itself."""
        async with asyncio.timeout(timeout_s):
            return await self.process.wait()

    async def stop(self, sign: signal.Signals = signal.SIGTERM) -> int:
        """Send a signal and return the exit status; -9 says that it did not end in time and was killed."""
        if self.process.returncode is None:
            self.process.send_signal(sign)
        try:
            return await self.wait(KILL_AFTER_S)
        except TimeoutError:
            self.process.kill()
            return await self.process.wait()


@dataclass(eq=False)
class BotStarter:
    """Starts the bot, again and again if a test wants; all runs of one test share one state directory."""

    server: DiscordServer
    folder: Path
    project: Path = PROJECT
    started: list[BotProcess] = field(default_factory=list)

    @property
    def state_dir(self) -> Path:
        return self.folder / "state"

    async def __call__(
        self, *arguments: str, model_dir: Path | None = None, env: Mapping[str, str | None] | None = None
    ) -> BotProcess:
        """Start `python -m bot *arguments`; `env` overrides variables, None removes one."""
        self.state_dir.mkdir(exist_ok=True)
        variables: dict[str, str | None] = {**_inherited(), **self.server.environment, "STATE_DIR": str(self.state_dir)}
        variables |= {"MODEL_DIR": str(model_dir)} if model_dir else {}
        variables |= env or {}
        log = self.folder / f"bot-{len(self.started) + 1}.log"
        with log.open("wb") as sink:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "bot",
                *arguments,
                cwd=self.project,
                env={name: value for name, value in variables.items() if value is not None},
                stdin=asyncio.subprocess.DEVNULL,
                stdout=sink,
                stderr=asyncio.subprocess.STDOUT,
            )
        self.started.append(BotProcess(process, self.server, log, self.server.gateway.readies))
        return self.started[-1]

    async def stop_all(self) -> None:
        for bot in self.started:
            if bot.returncode is None:
                await bot.stop()


def _inherited() -> dict[str, str | None]:
    """The test's own environment without what would name another Discord, in it or in a developer's .env.

    Output is unbuffered, so that a log is whole.
    """
    kept = {name: value for name, value in os.environ.items() if not name.startswith("DISCORD_")}
    return {**kept, "PYTHONUNBUFFERED": "1", "STORYTELLER_ENV_FILE": os.devnull}
