"""The kernels of a step on a GPU, in Triton, which comes with torch for CUDA.

A step of GPT-2 124M by torch's own kernels is 207 of them, most of which take longer to start than to compute. Here the norm
before a product, and the bias, the activation and the sum after it, are part of the product's kernel, and attention reads each
text's keys up to its own newest token, where torch's reads those of the longest.

Triton compiles a kernel when it is first called, which takes a C compiler; cuda_step.py sees to both. Numbers inside are
float32, whatever the tensors hold. All tensors are contiguous.
"""

# pyright: basic, reportMissingImports=false
# ruff: noqa: N803 - Triton's sizes are constants of what is compiled, and written as such

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def embed(tokens, positions, table, places, x, last_place, WIDTH: tl.constexpr, LANES: tl.constexpr):
    """x[row] = table[token] + places[position]; one program a row. A position past the last place has the last one's."""
    row = tl.program_id(0)
    at = tl.arange(0, LANES)
    there = at < WIDTH
    token = tl.load(tokens + row)
    place = tl.minimum(tl.load(positions + row), last_place)
    of_token = tl.load(table + token * WIDTH + at, mask=there, other=0.0).to(tl.float32)
    of_place = tl.load(places + place * WIDTH + at, mask=there, other=0.0).to(tl.float32)
    tl.store(x + row * WIDTH + at, of_token + of_place, mask=there)


@triton.jit
def product(
    x,
    weight,
    bias,
    gain,
    shift,
    added,
    y,
    epsilon,
    IN: tl.constexpr,
    OUT: tl.constexpr,
    OUT_AT_ONCE: tl.constexpr,
    IN_AT_ONCE: tl.constexpr,
    LANES: tl.constexpr,
    NORMED: tl.constexpr,
    BIASED: tl.constexpr,
    ACTIVATION: tl.constexpr,
    ADDED: tl.constexpr,
):
    """One row: y = activation(norm(x) @ weight.T + bias) + added; one program for some columns of y.

    Each program norms the row anew: that takes less time than another kernel's start.
    """
    column = tl.program_id(0) * OUT_AT_ONCE + tl.arange(0, OUT_AT_ONCE)
    is_column = column < OUT
    mean = 0.0
    inverse = 1.0
    if NORMED:
        at = tl.arange(0, LANES)
        there = at < IN
        whole = tl.load(x + at, mask=there, other=0.0).to(tl.float32)
        mean = tl.sum(whole, 0) / IN
        apart = tl.where(there, whole - mean, 0.0)
        inverse = 1.0 / tl.sqrt(tl.sum(apart * apart, 0) / IN + epsilon)
    sums = tl.zeros((OUT_AT_ONCE, IN_AT_ONCE), tl.float32)
    for first in tl.static_range(0, IN, IN_AT_ONCE):
        at = first + tl.arange(0, IN_AT_ONCE)
        of_weight = tl.load(weight + column[:, None] * IN + at[None, :], mask=is_column[:, None], other=0.0).to(tl.float32)
        of_x = tl.load(x + at).to(tl.float32)
        if NORMED:
            of_gain = tl.load(gain + at).to(tl.float32)
            of_shift = tl.load(shift + at).to(tl.float32)
            of_x = (of_x - mean) * inverse * of_gain + of_shift
        sums += of_weight * of_x[None, :]
    out = tl.sum(sums, 1)
    if BIASED:
        out += tl.load(bias + column, mask=is_column, other=0.0).to(tl.float32)
    if ACTIVATION == "tanh":
        inner = 0.7978845608028654 * (out + 0.044715 * out * out * out)
        out = out / (1.0 + tl.exp(-2.0 * inner))  # 0.5 x (1 + tanh(inner))
    if ACTIVATION == "none":
        out = 0.5 * out * (1.0 + tl.erf(out * 0.7071067811865476))
    if ADDED:
        out += tl.load(added + column, mask=is_column, other=0.0).to(tl.float32)
    tl.store(y + column, out, mask=is_column)


@triton.jit
def attend(
    joined,
    keys,
    values,
    positions,
    mixed,
    scale,
    n_positions,
    HEADS: tl.constexpr,
    WIDTH: tl.constexpr,
    LANES: tl.constexpr,
    AT_ONCE: tl.constexpr,
):
    """One head of one row a program: keep its key and value at its position, and mix the values up to there.

    `joined` (rows, 3, HEADS, WIDTH), `keys` and `values` (slots, n_positions + 1, HEADS, WIDTH), `mixed` (rows, HEADS, WIDTH).
    A row at `n_positions` is nobody's, and looks at itself alone. The softmax is taken as it goes (Milakov & Gimelshein 2018).
    """
    row = tl.program_id(0)
    head = tl.program_id(1)
    at = tl.arange(0, LANES)
    there = at < WIDTH
    own = joined + (row * 3 * HEADS + head) * WIDTH + at
    query = tl.load(own, mask=there, other=0.0).to(tl.float32) * scale
    key = tl.load(own + HEADS * WIDTH, mask=there, other=0.0)
    value = tl.load(own + 2 * HEADS * WIDTH, mask=there, other=0.0)
    position = tl.load(positions + row)
    slot = row.to(tl.int64) * (n_positions + 1)
    to = ((slot + position) * HEADS + head) * WIDTH + at
    tl.store(keys + to, key, mask=there)
    tl.store(values + to, value, mask=there)
    most = tl.sum(query * key.to(tl.float32), 0)
    total = most * 0.0 + 1.0
    sums = value.to(tl.float32)
    end = tl.where(position < n_positions, position, 0)
    for first in range(0, end, AT_ONCE):
        before = first + tl.arange(0, AT_ONCE)
        seen = before < end
        of = ((slot + before) * HEADS + head) * WIDTH
        tile = seen[:, None] & there[None, :]
        their_keys = tl.load(keys + of[:, None] + at[None, :], mask=tile, other=0.0).to(tl.float32)
        their_values = tl.load(values + of[:, None] + at[None, :], mask=tile, other=0.0).to(tl.float32)
        scores = tl.where(seen, tl.sum(their_keys * query[None, :], 1), float("-inf"))
        highest = tl.maximum(most, tl.max(scores, 0))
        shares = tl.exp(scores - highest)
        kept = tl.exp(most - highest)
        total = total * kept + tl.sum(shares, 0)
        sums = sums * kept + tl.sum(shares[:, None] * their_values, 0)
        most = highest
    tl.store(mixed + (row * HEADS + head) * WIDTH + at, sums / total, mask=there)


@triton.jit
def add_and_norm(x, added, gain, shift, y, epsilon, WIDTH: tl.constexpr, LANES: tl.constexpr, ADDED: tl.constexpr):
    """Add to x in place, and y = norm(x); one program a row."""
    row = tl.program_id(0)
    at = tl.arange(0, LANES)
    there = at < WIDTH
    to = row * WIDTH + at
    of_x = tl.load(x + to, mask=there, other=0.0).to(tl.float32)
    if ADDED:
        of_x += tl.load(added + to, mask=there, other=0.0).to(tl.float32)
        tl.store(x + to, of_x, mask=there)
    mean = tl.sum(of_x, 0) / WIDTH
    apart = tl.where(there, of_x - mean, 0.0)
    inverse = 1.0 / tl.sqrt(tl.sum(apart * apart, 0) / WIDTH + epsilon)
    of_gain = tl.load(gain + at, mask=there, other=0.0).to(tl.float32)
    of_shift = tl.load(shift + at, mask=there, other=0.0).to(tl.float32)
    tl.store(y + to, apart * inverse * of_gain + of_shift, mask=there)
