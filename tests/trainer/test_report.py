"""What is said of a training is what its curve says, and samples leave no trace in it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from trainer.__main__ import main
from trainer.report import verdict, write_report
from trainer.samples import Sample, keep_samples, read_samples, tell
from trainer.story_format import StoryCodec
from trainer.watching import Meter, evaluations_since_best


def curve(training: list[float], held_out: list[float]) -> list[dict[str, Any]]:
    entries: list[dict[str, Any]] = []
    for number, (loss, lost) in enumerate(zip(training, held_out, strict=True), 1):
        entries += [{"step": number * 10, "loss": loss, "learning_rate": 1e-3}, {"step": number * 10, "eval_loss": lost}]
    return entries


@pytest.mark.parametrize(
    ("training", "held_out", "word"),
    [
        ([5.0, 4.0, 3.0, 2.0], [5.0, 4.5, 4.2, 4.0], "still learns"),
        ([5.0, 4.0, 3.99, 3.98], [5.0, 4.1, 4.1, 4.09], "has stopped"),
        ([5.0, 3.0, 2.0, 0.15], [5.0, 4.0, 4.3, 6.0], "memorises"),
        ([5.0, 4.0], [5.0, 4.5], "unknown"),
    ],
)
def test_a_curve_is_said_to_learn_to_have_stopped_or_to_memorise(
    training: list[float], held_out: list[float], word: str
) -> None:
    assert verdict(curve(training, held_out)).word == word


def test_the_sentence_has_the_gap_and_names_the_best_step() -> None:
    sentence = verdict(curve([5.0, 3.0, 2.0, 0.15], [5.0, 4.0, 4.3, 6.0])).sentence
    assert "since step 20 the held-out loss rose from 4.000 to 6.000" in sentence
    assert "5.850 nats above the training loss, 0.150" in sentence


def test_the_report_has_pictures_losses_and_stories_as_they_changed(tmp_path: Path) -> None:
    samples = [Sample(step, "HORROR", "a door", f"It was step {step}.\n\nIt opened.") for step in (10, 20, 30, 40, 50)]
    entries = [*curve([5.0, 4.0, 3.0, 2.5, 2.0], [5.0, 4.5, 4.2, 4.1, 4.0]), {"step": 50, "tok_per_s": 9.0, "peak_gb": 1.0}]
    write_report(tmp_path, entries, samples, "train --out x")
    text = (tmp_path / "report.md").read_text(encoding="utf-8")
    for name in ("loss", "learning_rate", "tok_per_s", "peak_gb"):
        assert (tmp_path / "report" / f"{name}.png").read_bytes().startswith(b"\x89PNG")
        assert f"(report/{name}.png)" in text
    assert "| 30 | 3.000 | 4.200 |" in text
    assert [step for step in (10, 20, 30, 40, 50) if f"> It was step {step}." in text] == [10, 30, 50]


def test_samples_of_a_lost_future_are_told_again(tmp_path: Path) -> None:
    path = tmp_path / "samples.json"
    for step in (10, 20, 30):
        keep_samples(path, [Sample(step, "HORROR", "a door", f"Old {step}.")])
    keep_samples(path, [Sample(20, "HORROR", "a door", "New 20.")])
    assert [sample.text for sample in read_samples(path)] == ["Old 10.", "New 20."]
    path.write_text("[{")
    assert read_samples(path) == []


def test_samples_leave_the_random_state_and_the_model_as_they_were(codec: StoryCodec) -> None:
    from transformers import GPT2Config, GPT2LMHeadModel

    model = GPT2LMHeadModel(
        GPT2Config(vocab_size=codec.tokenizer.get_vocab_size(), n_positions=64, n_embd=32, n_layer=2, n_head=2)
    )
    model.train()
    before = torch.random.get_rng_state()
    first, again = tell(model, codec, 1), tell(model, codec, 1)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert model.training
    assert first == again
    assert [sample.genre for sample in first] == list(codec.format.genres)


def taught(data: Path, out: Path, *more: str) -> list[str]:
    return [
        *("train", "--data", str(data), "--base", "new:tiny", "--out", str(out), "--batch-size", "2"),
        *("--held-out", "0.2", "--threads", "1", "--save-steps", "100", *more),
    ]


@pytest.mark.timeout(200)
def test_evaluations_and_samples_do_not_change_what_is_taught(stories_file: Path, tmp_path: Path) -> None:
    assert main(taught(stories_file, tmp_path / "often", "--max-steps", "6", "--eval-steps", "2")) == 0
    assert main(taught(stories_file, tmp_path / "once", "--max-steps", "6", "--eval-steps", "6")) == 0
    often, once = (load_file(tmp_path / name / "model.safetensors") for name in ("often", "once"))
    assert all(bool((often[name] == once[name]).all()) for name in once)
    assert {sample.step for sample in read_samples(tmp_path / "often" / "samples.json")} == {2, 4, 6}


def test_the_weights_of_the_lowest_held_out_loss_are_the_models_and_patience_ends_it(
    stories_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from trainer.story_trainer import StoryTrainer

    # A loss that is lowest at the second evaluation, whatever the stories: what is taught in nine steps never gets worse.
    real, seen, kept = StoryTrainer._keep_best, [], []

    def score(self: Any, model: Any, *_: Any, **__: Any) -> list[Any]:
        from trainer.evaluation import Score

        seen.append({name: tensor.clone() for name, tensor in model.state_dict().items()})
        loss = [3.0, 2.0, 2.5, 2.6, 2.7, 2.8, 2.9]
        return [Score(loss[min(len(seen), len(loss)) - 1], 1, 1, 1)] * len(self.passages)

    def keep_best(self: Any) -> None:
        kept.append(self.state.global_step)
        real(self)

    monkeypatch.setattr("trainer.evaluation.HeldOut.score", score)
    monkeypatch.setattr(StoryTrainer, "_keep_best", keep_best)
    out = tmp_path / "out"
    assert main(taught(stories_file, out, "--max-steps", "20", "--eval-steps", "1", "--patience", "2")) == 0
    said = capsys.readouterr().err
    assert kept == [1, 2]
    assert "No lower held-out loss in 2 evaluations" in said
    assert "lowest at step 2 (2.000; 2.600 at the end): those weights are the model's" in said
    weights = load_file(out / "model.safetensors")
    assert all(bool((weights[name] == seen[1][name]).all()) for name in weights)
    assert json.loads((out / "training.json").read_text(encoding="utf-8"))["finished"]


def test_a_learning_rate_that_breaks_the_weights_is_a_sentence_and_saves_nothing_broken(
    stories_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from trainer import story_loss

    real, calls = story_loss.summed_loss, []

    def astray(*parts: Any) -> torch.Tensor:
        calls.append(None)
        return real(*parts) * (float("nan") if len(calls) == 4 else 1)

    monkeypatch.setattr(story_loss, "summed_loss", astray)
    out = tmp_path / "out"
    more = ("--max-steps", "8", "--save-steps", "2")
    assert main(taught(stories_file, out, *more)) == 2
    said = capsys.readouterr().err
    assert "At step 4 the loss is no number any more: a learning rate of 0.001 is too high" in said
    assert "--learning-rate 0.0001" in said
    assert [path.name for path in (out / "checkpoints").glob("checkpoint-*")] == ["checkpoint-2"]


def test_patience_counts_evaluations_since_the_lowest_loss() -> None:
    assert evaluations_since_best([]) == 0
    assert evaluations_since_best(curve([1, 1, 1], [3.0, 2.0, 1.0])) == 0
    assert evaluations_since_best(curve([1, 1, 1], [3.0, 1.0, 2.0])) == 1


def test_the_meter_leaves_out_what_is_done_aside(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr("trainer.watching.time.perf_counter", lambda: now[0])
    meter = Meter(50.0, 1000.0, torch.device("cpu"))
    meter.start(4)
    now[0] += 2
    with meter.aside():
        now[0] += 60
    assert meter.read(8)["tok_per_s"] == 100.0
    assert meter.read(8) == {}


def test_a_reporter_that_is_not_installed_is_named(
    stories_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(taught(stories_file, tmp_path / "out", "--report-to", "telepathy")) == 2
    assert "--report-to telepathy: there is no such package here" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.timeout(200)
def test_tensorboard_has_the_losses_the_learning_rate_and_the_speed(stories_file: Path, tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    out = tmp_path / "out"
    assert main(taught(stories_file, out, "--max-steps", "20", "--eval-steps", "10", "--report-to", "tensorboard")) == 0
    (events,) = out.rglob("events.out.tfevents.*")
    read = EventAccumulator(str(events.parent)).Reload()
    for name in ("train/loss", "train/learning_rate", "train/tok_per_s", "eval/loss"):
        assert [event.step for event in read.Scalars(name)] == [10, 20]
    curve = json.loads((out / "training.json").read_text(encoding="utf-8"))["curve"]
    losses = [entry["loss"] for entry in curve if "loss" in entry]
    assert [event.value for event in read.Scalars("train/loss")] == pytest.approx(losses, rel=1e-5)
