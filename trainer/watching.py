"""What one sees while a training runs: loss, real tokens a second, its share of what the machine could do, time left."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from trainer.speed import peak_bytes
from trainer.talking import say, shows_bars

if TYPE_CHECKING:
    from collections.abc import Generator

    import torch


class Meter:
    """Real tokens a second between two readings, evaluations and checkpoints left out."""

    def __init__(self, tokens_per_step: float, limit_tok_per_s: float, device: torch.device) -> None:
        """`tokens_per_step` is the mean over an epoch: counting each step's would make the device wait."""
        self._tokens_per_step = tokens_per_step
        self.limit_tok_per_s = limit_tok_per_s
        self._device = device
        self._step = 0
        self._since_s = time.perf_counter()
        self._aside_s = 0.0

    def start(self, step: int) -> None:
        """Measure from here, after `step` steps."""
        self._step, self._since_s, self._aside_s = step, time.perf_counter(), 0.0

    @contextmanager
    def aside(self) -> Generator[None]:
        """What is done inside teaches no tokens and takes no time."""
        before = time.perf_counter()
        try:
            yield
        finally:
            self._aside_s += time.perf_counter() - before

    def read(self, step: int) -> dict[str, float]:
        """For Trainer's log, and measure from here."""
        seconds = time.perf_counter() - self._since_s - self._aside_s
        tokens = (step - self._step) * self._tokens_per_step
        self.start(step)
        if seconds <= 0 or tokens <= 0:
            return {}
        return {"tok_per_s": round(tokens / seconds, 1), "peak_gb": round(peak_bytes(self._device) / 1e9, 3)}


class Watch(TrainerCallback):
    """A progress bar on a terminal, a line for each logged step elsewhere."""

    def __init__(self, meter: Meter) -> None:
        """Nothing is drawn yet."""
        self._meter = meter
        self._bar: Any = None
        self._started: tuple[float, int] = (0.0, 0)

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Draw the bar, at the step from which it goes on; how often is evaluated and saved may have changed since then."""
        from tqdm import tqdm

        state.compute_steps(args, state.max_steps)
        self._bar = tqdm(
            total=state.max_steps, initial=state.global_step, desc="Teaching", unit=" steps", disable=not shows_bars()
        )
        self._started = (time.monotonic(), state.global_step)
        self._meter.start(state.global_step)

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """One step on."""
        self._bar.update(state.global_step - self._bar.n)

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: Mapping[str, float] | None = None,
        **_: Any,
    ) -> None:
        """The loss and the speed."""
        if not logs or "loss" not in logs:
            return
        told = f"loss {logs['loss']:.3f}"
        if "tok_per_s" in logs:
            told += f", {logs['tok_per_s']:,.0f} tokens/s ({logs['tok_per_s'] / self._meter.limit_tok_per_s:.0%} of the limit)"
        if shows_bars():
            self._bar.set_postfix_str(told)
        else:
            say(f"step {state.global_step}/{state.max_steps}: {told}, {self._left(state)}")

    def _left(self, state: TrainerState) -> str:
        since_s, since = self._started
        done = state.global_step - since
        seconds = (time.monotonic() - since_s) / done * (state.max_steps - state.global_step) if done else 0.0
        return f"{seconds / 60:.0f} min left" if seconds >= 60 else f"{seconds:.0f} s left"

    def on_evaluate(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        metrics: Mapping[str, float] | None = None,
        **_: Any,
    ) -> None:
        """The held-out loss, in a line that stays."""
        if metrics and "eval_loss" in metrics:
            clear_of_the_bar(
                f"step {state.global_step}: held-out loss {metrics['eval_loss']:.3f} nats a token, "
                f"{metrics['eval_bits_per_byte']:.3f} bits a byte"
            )

    def on_train_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Leave the bar as it is."""
        self._bar.close()


def clear_of_the_bar(line: str) -> None:
    """Say a line above the progress bar where there is one."""
    from tqdm import tqdm

    with tqdm.external_write_mode():
        say(line)


def evaluations_since_best(curve: Sequence[Mapping[str, Any]]) -> int:
    """How many held-out losses came after the lowest one."""
    losses = [float(entry["eval_loss"]) for entry in curve if "eval_loss" in entry]
    return len(losses) - 1 - losses.index(min(losses)) if losses else 0


class StopWhenWorse(TrainerCallback):
    """Early stopping, from the log alone: a training that goes on after a crash stops where it would have stopped."""

    def __init__(self, patience: int) -> None:
        """Stops after so many evaluations without a lower held-out loss."""
        self._patience = patience

    def on_evaluate(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Stop, saved, when the patience is at its end."""
        if evaluations_since_best(state.log_history) >= self._patience and state.global_step < state.max_steps:
            clear_of_the_bar(f"No lower held-out loss in {self._patience} evaluations: that is enough.")
            control.should_training_stop = True
            control.should_save = True
