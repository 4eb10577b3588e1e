"""A file of settings says what the command line would, and a wrong word in it is told with the right one."""

from __future__ import annotations

from pathlib import Path

import pytest

from trainer.__main__ import main
from trainer.errors import BadSetting
from trainer.settings import TrainSettings
from trainer.settings_file import with_file


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "settings.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_the_files_settings_come_before_those_of_the_command_line(tmp_path: Path) -> None:
    path = written(tmp_path, 'data = ["a.txt", "b c.txt"]\nbatch-size = 2\nbase = "new:tiny"\n')
    args = with_file(["train", "--config", str(path), "--batch-size", "3"], TrainSettings)
    assert args[:7] == ["train", "--data", "a.txt", "b c.txt", "--batch-size", "2", "--base"]
    assert args[-2:] == ["--batch-size", "3"]
    assert with_file(["train", "--out", "x"], TrainSettings) == ["train", "--out", "x"]


def test_a_training_is_described_by_a_file_alone(stories_file: Path, tmp_path: Path) -> None:
    out = tmp_path / "model"
    path = written(
        tmp_path,
        f'out = "{out}"\ndata = ["{stories_file}"]\nbase = "new:tiny"\n'
        "max_steps = 9\nbatch-size = 2\nheld-out = 0.2\nthreads = 1\n",
    )
    assert main(["train", f"--config={path}", "--max-steps", "2"]) == 0
    assert (out / "checkpoints" / "checkpoint-2").is_dir()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("learnign-rate = 1e-4\n", "has 'learnign-rate', which is no setting of this command; the nearest is 'learning-rate'"),
        ("epochs = [1\n", "is no TOML"),
        ("[epochs]\nfirst = 1\n", "'epochs' should be a value or a list of values"),
    ],
)
def test_a_wrong_file_is_a_sentence(tmp_path: Path, text: str, says: str, capsys: pytest.CaptureFixture[str]) -> None:
    path = written(tmp_path, text)
    assert main(["train", "--config", str(path), "--out", str(tmp_path / "m")]) == 2
    assert says in capsys.readouterr().err


def test_a_missing_file_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(BadSetting, match="can't be read"):
        with_file(["train", "--config", str(tmp_path / "none.toml")], TrainSettings)
