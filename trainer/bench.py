"""`python -m trainer bench`: how fast this machine teaches, by the report's recipe and by ours, against what it could do.

Both are the real training in a process of their own, and take turns of some seconds, so that whatever else the machine does
slows both; between them the rate of matrix products is measured, which sets the limit. Counted are real tokens, not padding.
The stories are the project's own, cut into as many lines as the report has, and as long: 45 tokens in the mean, tag and prompt
included. How many there are counts: an epoch's last step has fewer rows, and as a graph takes as long for them. Both teach by
AdamW, as taught weights are by default: Muon's own products, a seventh of a step of new weights, teach but no tokens.
"""

from __future__ import annotations

import json
import statistics
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import cycle, islice
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from trainer.errors import BaseUnavailable, TrainerError
from trainer.settings import BenchSettings, TrainSettings, set_threads
from trainer.talking import bar, quieten_transformers, say

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

    from transformers import GPT2LMHeadModel

    from trainer.material import Passage
    from trainer.story_format import StoryCodec

MODELS = Path(__file__).resolve().parents[1] / "models"
_LINE_TOKENS = 53
"""Of text in a line at most; with tag, prompt and end the lines then have 45 in the mean."""
_LINES = 40_000
"""The report's; the project's own stories make 16,000, and are gone through again."""
_TURN_S = 3.0


@dataclass(frozen=True)
class Turn:
    """Some whole steps of one of the two."""

    tokens: float
    seconds: float
    peak_bytes: int
    limit_flops_per_token: float


def bench(settings: BenchSettings) -> int:
    """Print the table and the line of JSON; the exit status. Raises TrainerError."""
    import torch

    from trainer.precision import precision
    from trainer.speed import matrix_rate

    set_threads(settings.threads)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    numbers = precision(settings.precision)
    turns: dict[str, list[Turn]] = {"report": [], "ours": []}
    rates: list[float] = []
    with (
        _worker("report", settings) as report,
        _worker("ours", settings) as ours,
        bar("Teaching", settings.seconds, "s") as done,
    ):
        for name, pipe in (("report", report), ("ours", ours)):
            say(f"Warming up: {name}")
            _take_turn(pipe)
        while (spent := sum(turn.seconds for turn in turns["ours"])) < settings.seconds:
            done(int(spent))
            rates.append(matrix_rate(device, numbers.dtype))
            turns["report"].append(_take_turn(report))
            turns["ours"].append(_take_turn(ours))
        rates.append(matrix_rate(device, numbers.dtype))
    name = torch.cuda.get_device_name() if device.type == "cuda" else f"cpu, {torch.get_num_threads()} threads"
    formats = {recipe: precision(settings.precision, recipe).name for recipe in turns}
    _print(settings, name, turns, formats, statistics.median(rates))
    return 0


def _print(settings: BenchSettings, device: str, turns: dict[str, list[Turn]], formats: dict[str, str], rate: float) -> None:
    speed = {name: sum(t.tokens for t in some) / sum(t.seconds for t in some) for name, some in turns.items()}
    peak = {name: max(turn.peak_bytes for turn in some) / 1e9 for name, some in turns.items()}
    limit = rate / turns["ours"][0].limit_flops_per_token
    ratio = speed["ours"] / speed["report"]
    print(f"{settings.size} on {device}, {rate / 1e9:,.0f} GFLOP/s of matrix products in {formats['ours']}")
    print(f"{'':<24}{'real tokens/s':>14}{'peak GB':>9}")
    print(f"{'the report, ' + formats['report']:<24}{speed['report']:>14,.0f}{peak['report']:>9.2f}")
    print(f"{'ours, ' + formats['ours']:<24}{speed['ours']:>14,.0f}{peak['ours']:>9.2f}   {ratio:.2f} times as fast")
    print(f"{'the limit':<24}{limit:>14,.0f}{'':>9}   of which ours has {speed['ours'] / limit:.0%}")
    if settings.json:
        line = {
            "device": device,
            "size": settings.size,
            "recipe_tok_per_s": round(speed["report"], 1),
            "tok_per_s": round(speed["ours"], 1),
            "ratio": round(ratio, 3),
            "limit_tok_per_s": round(limit, 1),
            "share_of_limit": round(speed["ours"] / limit, 3),
            "recipe_peak_gb": round(peak["report"], 3),
            "peak_gb": round(peak["ours"], 3),
            "turns": len(turns["ours"]),
            "recipe_precision": formats["report"],
            "precision": formats["ours"],
        }
        print(json.dumps(line))


@contextmanager
def _worker(recipe: str, settings: BenchSettings) -> Generator[Connection[Any, Any]]:
    """A process that teaches by this recipe whenever it is told to; ended at the end."""
    context = get_context("spawn")
    here, there = cast("tuple[Connection[Any, Any], Connection[Any, Any]]", context.Pipe())
    process = context.Process(target=_teach, args=(recipe, settings, there), daemon=True)
    process.start()
    there.close()
    try:
        yield here
    finally:
        here.close()  # a worker that waits for its turn ends by itself, and takes its folder with it
        process.join(10)
        process.kill()
        process.join()


def _take_turn(pipe: Connection[Any, Any]) -> Turn:
    try:
        pipe.send("on")
        answer = pipe.recv()
    except (EOFError, BrokenPipeError) as error:
        raise TrainerError("The process that was to be measured has ended: look at what it said above.") from error
    if isinstance(answer, str):
        raise TrainerError(answer)
    return cast("Turn", answer)


def _teach(recipe: str, settings: BenchSettings, pipe: Connection[Any, Any]) -> None:
    """What runs in a worker: the real training, which stops after each turn until it is told to go on."""
    try:
        _train(recipe, settings, pipe)
    except (EOFError, BrokenPipeError):
        pass  # the bench has ended
    except TrainerError as error:
        pipe.send(str(error))


def _train(recipe: str, settings: BenchSettings, pipe: Connection[Any, Any]) -> None:
    from contextlib import nullcontext

    from trainer.arguments import arguments, log_seldom, optimizer
    from trainer.compiling import choose_kernels
    from trainer.layout import Layout
    from trainer.memory import choose
    from trainer.packed_model import taught_packed
    from trainer.precision import precision
    from trainer.recipe import recipe_of
    from trainer.rows import PaddedLines, StoryRows, StoryTokens, collate
    from trainer.speed import flops_per_token
    from trainer.story_trainer import StoryTrainer

    set_threads(settings.threads)
    quieten_transformers()
    with tempfile.TemporaryDirectory() as folder:
        train = TrainSettings(
            Path(folder),
            base=settings.size,
            recipe=cast("Any", recipe),
            batch_size=settings.batch_size if recipe == "ours" else None,
            max_steps=10**6,
            save_steps=10**6,
        )
        chosen = recipe_of(train)
        codec, passages = _lines()
        model = _model(settings.size, chosen.dropout, chosen.attention_dropout)
        stories = StoryTokens(passages, codec)
        rows = (
            PaddedLines(stories, chosen.line_tokens, 1, chosen.end_taught)
            if chosen.line_tokens
            else StoryRows(stories, model.config.n_positions, 1)
        )
        numbers = precision(settings.precision, recipe)
        model.to(arguments(train, numbers, Layout(1), evaluated=False).device)  # pyright: ignore[reportArgumentType]
        layout, kernels, pass_s = Layout(chosen.batch_size), None, None
        if not chosen.line_tokens:
            layout = choose(model, train.chosen_optimizer, chosen.batch_size, rows.block, numbers.dtype).layout
            batch = collate([rows[n] for n in range(layout.micro_batch)])
            choice = choose_kernels(model, numbers.dtype, batch, train.max_steps, train.compile)
            if choice.sentence:
                say(choice.sentence)
            kernels, pass_s = choice.kernels, choice.pass_s
        args = arguments(train, numbers, layout, evaluated=False)
        if pass_s is not None:
            log_seldom(args, pass_s, train.max_steps)
        lengths = rows.lengths()
        tokens_per_step = [sum(lengths) * batch_rows / len(rows) for batch_rows in rows_of_steps(len(rows), chosen.batch_size)]
        turns = _turns(pipe, tokens_per_step, flops_per_token(model, lengths))
        with nullcontext() if kernels is None else taught_packed(model, numbers.dtype, kernels):
            StoryTrainer(
                model=model,
                args=args,
                optimizers=(optimizer(train, model, args), None),
                train_dataset=rows,
                data_collator=collate,
                held_out=None,
                callbacks=[turns],
            ).train()


def rows_of_steps(rows: int, batch_size: int) -> list[int]:
    """How many rows each step of an epoch of so many has, as Trainer goes through them: the last one has what is left."""
    whole, rest = divmod(rows, batch_size)
    return [batch_size] * whole + [rest] * (rest > 0)


def _turns(pipe: Connection[Any, Any], tokens_per_step: list[float], flops: float) -> Any:
    import time

    from transformers import TrainerCallback

    from trainer.speed import peak_bytes

    class Turns(TrainerCallback):
        """Measures whole steps, a turn at a time."""

        tokens = 0.0
        started_s = 0.0

        def on_train_begin(self, *_: Any, **__: Any) -> None:
            self._wait()

        def _wait(self) -> None:
            pipe.recv()
            self.tokens, self.started_s = 0.0, time.perf_counter()

        def on_step_end(self, args: Any, state: Any, *_: Any, **__: Any) -> None:
            self.tokens += tokens_per_step[(state.global_step - 1) % len(tokens_per_step)]
            if time.perf_counter() - self.started_s < _TURN_S:
                return
            if args.device.type == "cuda":  # it may be some steps behind
                import torch

                torch.cuda.synchronize()
            seconds = time.perf_counter() - self.started_s
            pipe.send(Turn(self.tokens, seconds, peak_bytes(args.device), flops))
            self._wait()

    return Turns()


def _lines() -> tuple[StoryCodec, list[Passage]]:
    """The project's stories in lines as long as the report's, with the bundled model's codec."""
    from tokenizers import Tokenizer

    from trainer.material import make_passages
    from trainer.sources.texts import read_texts
    from trainer.story_format import StoryCodec, StoryFormat

    directory = _bundled()
    story_format = StoryFormat.load(directory)
    codec = StoryCodec(Tokenizer.from_file(str(directory / "tokenizer.json")), story_format)
    texts = read_texts(("stories:",), lambda _: None)
    lines = make_passages(texts, story_format.genres, _LINE_TOKENS, codec.count)
    return codec, list(islice(cycle(lines), _LINES))


def _bundled() -> Path:
    try:
        return MODELS / (MODELS / "DEFAULT").read_text(encoding="utf-8").strip()
    except OSError:
        raise BaseUnavailable(
            f"The bench needs the bundled model, and {MODELS / 'DEFAULT'} is not there: clone the project."
        ) from None


def _model(size: str, dropout: float, attention_dropout: float) -> GPT2LMHeadModel:
    """New weights in the shape that is asked for."""
    from transformers import GPT2Config, GPT2LMHeadModel

    config = GPT2Config() if size == "gpt2" else GPT2Config.from_pretrained(_bundled())
    config.resid_pdrop = config.embd_pdrop = dropout
    config.attn_pdrop = attention_dropout
    return GPT2LMHeadModel(config)
