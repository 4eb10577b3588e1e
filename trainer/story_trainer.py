"""transformers' Trainer, mended where it has holes (5.23): held-out loss per story, checkpoints that are whole, clean stops.

What people expect of Trainer (distribution, logging, integrations, schedules) stays its own. Changed are: the order of rows is
the data set's, so that an epoch is a function of its number; a checkpoint is written aside and renamed; the evaluation scores
stories rather than batches; Ctrl-C and SIGTERM save after the step in hand.
"""

from __future__ import annotations

import math
import shutil
import signal
from collections.abc import Callable, Generator
from contextlib import contextmanager, nullcontext
from functools import cached_property
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, cast

from safetensors import SafetensorError
from torch.utils.data import SequentialSampler
from transformers import (
    PrinterCallback,
    ProgressCallback,
    Trainer,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)

from trainer import checkpoints
from trainer.errors import LossNotFinite, OutputError
from trainer.evaluation import Score
from trainer.memory import is_out_of_memory
from trainer.processes import anywhere, as_the_first_says
from trainer.weights import load_weights, save_weights

if TYPE_CHECKING:
    from trainer.evaluation import HeldOut
    from trainer.watching import Meter

_STAGING = "being-written"
BEST = "best"
"""The directory, beside the checkpoints, of the weights with the lowest held-out loss."""


class StoryTrainer(Trainer):
    """A Trainer for packed rows of stories."""

    def __init__(self, *, held_out: HeldOut | None, meter: Meter | None = None, keep: int = 2, **kwargs: Any) -> None:
        """`keep` checkpoints stay on disk; `held_out` is scored at each evaluation; `meter` measures the speed for the log."""
        super().__init__(eval_dataset=cast("Any", held_out), **kwargs)
        self._held_out = held_out
        self._meter = meter
        self._keep = keep
        self._staging: Path | None = None
        self.remove_callback(PrinterCallback)  # who teaches brings its own way to tell of it
        self.remove_callback(ProgressCallback)

    def _get_train_sampler(self, *_: Any, **__: Any) -> SequentialSampler:
        return SequentialSampler(cast("Any", self.train_dataset))  # the rows are shuffled by their data set

    def floating_point_ops(self, inputs: dict[str, Any]) -> int:
        """As Trainer estimates them, which counts the parameters anew in each step."""
        return 6 * inputs["input_ids"].numel() * self._counted_parameters

    @cached_property
    def _counted_parameters(self) -> int:
        return cast("Any", self.model).num_parameters(exclude_embeddings=True)

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Add the speed to what is logged. Raises LossNotFinite before anything of such a model is saved."""
        if "loss" in logs:
            if not math.isfinite(logs["loss"]):
                raise self._not_finite()
            if self._meter is not None:
                logs |= self._meter.read(self.state.global_step)
        super().log(logs, start_time)

    def _not_finite(self) -> LossNotFinite:
        rate = self.args.learning_rate
        return LossNotFinite(
            f"At step {self.state.global_step} the loss is no number any more: a learning rate of {rate:g} is too high. The "
            f"last checkpoint before is kept. Start over with --learning-rate {rate / 10:g} and --resume never, or look for a "
            "rate with lr-find."
        )

    def evaluate(self, *_: Any, metric_key_prefix: str = "eval", **__: Any) -> dict[str, float]:
        """Score the held-out stories; logged and handed to callbacks as Trainer does. The best weights so far are kept."""
        with self._meter.aside() if self._meter else nullcontext():
            return self._evaluate_stories(metric_key_prefix)

    def _evaluate_stories(self, metric_key_prefix: str) -> dict[str, float]:
        if self._held_out is None:
            return {}
        total = sum(self._held_out.score(cast("Any", self.model)), Score(0.0, 0, 0, 0))
        metrics = as_the_first_says(  # or a last bit could part those that stop from those that go on
            {
                f"{metric_key_prefix}_loss": total.nats_per_token,
                f"{metric_key_prefix}_bits_per_byte": total.bits_per_byte,
            }
        )
        self.log(metrics)
        if self.state.best_metric is None or metrics[f"{metric_key_prefix}_loss"] < self.state.best_metric:
            self._keep_best()
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def _keep_best(self) -> None:
        """Keep the weights as they are now beside the checkpoints."""
        if not self.args.should_save:
            return
        directory = Path(cast("str", self.args.output_dir))
        staged = directory / f"{BEST}-being-written"
        shutil.rmtree(staged, ignore_errors=True)
        with self._said_in_words(directory / BEST):
            save_weights(cast("Any", self.model), staged)
            checkpoints.publish(staged, directory / BEST)

    def _get_output_dir(self, trial: Any) -> str:
        return str(self._staging) if self._staging else super()._get_output_dir(trial)

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        save_weights(cast("Any", self.model), Path(cast("str", output_dir)))

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        load_weights(cast("Any", self.model), Path(resume_from_checkpoint))

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        """Have Trainer write into a staging directory, then publish what it wrote. Raises LossNotFinite for broken weights."""
        with self._meter.aside() if self._meter else nullcontext():
            if not all(bool(parameter.isfinite().all()) for parameter in cast("Any", self.model).parameters()):
                raise self._not_finite()
            self._save_staged(model, trial)

    def _save_staged(self, model: Any, trial: Any) -> None:
        directory = Path(cast("str", self.args.output_dir))
        name = f"checkpoint-{self.state.global_step}"
        self._staging = directory / _STAGING
        if self.args.should_save:
            shutil.rmtree(self._staging, ignore_errors=True)  # what a killed process left
        self.accelerator.wait_for_everyone()
        staged = self._staging / name
        try:
            with self._said_in_words(directory / name):
                super()._save_checkpoint(model, trial)
                self.accelerator.wait_for_everyone()
                if self.args.should_save:
                    checkpoints.publish(staged, directory / name)
                    checkpoints.keep_newest(directory, self._keep, directory / name)
        finally:
            self._staging = None
            if self.args.should_save:
                shutil.rmtree(staged.parent, ignore_errors=True)

    @contextmanager
    def _said_in_words(self, what: Path) -> Generator[None]:
        try:
            yield
        except (OSError, RuntimeError, SafetensorError) as error:  # torch and safetensors wrap what the disk says
            if is_out_of_memory(error):
                raise
            raise OutputError(
                f"{what} can't be written ({str(error).splitlines()[0][:120]}). The last whole checkpoint is kept: "
                "make room, and give the same command again."
            ) from error


class StopCleanly(TrainerCallback):
    """Ctrl-C or SIGTERM once: save after the step in hand and end. Ctrl-C again: end at once, with the last checkpoint."""

    def __init__(self) -> None:
        """Nothing asked for yet."""
        self.asked: signal.Signals | None = None

    @contextmanager
    def listening(self) -> Generator[None]:
        """Handle the two signals inside this block."""
        previous = {number: signal.signal(number, self._ask) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)

    def _ask(self, number: int, _frame: FrameType | None) -> None:
        if self.asked is not None:
            raise KeyboardInterrupt
        self.asked = signal.Signals(number)

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Turn the request into Trainer's own flags; several processes agree on it."""
        if anywhere(self.asked is not None):
            self.asked = self.asked or signal.SIGTERM
            control.should_save = True
            control.should_training_stop = True


class AfterSave(TrainerCallback):
    """Calls a function after each checkpoint."""

    def __init__(self, act: Callable[[], object]) -> None:
        """`act` is called once for each checkpoint."""
        self._act = act

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """A checkpoint was published."""
        self._act()
