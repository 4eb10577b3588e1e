from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from bot.errors import ModelUnavailable
from bot.model_dir import describe


@pytest.fixture
def directory(random_model: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(random_model, tmp_path / "model"))


def test_a_model_directory_says_its_genres_context_and_sampling(directory: Path) -> None:
    model = describe(directory)
    assert model.name == "model"
    assert model.genres == ("FANTASY", "SCI-FI", "HORROR", "ADVENTURE")
    assert model.n_positions == 128
    assert 0 < model.sampling.temperature < 1


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.json", "story_format.json"])
def test_a_missing_file_is_named(directory: Path, name: str) -> None:
    (directory / name).unlink()
    with pytest.raises(ModelUnavailable, match=name):
        describe(directory)


@pytest.mark.parametrize("name", ["config.json", "generation_config.json", "tokenizer.json", "story_format.json"])
@pytest.mark.parametrize("content", ["", "{", "[]", "\x00\x01"])
def test_a_torn_file_is_named(directory: Path, name: str, content: str) -> None:
    (directory / name).write_text(content)
    with pytest.raises(ModelUnavailable, match=name):
        describe(directory)


def test_a_model_that_is_no_gpt2_is_refused(directory: Path) -> None:
    (directory / "config.json").write_text(json.dumps({"model_type": "llama", "n_positions": 128}))
    with pytest.raises(ModelUnavailable, match="is for a 'llama' model"):
        describe(directory)


def test_a_directory_that_is_not_there_is_said_with_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(ModelUnavailable, match=r"There is no model directory .*MODEL_DIR"):
        describe(tmp_path / "nothing")
