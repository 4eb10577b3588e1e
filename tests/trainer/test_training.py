"""The whole path of the trainer, on new weights of the smallest size: what is lost when a training is killed is nothing."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from safetensors.torch import load_file

from trainer.__main__ import main
from trainer.errors import OutputError
from trainer.story_format import StoryFormat

ROOT = Path(__file__).resolve().parents[2]
STEPS = 9

# Kills the process in the middle of writing its third checkpoint, as a power cut would.
KILLED_WHILE_SAVING = """
import os, signal, sys
from trainer import checkpoints
from trainer.__main__ import main
publish, calls = checkpoints.publish, []
def publish_or_die(staged, final):
    calls.append(final)
    if len(calls) == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    publish(staged, final)
checkpoints.publish = publish_or_die
sys.exit(main(sys.argv[1:]))
"""


def command(data: Path, out: Path) -> list[str]:
    return [
        *("train", "--data", str(data), "--base", "new:tiny", "--out", str(out), "--max-steps", str(STEPS)),
        *("--batch-size", "2", "--save-steps", "2", "--eval-steps", "5", "--held-out", "0.2", "--threads", "1"),
    ]


@pytest.fixture(scope="module")
def taught(stories_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("models") / "taught"
    assert main(command(stories_file, out)) == 0
    return out


@pytest.mark.timeout(300)
def test_a_killed_training_goes_on_from_its_newest_whole_checkpoint_to_the_same_weights(
    taught: Path, stories_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "killed"
    killed = subprocess.run([sys.executable, "-c", KILLED_WHILE_SAVING, *command(stories_file, out)], cwd=ROOT, timeout=240)
    assert killed.returncode == -9
    newest = out / "checkpoints" / "checkpoint-4"
    weights = newest / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])

    assert main(command(stories_file, out)) == 0
    said = capsys.readouterr().err
    assert f"{newest} has a damaged model.safetensors; passed over" in said
    assert f"Going on from {out / 'checkpoints' / 'checkpoint-2'}" in said
    resumed, uninterrupted = load_file(out / "model.safetensors"), load_file(taught / "model.safetensors")
    assert resumed.keys() == uninterrupted.keys()
    assert all(bool((resumed[name] == uninterrupted[name]).all()) for name in resumed)


def test_the_model_directory_is_whole_and_loads_anywhere(taught: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

    model = AutoModelForCausalLM.from_pretrained(taught)
    tokenizer = AutoTokenizer.from_pretrained(taught)
    assert model.config.model_type == "gpt2"
    assert tokenizer.convert_tokens_to_ids("[HORROR]") == tokenizer("[HORROR]").input_ids[0]
    assert model.config.eos_token_id == tokenizer.eos_token_id
    assert GenerationConfig.from_pretrained(taught).do_sample
    assert set(StoryFormat.load(taught).genres) == {"FANTASY", "SCI-FI", "HORROR", "ADVENTURE", "COMEDY"}
    assert StoryFormat.load(taught).scripts == ("LATIN",)


def test_the_held_out_loss_is_in_the_record_and_on_the_card(taught: Path) -> None:
    record = json.loads((taught / "training.json").read_text(encoding="utf-8"))
    losses = [entry["eval_loss"] for entry in record["curve"] if "eval_loss" in entry]
    assert record["finished"]
    assert losses
    card = (taught / "README.md").read_text(encoding="utf-8")
    assert f"{losses[-1]:.3f}" in card
    assert "-m trainer train" in card


def test_the_card_and_evaluate_say_the_same_loss(taught: Path, stories_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["evaluate", str(taught), "--data", str(stories_file), "--held-out-only", "0.2", "--json"]
    assert main(arguments) == 0
    line = json.loads(capsys.readouterr().out.strip().splitlines()[-1])
    card = (taught / "README.md").read_text(encoding="utf-8")
    assert f"| all | {line['stories']} | {line['nats_per_token']:.4f} | {line['bits_per_byte']:.4f} |" in card


def test_a_training_killed_after_its_last_step_takes_no_further_one(
    stories_file: Path, taught: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import trainer.finishing

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    out = tmp_path / "cut"
    with monkeypatch.context() as patched:
        patched.setattr(trainer.finishing, "finish", interrupted)
        assert main(command(stories_file, out)) == 130
    assert not (out / "model.safetensors").exists()
    assert main(command(stories_file, out)) == 0
    cut, whole = load_file(out / "model.safetensors"), load_file(taught / "model.safetensors")
    assert all(bool((cut[name] == whole[name]).all()) for name in cut)


def test_texts_that_changed_are_noticed(stories_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = tmp_path / "stories.jsonl"
    data.write_bytes(stories_file.read_bytes())
    assert main(command(data, tmp_path / "out")) == 0
    data.write_bytes(stories_file.read_bytes() * 2 + b'{"text": "A new story."}\n')
    assert main(command(data, tmp_path / "out")) == 2
    assert "the texts of --data have changed" in capsys.readouterr().err


def test_starting_over_deletes_nothing_before_it_can_start(taught: Path, tmp_path: Path) -> None:
    import shutil

    out = Path(shutil.copytree(taught, tmp_path / "copy"))
    assert main([*command(tmp_path / "nowhere.txt", out), "--resume", "never"]) == 2
    assert (out / "training.json").is_file()
    assert list((out / "checkpoints").glob("checkpoint-*"))


def test_a_full_disk_is_a_sentence_and_keeps_the_last_whole_checkpoint(
    stories_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from trainer import checkpoints

    publish, calls = checkpoints.publish, []

    def full_at_the_third(staged: Path, final: Path) -> None:
        calls.append(final)
        if len(calls) == 3:
            raise OSError(28, "No space left on device")
        publish(staged, final)

    monkeypatch.setattr(checkpoints, "publish", full_at_the_third)
    out = tmp_path / "out"
    assert main(command(stories_file, out)) == 2
    error = capsys.readouterr().err
    assert "No space left on device" in error
    assert "Traceback" not in error
    assert checkpoints.newest_whole(out / "checkpoints").path == out / "checkpoints" / "checkpoint-4"
    assert not (out / "checkpoints" / "being-written").exists()
    assert main(command(stories_file, out)) == 0


def test_a_finished_training_is_not_done_again(taught: Path, stories_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = (taught / "model.safetensors").stat().st_mtime_ns
    assert main(command(stories_file, taught)) == 0
    assert "is taught already" in capsys.readouterr().err
    assert (taught / "model.safetensors").stat().st_mtime_ns == before


def test_a_record_from_before_there_were_optimizers_is_of_adamw(taught: Path, stories_file: Path, tmp_path: Path) -> None:
    import shutil

    from trainer.output import inspect_output
    from trainer.settings import TrainSettings

    out = Path(shutil.copytree(taught, tmp_path / "copy"))
    record = json.loads((out / "training.json").read_text(encoding="utf-8"))
    assert record["settings"].pop("optimizer") == "muon"
    (out / "training.json").write_text(json.dumps(record), encoding="utf-8")
    settings = TrainSettings(
        out, (str(stories_file),), "new:tiny", max_steps=STEPS, batch_size=2, held_out=0.2, optimizer="adamw"
    )
    assert inspect_output(settings, record["digest"]).finished
    with pytest.raises(OutputError, match="optimizer was 'adamw' and is 'muon'"):
        inspect_output(replace(settings, optimizer="auto"), record["digest"])


def test_other_settings_in_the_same_output_are_refused(
    taught: Path, stories_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*command(stories_file, taught), "--seed", "2"]) == 2
    assert "seed was 1 and is 2" in capsys.readouterr().err


def test_a_taught_model_is_a_base(taught: Path, stories_file: Path, tmp_path: Path) -> None:
    again = [
        *("train", "--data", str(stories_file), "--base", str(taught), "--out", str(tmp_path / "again")),
        *("--max-steps", "2", "--batch-size", "2", "--held-out", "0.2", "--threads", "1"),
    ]
    assert main(again) == 0
    assert StoryFormat.load(tmp_path / "again").genres == StoryFormat.load(taught).genres


def test_evaluate_prints_losses_per_genre_and_a_json_line(
    taught: Path, stories_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["evaluate", str(taught), "--data", str(stories_file), "--json"]) == 0
    line = json.loads(capsys.readouterr().out.strip().splitlines()[-1])
    assert set(line["genres"]) == {"FANTASY", "SCI-FI", "HORROR", "ADVENTURE", "COMEDY"}
    assert line["stories"] == sum(genre["stories"] for genre in line["genres"].values()) == 120
    assert 0 < line["bits_per_byte"] < 8
    assert 0 < line["unigram_nats_per_token"] < line["nats_per_token"] < 10  # nine steps teach less than word counts


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--data", "{missing}.txt", "--out", "{tmp}/m", "--base", "new:tiny"], "There is no file or folder"),
        (["--data", "{empty}", "--out", "{tmp}/m", "--base", "new:tiny"], "No story to learn from"),
        (["--data", "{data}", "--out", "{tmp}/m", "--base", "new:huge"], "There is no size new:huge"),
        (["--data", "{data}", "--out", "{full}", "--base", "new:tiny"], "holds something that no training wrote"),
        (["--data", "{data}", "--out", "{data}", "--base", "new:tiny"], "is a file"),
        (["--data", "{data}", "--out", "{tmp}/m", "--base", "new:tiny", "--block-size", "20"], "leaves no story room"),
        (["--data", "{data}", "--out", "{tmp}/m", "--batch-size", "0"], "--batch-size should be at least 1, and is 0"),
        (["--data", "{data}", "--out", "{tmp}/m", "--dropout", "2"], "--dropout should be from 0 to 0.9"),
        (["--data", "{data}", "--out", "{tmp}/m", "--epochs", "0"], "--epochs should be at least 1"),
        (["--data", "{data}", "--out", "{tmp}/m", "--genres", "a/b"], "can't be a genre"),
    ],
)
def test_bad_input_is_one_sentence_and_status_2(
    arguments: list[str], says: str, stories_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    empty, full = tmp_path / "empty.txt", tmp_path / "full"
    empty.write_text("\n \n")
    full.mkdir()
    (full / "thesis.doc").write_text("years of work")
    places = {"missing": tmp_path / "missing", "empty": empty, "full": full, "tmp": tmp_path, "data": stories_file}
    assert main(["train", *(argument.format(**places) for argument in arguments)]) == 2
    error = capsys.readouterr().err
    assert says in error
    assert "Traceback" not in error
    assert (full / "thesis.doc").read_text() == "years of work"


def test_a_base_that_is_no_gpt2_is_refused(stories_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    base = tmp_path / "bert"
    base.mkdir()
    (base / "config.json").write_text('{"model_type": "bert"}')
    assert main(["train", "--data", str(stories_file), "--out", str(tmp_path / "m"), "--base", str(base)]) == 2
    assert "teaches GPT-2 only" in capsys.readouterr().err


def test_a_torn_model_is_named_by_evaluate(
    taught: Path, stories_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torn = tmp_path / "torn"
    torn.mkdir()
    for file in taught.iterdir():
        if file.is_file():
            (torn / file.name).write_bytes(file.read_bytes())
    (torn / "model.safetensors").write_bytes(b"\x08\x00")
    assert main(["evaluate", str(torn), "--data", str(stories_file)]) == 2
    assert "can't be read" in capsys.readouterr().err


def test_two_trainings_never_write_into_one_directory_at_once(
    stories_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from trainer.alone import alone_in

    out = tmp_path / "out"
    assert main(command(stories_file, out)) == 0
    kept = sorted(path.name for path in (out / "checkpoints").glob("checkpoint-*"))
    with alone_in(out / "checkpoints"):
        assert main([*command(stories_file, out), "--resume", "never"]) == 2
    assert "Another run works in" in capsys.readouterr().err
    assert sorted(path.name for path in (out / "checkpoints").glob("checkpoint-*")) == kept
    assert main([*command(stories_file, out), "--resume", "never"]) == 0
