"""A model runs in int8 only where its own loss allows it, and that is found out once."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer

from bot.engine import int8_check, loading
from bot.engine.cpu_forward import CpuForward
from bot.engine.cpu_linear import Int8Linear
from bot.engine.forward import Forward
from bot.engine.int8_check import Int8Record, fingerprint, known_record


def load(model_dir: Path) -> Forward:
    return loading.load_model(model_dir, 1, "cpu", 4).forward


def is_int8(forward: Forward) -> bool:
    return isinstance(forward, CpuForward) and forward.linear is Int8Linear


@pytest.fixture
def model_dir(model_dir: Path) -> Path:
    """Never checked; an engine of another test may have left its record where this was copied from."""
    (model_dir / "int8.json").unlink(missing_ok=True)
    return model_dir


@pytest.fixture
def checks(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """One entry for each check that is made from here on."""
    made: list[str] = []
    real = loading.measure
    monkeypatch.setattr(loading, "measure", lambda *args: (made.append(args[0].name), real(*args))[1])
    return made


def change_a_weight(model_dir: Path) -> None:
    weights = load_file(model_dir / "model.safetensors")
    weights = {name: weight * 1.001 for name, weight in weights.items()}
    save_file(weights, model_dir / "model.safetensors", metadata={"format": "pt"})


def make_int8_bad(model_dir: Path, tokenizer: Tokenizer) -> None:
    """The head reads how common a token is from one channel, beside another that is 1,000 times as large and unread."""
    ids = [token for encoding in tokenizer.encode_batch(int8_check.REFERENCE.read_text().split("\n")) for token in encoding.ids]
    weights = load_file(model_dir / "model.safetensors")
    embedding, gain, bias = (weights[f"transformer.{name}"] for name in ("wte.weight", "ln_f.weight", "ln_f.bias"))
    embedding[:, 0] = 0
    embedding[:, 1] = torch.bincount(torch.tensor(ids), minlength=len(embedding)).add(0.5).log() / 10
    gain.zero_()
    bias.zero_()
    bias[0], bias[1] = 10_000, 10
    save_file(weights, model_dir / "model.safetensors", metadata={"format": "pt"})


def test_the_first_load_checks_and_keeps_what_it_found(model_dir: Path, checks: list[str]) -> None:
    first, second = load(model_dir), load(model_dir)
    assert checks == ["model"]
    kept = json.loads((model_dir / "int8.json").read_text())
    assert kept["rise"] == pytest.approx(kept["loss_int8"] / kept["loss_fp32"] - 1, abs=1e-5)
    assert is_int8(first) == is_int8(second) == (kept["rise"] < 0.005)


def test_new_weights_are_checked_again(model_dir: Path, checks: list[str]) -> None:
    load(model_dir)
    change_a_weight(model_dir)
    assert known_record(model_dir) is None
    load(model_dir)
    assert checks == ["model", "model"]
    assert known_record(model_dir) is not None


@pytest.mark.parametrize("torn", ["", "[]", "{}", '{"loss_fp32": "much"}'])
def test_a_torn_record_is_no_record(model_dir: Path, torn: str) -> None:
    (model_dir / "int8.json").write_text(torn)
    assert known_record(model_dir) is None
    load(model_dir)
    assert known_record(model_dir) is not None


def test_a_model_that_int8_spoils_runs_in_fp32_and_the_log_says_so(
    model_dir: Path, tokenizer: Tokenizer, caplog: pytest.LogCaptureFixture
) -> None:
    make_int8_bad(model_dir, tokenizer)
    with caplog.at_level(logging.INFO):
        forward = load(model_dir)
    record = known_record(model_dir)
    assert record is not None
    assert record.rise > 0.005
    assert not is_int8(forward)
    assert "runs in fp32" in caplog.text
    caplog.clear()
    with caplog.at_level(logging.INFO):
        assert not is_int8(load(model_dir))
    assert "runs in fp32" in caplog.text


@pytest.mark.parametrize(("fp32", "int8", "allows"), [(2.0, 2.0099, True), (2.0, 2.0101, False), (2.0, 1.9, True)])
def test_half_a_percent_is_the_limit(fp32: float, int8: float, allows: bool) -> None:
    assert Int8Record(fp32, int8, 1000, "").allows is allows


@pytest.mark.parametrize(("fp32", "int8"), [(float("nan"), 2.0), (2.0, float("nan")), (0.0, 0.0), (2.0, float("inf"))])
def test_a_loss_that_is_no_number_allows_nothing(fp32: float, int8: float) -> None:
    assert not Int8Record(fp32, int8, 1000, "").allows


def test_a_directory_that_cannot_be_written_to_is_checked_at_each_load(
    model_dir: Path, checks: list[str], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "read-only")

    monkeypatch.setattr(Path, "write_text", refuse)
    load(model_dir)
    load(model_dir)
    assert checks == ["model", "model"]
    assert "can't be kept" in caplog.text


def test_a_directory_that_is_read_only_has_its_record_among_what_the_bot_remembers(
    model_dir: Path, tmp_path: Path, checks: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    write = Path.write_text

    def refuse(self: Path, *args: Any, **options: Any) -> int:
        if self.is_relative_to(model_dir):
            raise PermissionError(13, "read-only")
        return write(self, *args, **options)

    monkeypatch.setattr(Path, "write_text", refuse)
    state_dir = tmp_path / "new" / "state"
    for _ in range(2):
        loading.load_model(model_dir, 1, "cpu", 4, state_dir)
    assert checks == ["model"]
    change_a_weight(model_dir)
    loading.load_model(model_dir, 1, "cpu", 4, state_dir)
    assert checks == ["model", "model"]


def test_a_processor_without_the_kernel_runs_fp32(model_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loading, "int8_is_there", lambda: False)
    assert not is_int8(load(model_dir))


def test_the_reference_is_eight_stories() -> None:
    stories = int8_check.REFERENCE.read_text().strip().split(int8_check.BETWEEN_STORIES)
    assert len(stories) == 8
    assert all(100 < len(story.split()) < 200 for story in stories)


def test_the_bundled_model_ships_its_record() -> None:
    bundled = Path(__file__).parents[3] / "models" / "small-tales"
    record = known_record(bundled)
    assert record is not None
    assert record.allows


def test_the_fingerprint_sees_weights_of_the_same_size(model_dir: Path) -> None:
    before, size = fingerprint(model_dir), (model_dir / "model.safetensors").stat().st_size
    change_a_weight(model_dir)
    assert (model_dir / "model.safetensors").stat().st_size == size
    assert fingerprint(model_dir) != before
