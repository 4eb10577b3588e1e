"""Read a plain GPT-2 straight from safetensors, one file or shards, without transformers (whose import takes 4 s).

Names and shapes are checked against config.json one by one, before any weight is read: a weight that is missing or left
over is an error that names it, where transformers would fill in random numbers and warn. Variants that our own forward
passes do not cover are told apart here, with the reason; they run on transformers' forward (any_forward.py).
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from bot.engine.model_files import COPY_AGAIN, misfit, shard_files, weights_file
from bot.errors import ModelUnavailable

GELUS = {"gelu_new": "tanh", "gelu_pytorch_tanh": "tanh", "gelu": "none"}
"""config.json's activation_function, as torch's gelu names its approximation; the first two are one function."""
HEAD = "lm_head.weight"
EMBEDDING = "transformer.wte.weight"
WIDTHS_ARE_MULTIPLES_OF = 32
"""Vector instructions then have no remainder, whose last bits would depend on where in a batch a row is."""


@dataclass(frozen=True)
class Gpt2Shape:
    """What config.json says of a GPT-2 that our own forward passes cover."""

    n_layer: int
    n_head: int
    n_embd: int
    n_inner: int
    n_positions: int
    vocab_size: int
    epsilon: float
    gelu: str
    """torch's name of the approximation: "tanh" or "none"."""
    attention_scale: float
    tied: bool
    """Whether the head is the embedding, unless the file has another."""

    @property
    def product_weights(self) -> int:
        """Weights in the matrix products of one pass, the head's among them."""
        in_a_layer = self.n_embd * (4 * self.n_embd + 2 * self.n_inner)
        return self.n_layer * in_a_layer + self.vocab_size * self.n_embd


@dataclass(frozen=True)
class Affine:
    """y = x @ weight + bias, the weight of shape (in, out) as GPT-2 stores it; or a norm's gain and bias."""

    weight: Tensor
    bias: Tensor


@dataclass(frozen=True)
class Layer:
    """One block, each part in the order of its use."""

    ln_1: Affine
    attn_in: Affine
    attn_out: Affine
    ln_2: Affine
    mlp_in: Affine
    mlp_out: Affine


@dataclass(frozen=True)
class Gpt2Weights:
    """All weights, float32 on the CPU, of the shapes that `shape` says."""

    shape: Gpt2Shape
    embedding: Tensor
    positions: Tensor
    layers: tuple[Layer, ...]
    ln_f: Affine
    head: Tensor
    """(vocabulary, n_embd): the embedding itself where the two are tied."""


def covered_shape(fields: dict[str, Any]) -> Gpt2Shape | str:
    """The shape of a GPT-2 that our own forward passes cover, or why they don't. A field not there has GPT-2's value."""
    sizes = {"n_layer": 12, "n_head": 12, "n_embd": 768, "n_positions": 1024, "vocab_size": 50257}
    numbers = {name: fields.get(name, usual) for name, usual in sizes.items()}
    numbers["n_inner"] = fields.get("n_inner") or 4 * numbers["n_embd"]
    odd = [name for name, number in numbers.items() if not isinstance(number, int) or number < 1]
    if odd:
        return f"{odd[0]} is no positive whole number"
    if numbers["n_embd"] % numbers["n_head"]:
        return "n_head does not divide n_embd"
    if numbers["n_embd"] % WIDTHS_ARE_MULTIPLES_OF or numbers["n_inner"] % WIDTHS_ARE_MULTIPLES_OF:
        return f"its widths are no multiples of {WIDTHS_ARE_MULTIPLES_OF}"
    for name in ("reorder_and_upcast_attn", "scale_attn_by_inverse_layer_idx", "add_cross_attention", "quantization_config"):
        if fields.get(name):
            return f"{name} is set"
    gelu = GELUS.get(str(fields.get("activation_function", "gelu_new")))
    if gelu is None:
        return f"its activation is {fields['activation_function']!r}"
    epsilon = fields.get("layer_norm_epsilon", 1e-5)
    if not isinstance(epsilon, float):
        return "layer_norm_epsilon is no number"
    scaled = fields.get("scale_attn_weights", True)
    scale = (numbers["n_embd"] // numbers["n_head"]) ** -0.5 if scaled else 1.0
    tied = bool(fields.get("tie_word_embeddings", True))
    return Gpt2Shape(**numbers, epsilon=epsilon, gelu=gelu, attention_scale=scale, tied=tied)


def read_weights(model_dir: Path, shape: Gpt2Shape) -> Gpt2Weights:
    """All weights that `shape` asks for and no others; fp16 and bf16 are converted. Raises ModelUnavailable."""
    file = weights_file(model_dir)
    try:
        with ExitStack() as open_files:
            shards = [open_files.enter_context(safe_open(shard, "pt")) for shard in shard_files(file)]
            found = {_full_name(name): (shard, name) for shard in shards for name in shard.keys()}  # noqa: SIM118
            found = {name: at for name, at in found.items() if not _is_mask(name)}
            there = {name: tuple(shard.get_slice(raw).get_shape()) for name, (shard, raw) in found.items()}
            _check_names(model_dir, _expected(shape), there, tied=shape.tied)
            tensors = {name: _as_float(shard.get_tensor(raw)) for name, (shard, raw) in found.items()}
    except (SafetensorError, OSError) as error:
        raise ModelUnavailable(f"{file.name} in {model_dir} is torn or can't be read. {COPY_AGAIN}") from error
    return _assemble(shape, tensors)


def _full_name(name: str) -> str:
    """GPT-2 itself was saved without the prefix, and so are models taken out of their head."""
    return name if name.startswith(("transformer.", "lm_head.")) else f"transformer.{name}"


def _is_mask(name: str) -> bool:
    """Old checkpoints carry each layer's causal mask."""
    return name.endswith((".attn.bias", ".attn.masked_bias"))


def _expected(shape: Gpt2Shape) -> dict[str, tuple[int, ...]]:
    wide, inner = shape.n_embd, shape.n_inner
    names: dict[str, tuple[int, ...]] = {
        EMBEDDING: (shape.vocab_size, wide),
        "transformer.wpe.weight": (shape.n_positions, wide),
        "transformer.ln_f.weight": (wide,),
        "transformer.ln_f.bias": (wide,),
        HEAD: (shape.vocab_size, wide),
    }
    matrices = {
        "attn.c_attn": (wide, 3 * wide),
        "attn.c_proj": (wide, wide),
        "mlp.c_fc": (wide, inner),
        "mlp.c_proj": (inner, wide),
    }
    for layer in range(shape.n_layer):
        prefix = f"transformer.h.{layer}"
        for part, (rows, columns) in matrices.items():
            names[f"{prefix}.{part}.weight"] = (rows, columns)
            names[f"{prefix}.{part}.bias"] = (columns,)
        for part in ("ln_1", "ln_2"):
            names[f"{prefix}.{part}.weight"] = names[f"{prefix}.{part}.bias"] = (wide,)
    return names


def _check_names(
    model_dir: Path, expected: dict[str, tuple[int, ...]], there: dict[str, tuple[int, ...]], *, tied: bool
) -> None:
    either = {HEAD, EMBEDDING} if tied and (HEAD in there or EMBEDDING in there) else set[str]()
    missing = expected.keys() - there.keys() - either
    odd = sorted([*missing, *(name for name, size in there.items() if expected.get(name) != size)])
    if odd:
        raise misfit(model_dir, odd)


def _as_float(weight: Tensor) -> Tensor:
    """A copy, since the file behind it may be replaced while the model runs."""
    return weight.to(torch.float32, copy=True).contiguous()


def _assemble(shape: Gpt2Shape, tensors: dict[str, Tensor]) -> Gpt2Weights:
    def affine(name: str) -> Affine:
        return Affine(tensors[f"transformer.{name}.weight"], tensors[f"transformer.{name}.bias"])

    layers = tuple(
        Layer(
            ln_1=affine(f"h.{layer}.ln_1"),
            attn_in=affine(f"h.{layer}.attn.c_attn"),
            attn_out=affine(f"h.{layer}.attn.c_proj"),
            ln_2=affine(f"h.{layer}.ln_2"),
            mlp_in=affine(f"h.{layer}.mlp.c_fc"),
            mlp_out=affine(f"h.{layer}.mlp.c_proj"),
        )
        for layer in range(shape.n_layer)
    )
    embedding = tensors[EMBEDDING] if EMBEDDING in tensors else tensors[HEAD]
    head = tensors.get(HEAD, embedding)  # a head of its own wins over config.json's word, as in transformers 5
    if head is not embedding and torch.equal(head, embedding):
        head = embedding
    return Gpt2Weights(shape, embedding, tensors["transformer.wpe.weight"], layers, affine("ln_f"), head)
