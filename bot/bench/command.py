"""The rounds of `python -m bot bench`, and what is printed of them.

    round    for each of the users:   one story by generate     (in a process of its own)
                                      the same one by ours      (nobody else in flight)
             all of them by ours, asked for at once; again until a second is over
             this machine's rate of reading the weights
             all of them by transformers' continuous batching     (in another process; again as well)

Interleaved, so that whatever else the machine does slows both; each figure is of all rounds together. `generate` one after
another tells many as fast as one, so its stories count for both of its figures. Continuous batching is what transformers has
for many; where it does not work its figures are None, and the run says why and goes on.
"""

from __future__ import annotations

import asyncio
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncGenerator, Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from bot.bench.baseline import Baseline, Told, baseline
from bot.bench.continuous import Continuous, ToldTogether, continuous
from bot.bench.crowd import CrowdFigures, crowd
from bot.bench.limit import reads_per_s
from bot.bench.options import BenchOptions
from bot.bench.ours import LoopLag, loop_lag, tell, tell_at_once
from bot.bench.start import READY
from bot.engine.interface import GenerationRequest, Sampling
from bot.engine.local import LocalEngine
from bot.engine.model_files import read_config
from bot.errors import StoryError
from bot.model_dir import ModelDescription, describe
from bot.settings import ROOT, Settings

SAMPLING = Sampling(temperature=0.8, top_k=50, top_p=0.95)
"""Of both: plain sampling, as most bots have it."""
PROMPTS = (
    *("magic castle", "a robot who learns to paint", "the haunted lighthouse on the hill", "lost treasure"),
    *("two sisters and a talking fox", "the last train to nowhere", "a dragon in the library", "rain"),
)
MOST_USERS = 256
"""MAX_STORIES can be no more."""
SWEEP = (1, 2, 4, 8, 16, 32, 64)
_AT_LEAST_S = 1.0
"""In each round, of all at once: on a GPU they are told in less than a tenth of that."""
_BUSY_PERCENT = 10
_NO_CONTINUOUS = "There are no figures of transformers' continuous batching, it does not work here"


@dataclass(frozen=True)
class Figures:
    """What is printed; the fields are those of the line of JSON."""

    device: str
    size: str
    generate_tok_per_s: float
    tok_per_s: float
    ratio: float
    ttft_ms: float
    generate_users_tok_per_s: float
    users: int
    users_tok_per_s: float
    users_ratio: float
    users_ttft_p95_s: float
    generate_users_ttft_p95_s: float
    loop_lag_max_ms: float
    limit_tok_per_s: float
    share_of_limit: float
    start_s: float
    """From the start of a process to its model being ready."""
    rounds: int
    continuous_users_tok_per_s: float | None = None
    """All stories at once by transformers' continuous batching; None where it does not work."""
    users_ratio_to_continuous: float | None = None
    sweep: list[dict[str, float]] = field(default_factory=list[dict[str, float]])
    queue: CrowdFigures | None = None


@dataclass
class _Measured:
    """All that was timed."""

    continuous: list[ToldTogether] | None
    """None where it does not work, also from a failure in a round on."""
    theirs: list[Told] = field(default_factory=list[Told])
    their_waits_s: list[float] = field(default_factory=list[float])
    """To the first token, from the moment at which all asked."""
    alone: list[Told] = field(default_factory=list[Told])
    together: list[Told] = field(default_factory=list[Told])
    together_s: float = 0.0
    reads_per_s: list[float] = field(default_factory=list[float])
    """How often the weights can be read in a second."""
    lag: LoopLag = field(default_factory=LoopLag)


async def bench(options: BenchOptions, settings: Settings) -> int:
    """Measure and print; the exit status. Raises StoryError."""
    _check(options)
    if options.size == "bundled":
        _check_fits(options, describe(settings.model_dir))
    _warn_if_busy()
    with ExitStack() as kept:
        model_dir = kept.enter_context(_model_dir(options, settings))
        theirs = kept.enter_context(baseline(model_dir, options.size, _device(settings), SAMPLING))
        model = describe(model_dir)
        if options.size != "bundled":  # it is there only now
            _check_fits(options, model)
        by_continuous = _continuous(kept, options, settings, model)
        most = max([options.users, *(SWEEP if options.sweep else ())])
        async with _engine(model_dir, settings, options, most) as engine:
            figures = await _figures(options, model, engine, theirs, by_continuous)
        if options.queue:
            async with _engine(model_dir, settings, options, options.users) as engine:
                _say(f"{options.queue} in a queue")
                queue = await crowd(engine, _request(model, options.tokens, 0), options.users, options.queue)
            figures = replace(figures, queue=queue)
    _print(figures)
    if options.sweep:
        from bot.bench.sweep_plot import draw

        draw(figures, options.sweep)
        print(f"The sweep is drawn in {options.sweep}")
    if options.json:
        print(json.dumps(asdict(figures)))
    return 0


def _check(options: BenchOptions) -> None:
    """All that would else end the run after its minutes. Raises StoryError."""
    if min(options.users, options.tokens, options.rounds) < 1 or options.queue < 0:
        raise StoryError("--users, --tokens and --rounds are whole numbers of 1 or more, --queue of 0 or more.")
    if options.users > MOST_USERS:
        raise StoryError(f"--users {options.users} is too many: each has a slot, and a bot has {MOST_USERS} at most.")
    if options.model is not None and options.size != "bundled":
        raise StoryError("Name a --model or a --size, not both.")
    if options.sweep is not None and (options.sweep.is_dir() or not options.sweep.absolute().parent.is_dir()):
        raise StoryError(f"--sweep {options.sweep} can't be a picture: name a file in a folder that is there.")


@asynccontextmanager
async def _engine(model_dir: Path, settings: Settings, options: BenchOptions, slots: int) -> AsyncGenerator[LocalEngine]:
    engine = LocalEngine(
        model_dir,
        threads=settings.threads,
        device=settings.device,
        max_stories=slots,
        max_queued=max(options.users, options.queue),
        state_dir=settings.state_dir if options.size == "bundled" else model_dir,
    )
    try:
        yield engine
    finally:
        await engine.close()


def _continuous(kept: ExitStack, options: BenchOptions, settings: Settings, model: ModelDescription) -> Continuous | None:
    """Until `kept` is closed; None, once it has said why, where it does not work."""
    _say("warming up transformers' continuous batching")
    prompts = [_request(model, options.tokens, number).prompt_ids for number in range(options.users)]
    process = continuous(model.directory, _device(settings), SAMPLING, prompts, options.tokens, _say)
    try:
        return kept.enter_context(process)
    except StoryError as error:
        _say(f"{_NO_CONTINUOUS}: {error}")
        return None


async def _figures(
    options: BenchOptions, model: ModelDescription, engine: LocalEngine, theirs: Baseline, by_continuous: Continuous | None
) -> Figures:
    await engine.load()  # the first time it may check int8 and threads, which later starts need not
    start_s = await _start_s(model)
    requests = [_request(model, options.tokens, number) for number in range(max(options.users, *SWEEP))]
    measured = _Measured(continuous=None if by_continuous is None else [])
    await _warm_up(engine, theirs, requests[: options.users])
    for number in range(options.rounds):
        _say(f"round {number + 1} of {options.rounds}")
        await _round(measured, engine, theirs, requests[: options.users])
        if by_continuous is not None:
            await _continuous_round(measured, by_continuous, requests[: options.users])
    sweep = [await _step_of_sweep(engine, requests[:users]) for users in SWEEP] if options.sweep else []
    speed = _tok_per_s(measured.alone)
    their_speed = _tok_per_s(measured.theirs)
    together = sum(told.tokens for told in measured.together) / measured.together_s
    continuously = _continuous_tok_per_s(measured.continuous)
    limit = statistics.median(measured.reads_per_s)
    return Figures(
        device=f"{engine.facts.how}, {_cores()} cores",
        size=model.name if options.size == "bundled" else options.size,
        generate_tok_per_s=round(their_speed, 2),
        tok_per_s=round(speed, 1),
        ratio=round(speed / their_speed, 2),
        ttft_ms=round(1000 * statistics.median(told.ttft_s for told in measured.alone), 1),
        generate_users_tok_per_s=round(their_speed, 2),
        users=options.users,
        users_tok_per_s=round(together, 1),
        users_ratio=round(together / their_speed, 2),
        users_ttft_p95_s=round(_p95([told.ttft_s for told in measured.together]), 4),
        generate_users_ttft_p95_s=round(_p95(measured.their_waits_s), 2),
        loop_lag_max_ms=round(1000 * measured.lag.worst_s, 1),
        limit_tok_per_s=round(limit, 1),
        share_of_limit=round(speed / limit, 3),
        start_s=round(start_s, 2),
        rounds=options.rounds,
        continuous_users_tok_per_s=continuously and round(continuously, 1),
        users_ratio_to_continuous=continuously and round(together / continuously, 2),
        sweep=sweep,
    )


async def _start_s(model: ModelDescription) -> float:
    _say("starting a bot")
    started_s = time.perf_counter()
    arguments = sys.executable, "-m", "bot.bench.start", str(model.directory)
    process = await asyncio.create_subprocess_exec(*arguments, cwd=ROOT, stdout=asyncio.subprocess.PIPE)
    said, status = await asyncio.gather(_first_line(process.stdout), process.wait())
    line, ready_s = said
    if line != READY or status:
        raise StoryError("A bot with this model does not start: look at what it said above.")
    return ready_s - started_s


async def _first_line(stdout: asyncio.StreamReader | None) -> tuple[str, float]:
    """And when it came."""
    line = await stdout.readline() if stdout is not None else b""
    return line.decode().strip(), time.perf_counter()


async def _warm_up(engine: LocalEngine, theirs: Baseline, requests: list[GenerationRequest]) -> None:
    _say("warming up")
    await asyncio.to_thread(theirs.tell, requests[0].prompt_ids, 8, 0)
    await tell(engine, requests[0])
    await tell_at_once(engine, requests)  # a GPU makes graphs for a crowd of a size that it has not had


async def _round(measured: _Measured, engine: LocalEngine, theirs: Baseline, requests: list[GenerationRequest]) -> None:
    waited_s = 0.0
    for request in requests:
        told = await asyncio.to_thread(theirs.tell, request.prompt_ids, request.max_new_tokens, request.seed)
        measured.theirs.append(told)
        measured.their_waits_s.append(waited_s + told.ttft_s)
        waited_s += told.seconds
        async with loop_lag(measured.lag):
            measured.alone.append(await tell(engine, request))
    until_s = measured.together_s + _AT_LEAST_S
    while measured.together_s < until_s:
        async with loop_lag(measured.lag):
            together, seconds = await tell_at_once(engine, requests)
        measured.together.extend(together)
        measured.together_s += seconds
    # In a thread that ends: OpenMP keeps workers for each thread that ever computed, and puts all of them to sleep at once
    # where they are more than the cores, which made ours half as fast in every round but the first.
    with ThreadPoolExecutor(1) as thread:
        reads = thread.submit(reads_per_s, engine.facts.weight_bytes, engine.facts.device)
        measured.reads_per_s.append(await asyncio.wrap_future(reads))


async def _continuous_round(measured: _Measured, by_continuous: Continuous, requests: list[GenerationRequest]) -> None:
    if measured.continuous is None:
        return
    prompts = [request.prompt_ids for request in requests]
    seconds = 0.0
    try:
        while seconds < _AT_LEAST_S:
            told = await asyncio.to_thread(by_continuous.tell, prompts, requests[0].max_new_tokens)
            measured.continuous.append(told)
            seconds += told.seconds
    except StoryError as error:
        measured.continuous = None
        _say(f"{_NO_CONTINUOUS}: {error}")


async def _step_of_sweep(engine: LocalEngine, requests: list[GenerationRequest]) -> dict[str, float]:
    _say(f"{len(requests)} at once")
    told, seconds = await tell_at_once(engine, requests)
    waits_s = [one.ttft_s for one in told]
    return {
        "users": len(requests),
        "tok_per_s": round(sum(one.tokens for one in told) / seconds, 1),
        "ttft_p50_s": round(statistics.median(waits_s), 4),
        "ttft_p95_s": round(_p95(waits_s), 4),
    }


def _request(model: ModelDescription, tokens: int, number: int) -> GenerationRequest:
    codec = model.codec
    opening = codec.opening(model.genres[number % len(model.genres)], codec.encode_prompt(PROMPTS[number % len(PROMPTS)]))
    never_ends = replace(SAMPLING, banned_ids=tuple((end,) for end in read_config(model.directory).eos_ids))
    return GenerationRequest(tuple(opening), tokens, never_ends, seed=number)


def _check_fits(options: BenchOptions, model: ModelDescription) -> None:
    longest = max(len(_request(model, options.tokens, number).prompt_ids) for number in range(len(PROMPTS)))
    room = model.n_positions - longest
    if options.tokens > room:
        raise StoryError(f"--tokens {options.tokens} is too many: generate can't go past {room} with this model.")


@contextmanager
def _model_dir(options: BenchOptions, settings: Settings) -> Generator[Path]:
    if options.size == "bundled":
        yield settings.model_dir
        return
    with tempfile.TemporaryDirectory(prefix="bench-gpt2-") as made:
        yield Path(made)


def _device(settings: Settings) -> str:
    import torch

    return ("cuda" if torch.cuda.is_available() else "cpu") if settings.device == "auto" else settings.device


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _tok_per_s(stories: list[Told]) -> float:
    return sum(told.tokens for told in stories) / sum(told.seconds for told in stories)


def _continuous_tok_per_s(rounds: list[ToldTogether] | None) -> float | None:
    return None if rounds is None else sum(told.tokens for told in rounds) / sum(told.seconds for told in rounds)


def _p95(values: list[float]) -> float:
    return sorted(values)[min(len(values) - 1, int(0.95 * len(values)))]


def _warn_if_busy() -> None:
    import psutil

    busy = psutil.cpu_percent(interval=1.0)
    if busy > _BUSY_PERCENT:
        _say(f"Something else takes {busy:.0f} % of this machine: the figures are worth little until it ends.")


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _print(figures: Figures) -> None:
    print(f"{figures.size} on {figures.device}; from start to ready {figures.start_s:.1f} s")
    print(f"{'':<30}{'transformers':>12}{'ours':>12}{'ratio':>9}")
    times = f"{figures.ratio:>9.2f}", f"{figures.users_ratio:>9.2f}"
    for name, theirs, ours, note in (
        ("one story, tokens/s", figures.generate_tok_per_s, figures.tok_per_s, times[0]),
        ("  its first token, ms", None, figures.ttft_ms, ""),
        (
            f"{figures.users} at once, tokens/s in all",
            figures.generate_users_tok_per_s,
            figures.users_tok_per_s,
            f"{figures.users_ratio:>9.2f}",
        ),
        ("  first token, p95, ms", 1000 * figures.generate_users_ttft_p95_s, 1000 * figures.users_ttft_p95_s, ""),
        *_continuous_rows(figures),
        ("  event loop late by, ms", None, figures.loop_lag_max_ms, ""),
        ("limit for one story, tokens/s", None, figures.limit_tok_per_s, f"   ours has {figures.share_of_limit:.0%}"),
    ):
        print(f"{name:<30}{'' if theirs is None else f'{theirs:,.1f}':>12}{ours:>12,.1f}{note}")
    for step in figures.sweep:
        print(f"{step['users']:>4.0f} at once: {step['tok_per_s']:>9,.1f} tokens/s, first token p95 {step['ttft_p95_s']:.3f} s")
    if figures.queue is not None:
        _print_queue(figures.queue)


def _continuous_rows(figures: Figures) -> list[tuple[str, float | None, float, str]]:
    if figures.users_ratio_to_continuous is None:
        return []
    ratio = f"{figures.users_ratio_to_continuous:>9.2f}"
    return [("  beside continuous batching", figures.continuous_users_tok_per_s, figures.users_tok_per_s, ratio)]


def _print_queue(queue: CrowdFigures) -> None:
    print(
        f"{queue.stories} stories in a queue: {queue.ended} were told to the end, the longest wait was "
        f"{queue.longest_wait_of_fair_share:.2f} of its fair share, memory went from {queue.memory_before_mb:,.0f} MB "
        f"to {queue.memory_most_mb:,.0f} MB at most"
    )
