"""The servers behind the HTTP engine: which is up, what each serves and takes, and which one is asked next.

A server is greeted before it is used: which model it has, and by which dialect it takes a prompt, found by letting it write one
token. A check every CHECK_EVERY_S finds those that fell silent while nobody asked, and brings back those that returned; a
request that fails marks its server down at once. The price of the greeting is one token of work, each time a server comes up.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, cast

from bot.engine.interface import GenerationRequest, Sampling
from bot.engine.server_answers import Broken, Busy, Down, Refused, Trouble
from bot.engine.server_dialects import VLLM, Dialect, Vocabulary, candidates
from bot.engine.server_prompts import PromptText
from bot.engine.server_wire import Waits, Wire
from bot.errors import CannotScore, ModelUnavailable

logger = logging.getLogger(__name__)

CHECK_EVERY_S = 5.0
OPENING_TRIES = 15
OPENING_PAUSE_S = 4.0
"""Servers that are started together with the bot still load their model: they get a minute before the bot gives up."""


@dataclass(eq=False)
class Server:
    """One address, and what was found there."""

    url: str
    up: bool = False
    in_flight: int = 0
    dialect: Dialect | None = None
    model: str | None = None
    """Its name on the server; None where it is asked for none."""
    context: int | None = None
    """Its max_model_len, where it says that."""
    trouble: Trouble | None = None
    """Why it is down."""
    told: set[str] = field(default_factory=set[str])
    """What the log has said of it already."""

    def __str__(self) -> str:
        """The address: settings allow no password in it."""
        return self.url

    @property
    def scores(self) -> bool:
        """Whether it tells how likely a prompt is, as far as is known."""
        return self.dialect is not None and self.dialect.scoring is not None

    @contextmanager
    def busy(self) -> Generator[None]:
        """Count a request in flight."""
        self.in_flight += 1
        try:
            yield
        finally:
            self.in_flight -= 1

    def log_once(self, message: str) -> None:
        """A warning that would be the same for each story."""
        if message not in self.told:
            self.told.add(message)
            logger.warning("%s: %s", self, message)


def addresses(urls: str) -> list[str]:
    """The servers of ENGINE_URL, with or without the /v1 that other clients want at the end."""
    return list(
        dict.fromkeys(url.strip().rstrip("/").removesuffix("/v1").rstrip("/") for url in urls.split(",") if url.strip())
    )


class Pool:
    """All servers. Up or down, the least busy one is asked first."""

    def __init__(
        self,
        urls: Sequence[str],
        wire: Wire,
        waits: Waits,
        *,
        model: str | None,
        n_positions: int,
        trial: tuple[GenerationRequest, PromptText, Vocabulary],
        pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """`trial` is the one-token request of a greeting; `pause` is how it waits, which tests replace."""
        self.servers = [Server(url) for url in urls]
        self._wire = wire
        self._waits = waits
        self._model = model
        self._n_positions = n_positions
        self._trial = trial
        self._pause = pause
        self._checking: asyncio.Task[None] | None = None

    @property
    def some_up(self) -> bool:
        """Whether any server is up."""
        return any(server.up for server in self.servers)

    async def open(self) -> None:
        """Wait for the first server that is up. Raises ModelUnavailable."""
        for attempt in range(OPENING_TRIES):
            await self.check()
            if self.some_up:
                self._checking = asyncio.create_task(self._check_for_ever(), name="server checks")
                return
            if all(isinstance(server.trouble, Refused) for server in self.servers):
                break  # they are there, and waiting changes nothing
            if attempt == 0:
                logger.warning("No model server is ready yet; waiting. %s", self._what_is_wrong())
            await self.pause(OPENING_PAUSE_S)
        raise self.none_fit()

    async def close(self) -> None:
        """End the checks."""
        if self._checking is not None:
            self._checking.cancel()
            await asyncio.gather(self._checking, return_exceptions=True)

    async def pause(self, seconds: float) -> None:
        """Wait, unless the engine closes."""
        await self._waits.within(None, lambda: self._pause(seconds))

    async def check(self) -> None:
        """Look at each server once: those that are up still answer, those that are not are greeted."""
        await asyncio.gather(*(self._check(server) for server in self.servers))

    def pick(self, avoid: set[Server], *, scoring: bool = False) -> Server | None:
        """The least busy server that is up; one of `avoid` only when there is no other."""
        up = [server for server in self.servers if server.up and (server.scores or not scoring)]
        return min(up, key=lambda server: (server in avoid, server.in_flight), default=None)

    def mark_down(self, server: Server, trouble: Trouble) -> None:
        """It is asked no more until a check finds it well."""
        if server.up:
            logger.warning("A model server is down: %s", trouble)
        server.up, server.trouble = False, trouble

    def none_fit(self) -> ModelUnavailable | CannotScore:
        """The sentence when `pick` finds no server; if some are up, they don't score. ModelUnavailable's is for the host."""
        if self.some_up:
            return CannotScore("The model's server can't tell which genre fits a prompt. Name the genre yourself.")
        return ModelUnavailable(f"No model server in ENGINE_URL can be used. {self._what_is_wrong()}")

    def _what_is_wrong(self) -> str:
        reasons = "; ".join(f"{server}: {server.trouble}" for server in self.servers)
        return (
            f"Check that each runs, serves the model (ENGINE_MODEL), takes the key (ENGINE_API_KEY) and can be reached from "
            f"this machine. {reasons}"
        )

    async def _check_for_ever(self) -> None:
        while True:
            await self.pause(CHECK_EVERY_S)
            await self.check()

    async def _check(self, server: Server) -> None:
        try:
            if server.up:
                await self._call_on(server)
            else:
                await self._greet(server)
                server.up = True
                logger.info("%s is up: %s, model %s", server, _name(server), server.model or "(its only one)")
        except Trouble as trouble:
            self.mark_down(server, trouble)

    async def _call_on(self, server: Server) -> None:
        """vLLM, llama.cpp and transformers serve have /health; others at least list their models."""
        status, _ = await self._wire.get(f"{server.url}/health")
        if status in (404, 405):
            status, _ = await self._wire.get(f"{server.url}/v1/models")
        if status >= 500:
            raise Down(f"{server.url} is not well ({status})")

    async def _greet(self, server: Server) -> None:
        """Find the model and the dialect. Raises Trouble with what the server said to each try."""
        status, listing = await self._wire.get(f"{server.url}/v1/models")
        if status in (401, 403):
            raise Refused(status, f"it refuses ENGINE_API_KEY ({status})")
        if status == 503:
            raise Busy("it is still loading its model")
        models = _models(listing)
        names = [self._model] if self._model else [models[0]["id"], None] if len(models) == 1 else [None]
        mine = next((model for model in models if model["id"] == names[0]), {})
        refused: list[Trouble] = []
        for dialect in candidates(mine.get("owned_by")):
            for name in names:
                try:
                    await self._wire.post(f"{server.url}/v1/completions", self._trial_body(dialect, name))
                except (Down, Busy):
                    raise
                except Trouble as trouble:
                    refused.append(trouble)
                    continue
                server.dialect, server.model, server.context = dialect, name, _context(mine)
                self._warn_of_context(server)
                return
        reasons = "; ".join(dict.fromkeys(map(str, refused)))
        last = refused[-1]
        raise Refused(last.status, reasons) if isinstance(last, Refused) else Broken(reasons)

    def _trial_body(self, dialect: Dialect, name: str | None) -> dict[str, Any]:
        request, text, vocabulary = self._trial
        prompt = list(request.prompt_ids) if dialect.takes_ids else text.written(request.prompt_ids)
        fields = {key: value for key, value in dialect.fields(request, vocabulary).items() if key != "stream_options"}
        return fields | {"prompt": prompt, "max_tokens": 1} | ({"model": name} if name else {})

    def _warn_of_context(self, server: Server) -> None:
        """llama.cpp may say the sum of its slots' contexts, so there only a smaller one is strange."""
        told, mine = server.context, self._n_positions
        if told is not None and (told < mine or (told > mine and server.dialect is VLLM)):
            server.log_once(
                f"it serves a context of {told} tokens, and the model in MODEL_DIR has {mine}. If it is the same model, "
                f"start it with that (vLLM: --max-model-len {mine})"
            )


def trial_request(prompt_ids: Sequence[int], sampling: Sampling) -> GenerationRequest:
    """One token, drawn as stories are: transformers serve with --continuous-batching draws all texts as it drew its first.

    Without no_repeat_ngram, which ends that server's worker.
    """
    kept = Sampling(sampling.repetition_penalty, 0, sampling.temperature, sampling.top_k, sampling.top_p, sampling.min_p)
    return GenerationRequest(tuple(prompt_ids), 1, kept, seed=0)


def _models(listing: Any) -> list[dict[str, Any]]:
    """The models that /v1/models lists; none where the answer is something else."""
    data: Any = cast("dict[str, Any]", listing).get("data") if isinstance(listing, dict) else None
    several: list[Any] = data if isinstance(data, list) else []
    return [model for model in several if isinstance(model, dict) and isinstance(model.get("id"), str)]


def _context(model: dict[str, Any]) -> int | None:
    """VLLM's max_model_len, or the n_ctx of llama.cpp's `meta`."""
    meta: Any = model.get("meta")
    found = model.get("max_model_len") or (meta.get("n_ctx") if isinstance(meta, dict) else None)
    return found if isinstance(found, int) and found > 0 else None


def _name(server: Server) -> str:
    return server.dialect.name if server.dialect else "unknown"
