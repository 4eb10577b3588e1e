"""Weights in any of the ways that GPT-2s are saved in run; what our forward does not cover runs on transformers'."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_gpt2 import cpu_forward
from transformers import GPT2Config, GPT2LMHeadModel

from bot.engine.any_forward import AnyForward
from bot.engine.cpu_forward import CpuForward
from bot.engine.cpu_linear import Fp32Linear
from bot.engine.forward import Forward, Part
from bot.engine.loading import load_model
from bot.errors import ModelUnavailable

PROMPT = (5, 99, 7, 280, 41)


def change_config(model_dir: Path, **fields: object) -> None:
    config = json.loads((model_dir / "config.json").read_text())
    (model_dir / "config.json").write_text(json.dumps(config | fields))


def precise(model_dir: Path) -> CpuForward:
    return cpu_forward(model_dir, Fp32Linear, slots=1)


def assert_is_transformers(forward: Forward, model_dir: Path) -> None:
    model = GPT2LMHeadModel.from_pretrained(model_dir, dtype=torch.float32).eval()
    with torch.inference_mode():
        expected = model(torch.tensor([PROMPT])).logits[0, -1]
    torch.testing.assert_close(forward([Part(0, 0, PROMPT)])[0], expected, rtol=1e-4, atol=1e-4)


def rewrite(model_dir: Path, change: Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]]) -> None:
    weights = change(load_file(model_dir / "model.safetensors"))
    save_file(weights, model_dir / "model.safetensors", metadata={"format": "pt"})


def shard(model_dir: Path) -> None:
    weights = load_file(model_dir / "model.safetensors")
    halves = [dict(list(weights.items())[half::2]) for half in (0, 1)]
    names = [f"model-0000{half}-of-00002.safetensors" for half in (1, 2)]
    for name, half in zip(names, halves, strict=True):
        save_file(half, model_dir / name, metadata={"format": "pt"})
    places = {weight: name for name, half in zip(names, halves, strict=True) for weight in half}
    index = {"metadata": {}, "weight_map": places}
    (model_dir / "model.safetensors.index.json").write_text(json.dumps(index))
    (model_dir / "model.safetensors").unlink()


def own_head(model_dir: Path) -> None:
    change_config(model_dir, tie_word_embeddings=False)
    rewrite(model_dir, lambda weights: weights | {"lm_head.weight": weights["transformer.wte.weight"] * -1.5})


def only_a_head(model_dir: Path) -> None:
    rewrite(
        model_dir,
        lambda weights: {name.replace("transformer.wte", "lm_head"): weight for name, weight in weights.items()},
    )


WAYS: dict[str, Callable[[Path], None]] = {
    "as it is": lambda _: None,
    "shards": shard,
    "half precision": lambda d: rewrite(d, lambda weights: {name: weight.half() for name, weight in weights.items()}),
    "bfloat16": lambda d: rewrite(d, lambda weights: {name: weight.bfloat16() for name, weight in weights.items()}),
    "a head of its own": own_head,
    "the embedding saved as the head": only_a_head,
    "exact gelu": lambda d: change_config(d, activation_function="gelu"),
    "attention not scaled": lambda d: change_config(d, scale_attn_weights=False),
    "another epsilon": lambda d: change_config(d, layer_norm_epsilon=0.1),
}


@pytest.mark.parametrize("way", WAYS)
def test_a_gpt2_saved_in_any_way_gives_the_numbers_of_transformers(model_dir: Path, way: str) -> None:
    WAYS[way](model_dir)
    assert_is_transformers(precise(model_dir), model_dir)


def test_an_inner_width_of_its_own_is_covered(tmp_path: Path) -> None:
    torch.manual_seed(3)
    config = GPT2Config(n_layer=1, n_embd=64, n_head=4, n_inner=96, n_positions=32, vocab_size=300)
    GPT2LMHeadModel(config).save_pretrained(tmp_path)
    assert_is_transformers(precise(tmp_path), tmp_path)


@pytest.mark.parametrize(
    "field",
    [
        {"scale_attn_by_inverse_layer_idx": True},
        {"reorder_and_upcast_attn": True},
        {"activation_function": "relu"},
    ],
)
def test_a_variant_runs_on_transformers_own_forward_and_the_log_says_why(
    model_dir: Path, field: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    change_config(model_dir, **field)
    with caplog.at_level(logging.INFO):
        forward = load_model(model_dir, 1, "cpu", 4).forward
    assert isinstance(forward, AnyForward)
    assert next(iter(field)).removesuffix("_function") in caplog.text
    assert_is_transformers(forward, model_dir)


BROKEN_INDEXES = {
    "torn": '{"weight_map": {',
    "no map": "{}",
    "a shard that is not there": '{"weight_map": {"transformer.wte.weight": "model-00009-of-00009.safetensors"}}',
    "a shard outside": '{"weight_map": {"transformer.wte.weight": "../model.safetensors"}}',
    "a shard that is no name": '{"weight_map": {"transformer.wte.weight": 7}}',
}


@pytest.mark.parametrize("fault", BROKEN_INDEXES)
def test_a_broken_index_of_shards_is_named(model_dir: Path, fault: str) -> None:
    (model_dir / "model.safetensors.index.json").write_text(BROKEN_INDEXES[fault])
    with pytest.raises(ModelUnavailable, match=r"model\.safetensors\.index\.json"):
        load_model(model_dir, 1, "cpu", 4)


def test_a_covered_model_is_loaded_without_transformers() -> None:
    """Its import alone takes longer than all else at a start."""
    code = (
        "import sys; from pathlib import Path; from bot.engine.loading import load_model;"
        "load_model(Path('models/small-tales'), 1, 'cpu', 4); sys.exit('transformers' in sys.modules)"
    )
    root = Path(__file__).parents[3]
    assert subprocess.run([sys.executable, "-c", code], cwd=root).returncode == 0
