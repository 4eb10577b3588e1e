"""The newest token of each text through all of GPT-2, compiled for this processor: one call, where torch needs 200.

    a text's row    int8 steps of its own largest value     exact sums, in any order
    a weight        int8, (out, in): read once for all texts

Torch's calls take a microsecond or more each, and a step of a small model was three parts of them to one of arithmetic; its
int8 product for one row takes up to six times as long as ours. numba compiles what is below when it is first called on a
processor, a quarter of a minute, and keeps the result beside this file or in `NUMBA_CACHE_DIR`.

What happens to one text's row never depends on the other rows: each is normalised, rounded and attended to by itself, by the
same instructions. Sums of integers are exact. That holds for any number of threads, too.

All arrays are C-contiguous, float32 where nothing else is said. All of it is in one file, since numba compiles anew when the
file of a function changes, and looks at no other.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple, TypeVar, cast

import numba
import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Int8s = NDArray[np.int8]
Int16s = NDArray[np.int16]
Int64s = NDArray[np.int64]
F = TypeVar("F", bound=Callable[..., Any])

f32, i32 = np.float32, np.int32
REORDERED = {"reassoc", "contract", "nsz", "arcp"}
"""What the compiler may do to sums of fractions, so that they become vectors. NaN and infinity stay what they are."""
TINY = f32(1e-30)
"""In place of the largest value of a row of zeros, which would be divided by."""
logger = logging.getLogger(__name__)


class Product(NamedTuple):
    """One kind of matrix product in all layers; float32 where nothing else is said."""

    weight: Int8s
    """(layers, out, in), `in` a multiple of 32."""
    scale: Floats
    """(layers, out)."""
    bias: Floats
    """(layers, out)."""


class Norm(NamedTuple):
    """One kind of layer norm in all layers."""

    gain: Floats
    """(layers, n_embd)."""
    bias: Floats
    """(layers, n_embd)."""


class Model(NamedTuple):
    """All of GPT-2; the last norm and the head are of one layer."""

    embedding: Floats
    """(vocabulary, n_embd)."""
    positions: Floats
    """(n_positions, n_embd)."""
    ln_1: Norm
    attn_in: Product
    attn_out: Product
    ln_2: Norm
    mlp_in: Product
    mlp_out: Product
    ln_f: Norm
    head: Product


_kernels: list[Any] = []


def compiled(**options: Any) -> Callable[[F], F]:
    """Numba's decorator, with the types that it loses. While the function runs, the interpreter is free for other threads."""

    def decorate(function: F) -> F:
        try:
            kernel = numba.njit(function, cache=True, nogil=True, **options)
        except RuntimeError as error:  # there is no directory that it may write to
            if not _kernels:
                logger.warning("the model's step is compiled at each start; to keep it set NUMBA_CACHE_DIR (%s)", error)
            kernel = numba.njit(function, nogil=True, **options)
        _kernels.append(kernel)
        return cast("F", kernel)

    return decorate


def cache_directory() -> Path | None:
    """Where numba keeps what it compiles of this file; None where it can't."""
    path: str | None = _kernels[0].stats.cache_path
    return Path(path) if path else None


def forget() -> None:
    """Delete what was kept, and neither read nor keep anything in this process from now on."""
    for kernel in _kernels:
        kernel._cache.disable()
    directory = cache_directory()
    for file in directory.glob("cpu_kernels.*.nb?") if directory is not None else ():
        with suppress(OSError):
            file.unlink()


@compiled(fastmath=REORDERED)
def normalise(x: Floats, gain: Floats, bias: Floats, epsilon: np.float32, out: Floats) -> None:
    """Layer norm of a row."""
    mean, variance = f32(0), f32(0)
    for i in range(len(x)):
        mean += x[i]
    mean /= f32(len(x))
    for i in range(len(x)):
        variance += (x[i] - mean) * (x[i] - mean)
    inverse = f32(1) / np.sqrt(variance / f32(len(x)) + epsilon)
    for i in range(len(x)):
        out[i] = (x[i] - mean) * inverse * gain[i] + bias[i]


@compiled(fastmath=REORDERED)
def to_steps(x: Floats, steps: Int16s) -> np.float32:
    """Round a row to 127 steps of its largest value each way; the size of a step. It is NaN where the row is no numbers."""
    largest, nothing = TINY, f32(0)
    for i in range(len(x)):
        largest = max(largest, abs(x[i]))
        nothing += x[i] * f32(0)
    per_value = f32(127) / largest
    for i in range(len(x)):
        steps[i] = np.int16(np.rint(x[i] * per_value))
    return largest / f32(127) + nothing


def _dots_of(texts: int) -> Any:
    """A function of (texts, in) int16 steps, the first text, and (in,) int8 weights to so many int32 sums; `in` is a multiple
    of 32. In LLVM's words, since numba's loops over bytes become half as wide: products of neighbours are added in pairs, which
    x86 has one instruction for, and a weight is widened once for all texts.
    """

    @intrinsic
    def dots(_context: Any, steps: Any, first: Any, weights: Any) -> Any:
        signature = types.UniTuple(types.int32, texts)(steps, first, weights)

        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            rows = context.make_array(signature.args[0])(context, builder, arguments[0])
            column = context.make_array(signature.args[2])(context, builder, arguments[2])
            length = builder.extract_value(column.shape, 0)
            index, word = length.type, ir.IntType(32)
            wide, sums = ir.VectorType(word, _LANES), ir.VectorType(word, _LANES // 2)

            def load(data: Any, at: Any, bits: int) -> Any:
                vector = ir.VectorType(ir.IntType(bits), _LANES)
                loaded = builder.load(builder.bitcast(builder.gep(data, [at]), vector.as_pointer()))
                loaded.align = bits // 8
                return builder.sext(loaded, wide)

            def every_second(products: Any, start: int) -> Any:
                places = ir.Constant(sums, list(range(start, _LANES, 2)))
                return builder.shuffle_vector(products, ir.Constant(wide, ir.Undefined), places)

            starts = [builder.mul(builder.add(arguments[1], index(text)), length) for text in range(texts)]
            totals = [cgutils.alloca_once_value(builder, ir.Constant(sums, None)) for _ in range(texts)]
            with cgutils.for_range_slice(builder, index(0), length, index(_LANES), intp=index) as (at, _):
                weight = load(column.data, at, 8)
                for start, total in zip(starts, totals, strict=True):
                    products = builder.mul(load(rows.data, builder.add(start, at), 16), weight)
                    pairs = builder.add(every_second(products, 0), every_second(products, 1))
                    builder.store(builder.add(builder.load(total), pairs), total)
            kind = ir.FunctionType(word, [sums])
            reduce = cgutils.get_or_insert_function(builder.module, kind, f"llvm.vector.reduce.add.v{_LANES // 2}i32")
            results = [builder.call(reduce, [builder.load(total)]) for total in totals]
            return context.make_tuple(builder, signature.return_type, results)

        return signature, generate

    return dots


_LANES = 16
_TOGETHER = 4
"""Texts whose sums are in the registers at once."""
dots_of_one, dots_of_four = _dots_of(1), _dots_of(_TOGETHER)


@compiled()
def some_outputs(
    steps: Int16s, sizes: Floats, weight: Int8s, scale: Floats, bias: Floats, first: int, last: int, out: Floats
) -> None:
    """(texts, in) times the outputs from `first` to before `last`, to (texts, out)."""
    together = len(steps) - len(steps) % _TOGETHER
    for column in range(first, last):
        weights = weight[column]
        for text in range(0, together, _TOGETHER):
            totals = dots_of_four(steps, text, weights)
            for other in range(_TOGETHER):
                at = text + other
                out[at, column] = f32(totals[other]) * (sizes[at] * scale[column]) + bias[column]
        for text in range(together, len(steps)):
            total = dots_of_one(steps, text, weights)[0]
            out[text, column] = f32(total) * (sizes[text] * scale[column]) + bias[column]


@compiled(parallel=True)
def outputs_in_parts(steps: Int16s, sizes: Floats, weight: Int8s, scale: Floats, bias: Floats, parts: int, out: Floats) -> None:
    """All outputs, in as many parts as there are threads."""
    each = (len(weight) + parts - 1) // parts
    for part in numba.prange(parts):  # pyright: ignore[reportGeneralTypeIssues] - a range, to numba
        first, last = min(part * each, len(weight)), min((part + 1) * each, len(weight))
        some_outputs(steps, sizes, weight, scale, bias, first, last, out)


@compiled()
def multiply(x: Floats, product: Product, layer: int, threads: int, out: Floats) -> None:
    """(texts, in) to (texts, out), with the bias."""
    steps, sizes = np.empty(x.shape, np.int16), np.empty(len(x), np.float32)
    for text in range(len(x)):
        sizes[text] = to_steps(x[text], steps[text])
    weight, scale, bias = product.weight[layer], product.scale[layer], product.bias[layer]
    if threads == 1:
        some_outputs(steps, sizes, weight, scale, bias, 0, len(weight), out)
    else:
        outputs_in_parts(steps, sizes, weight, scale, bias, threads, out)


@compiled(fastmath=REORDERED)
def exponentials(x: Floats) -> None:
    """Powers of e, in place, each to 2e-7 of itself: Cephes' polynomial (Moshier 1984), which becomes vectors, where the C
    library is called for one value at a time.
    """
    bits = np.empty(len(x), np.int32)
    for i in range(len(x)):
        power = min(max(x[i], f32(-87)), f32(88))
        whole = np.floor(power * f32(1.44269504) + f32(0.5))
        rest = power - whole * f32(0.693359375) + whole * f32(2.12194440e-4)
        poly = f32(1.9875691e-4)
        poly = poly * rest + f32(1.3981999e-3)
        poly = poly * rest + f32(8.3334519e-3)
        poly = poly * rest + f32(4.1665796e-2)
        poly = poly * rest + f32(1.6666665e-1)
        poly = poly * rest + f32(5.0000001e-1)
        bits[i] = (i32(whole) + i32(127)) << i32(23)  # of 2 ** whole
        x[i] = poly * rest * rest + rest + f32(1)
    powers = bits.view(np.float32)
    for i in range(len(x)):
        x[i] *= powers[i]


@compiled(fastmath=REORDERED)
def gelu(x: Floats) -> None:
    """GPT-2's, with a hyperbolic tangent, in place: x (1 + tanh u) / 2 is x / (1 + e^-2u)."""
    work = np.empty(len(x), np.float32)
    for i in range(len(x)):
        work[i] = f32(-1.59576912) * (x[i] + f32(0.044715) * x[i] * x[i] * x[i])
    exponentials(work)
    for i in range(len(x)):
        x[i] /= f32(1) + work[i]


@compiled()
def exact_gelu(x: Floats) -> None:
    """With the error function, in place."""
    for i in range(len(x)):
        x[i] *= f32(0.5) * (f32(1) + math.erf(x[i] * f32(0.70710678)))


@compiled(fastmath=REORDERED)
def attend_head(query: Floats, keys: Floats, values: Floats, scale: np.float32, out: Floats) -> None:
    """One query over (tokens, head width) keys and values."""
    tokens = len(keys)
    shares = np.empty(tokens, np.float32)
    highest = f32(-np.inf)
    for token in range(tokens):
        score = f32(0)
        for i in range(len(query)):
            score += query[i] * keys[token, i]
        shares[token] = score * scale
        highest = max(highest, shares[token])
    for token in range(tokens):
        shares[token] -= highest
    exponentials(shares)
    total = f32(0)
    for token in range(tokens):
        total += shares[token]
    for i in range(len(out)):
        out[i] = f32(0)
    for token in range(tokens):
        share = shares[token] / total
        for i in range(len(out)):
            out[i] += share * values[token, i]


@compiled()
def attend_text(qkv: Floats, cache: NDArray[np.float32], head: int, position: int, scale: np.float32, out: Floats) -> None:
    """One head of one text: remember its newest key and value, and look at all so far."""
    width = cache.shape[3]
    wide = len(qkv) // 3
    here = head * width
    keys, values = cache[0, head], cache[1, head]
    for i in range(width):
        keys[position, i] = qkv[wide + here + i]
        values[position, i] = qkv[2 * wide + here + i]
    attend_head(qkv[here : here + width], keys[: position + 1], values[: position + 1], scale, out[here : here + width])


@compiled(parallel=True)
def attend_in_parts(qkv: Floats, cache: Floats, slots: Int64s, positions: Int64s, scale: np.float32, out: Floats) -> None:
    """`attend`, split among the threads."""
    heads = cache.shape[2]
    for part in numba.prange(len(qkv) * heads):  # pyright: ignore[reportGeneralTypeIssues] - a range, to numba
        text, head = part // heads, part % heads
        attend_text(qkv[text], cache[slots[text]], head, int(positions[text]), scale, out[text])


@compiled()
def attend(qkv: Floats, cache: Floats, slots: Int64s, positions: Int64s, scale: np.float32, threads: int, out: Floats) -> None:
    """(texts, 3 n_embd) queries, keys and values over the layer's `cache` of (slots, 2, n_head, n_positions, head width)."""
    if threads == 1:
        for text in range(len(qkv)):
            for head in range(cache.shape[2]):
                attend_text(qkv[text], cache[slots[text]], head, int(positions[text]), scale, out[text])
    else:
        attend_in_parts(qkv, cache, slots, positions, scale, out)


@compiled()
def token_step(
    model: Model,
    cache: NDArray[np.float32],
    ids: Int64s,
    slots: Int64s,
    positions: Int64s,
    wanted: Int64s,
    scale: np.float32,
    epsilon: np.float32,
    exact: bool,
    threads: int,
) -> Floats:
    """The logits (wanted, vocabulary) after one token of each text, whose keys and values are remembered.

    `cache` is (layers, slots, 2, n_head, n_positions, head width); `ids`, `slots` and `positions` have one for each text, in
    bounds, which nobody checks here; `wanted` are texts by their number. `exact` chooses the gelu, `scale` is attention's.
    """
    texts, wide, inner = len(ids), model.embedding.shape[1], model.mlp_in.weight.shape[1]
    x = np.empty((texts, wide), np.float32)
    normal, mixed = np.empty((texts, wide), np.float32), np.empty((texts, wide), np.float32)
    qkv, hidden = np.empty((texts, 3 * wide), np.float32), np.empty((texts, inner), np.float32)
    for text in range(texts):
        for i in range(wide):
            x[text, i] = model.embedding[ids[text], i] + model.positions[positions[text], i]
    for layer in range(len(cache)):
        for text in range(texts):
            normalise(x[text], model.ln_1.gain[layer], model.ln_1.bias[layer], epsilon, normal[text])
        multiply(normal, model.attn_in, layer, threads, qkv)
        attend(qkv, cache[layer], slots, positions, scale, threads, mixed)
        multiply(mixed, model.attn_out, layer, threads, normal)
        for text in range(texts):
            for i in range(wide):
                x[text, i] += normal[text, i]
            normalise(x[text], model.ln_2.gain[layer], model.ln_2.bias[layer], epsilon, normal[text])
        multiply(normal, model.mlp_in, layer, threads, hidden)
        for text in range(texts):
            if exact:
                exact_gelu(hidden[text])
            else:
                gelu(hidden[text])
        multiply(hidden, model.mlp_out, layer, threads, normal)
        for text in range(texts):
            for i in range(wide):
                x[text, i] += normal[text, i]
    last = np.empty((len(wanted), wide), np.float32)
    logits = np.empty((len(wanted), len(model.embedding)), np.float32)
    for row in range(len(wanted)):
        normalise(x[wanted[row]], model.ln_f.gain[0], model.ln_f.bias[0], epsilon, last[row])
    if len(wanted) > 0:
        multiply(last, model.head, 0, threads, logits)
    return logits
