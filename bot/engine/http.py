"""The engine that lets servers decode: vLLM, llama.cpp, `transformers serve` or another with OpenAI's /v1/completions.

So the bot outgrows one machine: several addresses share the stories. A failure before the first word is tried again, on
another server first; after it the text ends there, since nobody can take up where a server broke off. A text longer than the
context goes on in a new request. The price: a seed is only a wish there, and what a server does not know of the
sampling is left out. Nothing here imports torch.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, aclosing, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from bot.engine.before_writing import check_length, check_request, check_score, closed_before, closed_within
from bot.engine.characters import Vocabulary as ModelVocabulary
from bot.engine.interface import FinishReason, GenerationRequest, Piece, Sampling
from bot.engine.model_files import ModelConfig, read_config, read_tokenizer
from bot.engine.server_answers import Chunk, Refused, Trouble
from bot.engine.server_attempts import Attempts, broke_off
from bot.engine.server_dialects import Vocabulary
from bot.engine.server_pool import Pool, Server, addresses, trial_request
from bot.engine.server_prompts import Manuscript, PromptText
from bot.engine.server_scores import summed, to_be_scored
from bot.engine.server_seats import Seats
from bot.engine.server_wire import Closing, Waits, Wire
from bot.engine.stop_strings import StopStrings
from bot.errors import ModelUnavailable


class HttpEngine:
    """An Engine over one or more servers. Up to `max_stories` texts are there at once; up to `max_queued` more wait here."""

    def __init__(
        self,
        urls: str,
        model_dir: Path,
        *,
        model: str | None = None,
        api_key: str | None = None,
        silence_s: float = 60.0,
        max_stories: int = 8,
        max_queued: int = 200,
        sampling: Sampling | None = None,
        pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """`urls` as in ENGINE_URL; `model_dir` gives the tokenizer and the context; `silence_s` is how long a server may
        say nothing; `sampling` is what stories will mostly ask for; `pause` is how to wait between tries.
        """
        self._urls = addresses(urls)
        self._model_dir = model_dir
        self._model = model
        self._api_key = api_key
        self._silence_s = silence_s
        self._sampling = sampling or Sampling()
        self._pause = pause
        self._waits = Waits()
        self._seats = Seats(max_stories, max_queued, self._waits)
        self._config: ModelConfig | None = None
        self._loading: asyncio.Task[None] | None = None
        self._opened = AsyncExitStack()
        self._wire: Wire
        self._pool: Pool
        self._text: PromptText
        self._vocabulary: Vocabulary

    @property
    def ready(self) -> bool:
        """Whether a server has answered."""
        loading = self._loading
        return loading is not None and loading.done() and not loading.cancelled() and loading.exception() is None

    @property
    def repeatable(self) -> bool:
        """The seed is sent, but batches, versions and machines of the servers decide what comes of it."""
        return False

    @property
    def n_positions(self) -> int:
        """The context in tokens, by the model directory. Raises ModelUnavailable for a broken config.json."""
        return self._known_config().n_positions

    async def load(self) -> None:
        """Find a server that is up and serves the model; a second call waits for the first, after a failure it tries again.

        Raises ModelUnavailable, and ShuttingDown after `close`.
        """
        if self._waits.closed:
            raise closed_before()
        if self._loading is None or (self._loading.done() and not self.ready):
            self._loading = asyncio.create_task(self._load(), name="find model servers")
        try:
            await asyncio.shield(self._loading)  # a caller that gives up ends no other's wait
        except Closing:
            raise closed_before() from None

    async def generate(self, request: GenerationRequest) -> AsyncGenerator[Piece, None]:
        """Write one text. Closing the generator closes the connection, by which the server stops.

        Raises PromptTooLong and QueueFull at once; ModelUnavailable when no server is up; EngineFailed when one fails in the
        middle or all fail before it; ShuttingDown when the engine closes or has closed.
        """
        check_request(request, self._known_config())
        await self.load()
        begun = False
        try:
            with self._seats.ask(request) as seat:
                async with aclosing(seat.places()) as places:
                    async for place in places:
                        yield Piece("", 0, waiting=place)
                async with aclosing(self._write(request)) as pieces:
                    async for piece in pieces:
                        begun = begun or bool(piece.text)
                        yield piece
        except Closing:
            raise (closed_within() if begun else closed_before()) from None
        except ModelUnavailable as error:  # a long text that no server can go on with
            if begun:
                raise broke_off() from error
            raise

    async def score(self, prefixes: Sequence[Sequence[int]], continuation: Sequence[int]) -> list[float]:
        """Sum up log P(continuation | prefix) in nats for each prefix, where a server gives the probabilities of a prompt.

        Raises CannotScore where none does, PromptTooLong, and what `generate` raises before its first piece.
        """
        if not prefixes or not continuation:
            return [0.0] * len(prefixes)
        check_score(prefixes, continuation, self._known_config(), kept_free=1)  # a server writes one token to it
        await self.load()
        attempts = Attempts(self._pool, scoring=True)
        try:
            while True:
                server = await attempts.next()
                try:
                    scores = await self._scores(server, prefixes, continuation)
                except Trouble as trouble:
                    attempts.failed(server, trouble)
                else:
                    if scores is not None:
                        return scores
        except Closing:
            raise closed_before() from None

    async def close(self) -> None:
        """End the texts in flight with ShuttingDown, and close all connections."""
        self._waits.close()
        if self._loading is not None:
            loading, self._loading = self._loading, None
            await asyncio.gather(loading, return_exceptions=True)
        await self._opened.aclose()

    async def _load(self) -> None:
        await self._opened.aclose()  # what a load that failed has left
        config = self._known_config()
        tokenizer = await asyncio.to_thread(read_tokenizer, self._model_dir, config)
        never = ModelVocabulary(tokenizer, config.vocab_size, config.eos_ids).unwritable
        self._vocabulary = Vocabulary(tuple(sorted(config.eos_ids)), tuple(sorted(never)))
        self._text = PromptText(tokenizer)
        self._wire = Wire(self._waits, self._api_key, self._silence_s)
        self._opened.push_async_callback(self._wire.close)
        self._pool = Pool(
            self._urls,
            self._wire,
            self._waits,
            model=self._model,
            n_positions=config.n_positions,
            trial=(trial_request(self._text.encode("Once"), self._sampling), self._text, self._vocabulary),
            pause=self._pause,
        )
        self._opened.push_async_callback(self._pool.close)
        await self._pool.open()

    async def _write(self, request: GenerationRequest) -> AsyncGenerator[Piece, None]:
        """Request after request, until the text is over."""
        script, stops = Manuscript(request, self._text), StopStrings(request.stop)
        while True:
            last = Chunk("")
            async with aclosing(self._part(request, script)) as chunks:
                async for chunk in chunks:
                    text = stops.feed(chunk.text)
                    script.add(chunk.text)
                    if stops.hit:
                        yield Piece(text, script.tokens, FinishReason.STOP)
                        return
                    if chunk.finish is not None:
                        last = replace(chunk, text=text)
                    elif text:
                        yield Piece(text, script.tokens)
            by_end_token = last.finish != "length" and last.stopped_by is None
            if last.completion_tokens is not None:
                script.count(max(0, last.completion_tokens - (1 if by_end_token else 0)))  # servers count the end token
            grown = script.end_part()
            if last.finish == "length" and grown and not script.complete:
                yield Piece(last.text, script.tokens)
                continue
            reason = FinishReason.LENGTH if last.finish == "length" else FinishReason.STOP
            yield Piece(last.text + stops.flush(), script.tokens, reason)
            return

    async def _part(self, request: GenerationRequest, script: Manuscript) -> AsyncGenerator[Chunk, None]:
        """One request, tried again as long as it has not said a word."""
        attempts = Attempts(self._pool)
        while True:
            server = await attempts.next()
            body, begun = self._body(server, request, script), False
            with server.busy():
                try:
                    async with aclosing(self._wire.complete(f"{server.url}/v1/completions", body)) as chunks:
                        async for chunk in chunks:
                            begun = begun or bool(chunk.text)
                            yield chunk
                        return
                except Trouble as trouble:
                    attempts.failed(server, trouble, begun=begun)

    def _body(self, server: Server, request: GenerationRequest, script: Manuscript) -> dict[str, Any]:
        dialect = server.dialect
        if dialect is None:
            raise RuntimeError(f"{server} was never greeted")
        for name in dialect.missing(request.sampling):
            server.log_once(f"{dialect.name} has no {name}; stories go without it")
        ids, room = script.to_go_on_from(min(self.n_positions, server.context or self.n_positions))
        prompt = ids if dialect.takes_ids else self._text.written(ids)
        body = {"prompt": prompt, "max_tokens": room} | dialect.fields(request, self._vocabulary)
        return body | ({"model": server.model} if server.model else {})

    async def _scores(
        self, server: Server, prefixes: Sequence[Sequence[int]], continuation: Sequence[int]
    ) -> list[float] | None:
        """None from a server that does not tell; it is not asked again."""
        dialect = server.dialect
        if dialect is None or dialect.scoring is None:
            return None
        if server.context is not None:
            check_length(len(prefixes[0]) + len(continuation), server.context - 1)
        body = to_be_scored(dialect.scoring, prefixes, continuation) | ({"model": server.model} if server.model else {})
        scores = None
        with server.busy(), suppress(Refused):
            answer = await self._wire.post(f"{server.url}/v1/completions", body)
            scores = summed(dialect.scoring, answer, prefixes, continuation)
        if scores is None:
            server.log_once("it does not tell how likely a prompt is, so genres can't be found by it")
            server.dialect = replace(dialect, scoring=None)
        return scores

    def _known_config(self) -> ModelConfig:
        if self._config is None:
            self._config = read_config(self._model_dir)
        return self._config
