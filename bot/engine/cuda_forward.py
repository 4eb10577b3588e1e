"""GPT-2's forward pass on a GPU: shapes that never change, so that a step is one graph and not some hundred kernels to start.

    keys and values   layer -> (slots, positions, heads, head width); the rows of a step are the slots themselves, and an
                      empty slot's row writes to one position more than the context has, which nobody reads
    a step            replayed from a graph; there is one for each number of rows: 1, 8, 16, 32, ... (and of positions looked
                      back on, where torch's kernels do it)
    prompts           go through the layers together, filled up to the longest of them; a graph, too, where they are short

While the host learns which tokens were drawn and takes them to their texts, the GPU is on the next step already: `foresee`
begins it with the tokens as they lie on the device. A row that turns out otherwise (its text ended, went back, or had its token
drawn again) is not used, or is computed anew.

The GPU's products sum in another order for another number of rows, in bf16 most of all: the same seed need not give the same
story here. Without a GPU the same code runs without graphs, which is how most of its tests run.
"""

from __future__ import annotations

import gc
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn.functional import embedding, gelu, linear, scaled_dot_product_attention

from bot.engine.cuda_graph import Replay, power_of_two
from bot.engine.cuda_layers import Layer, on_device
from bot.engine.cuda_step import kernel_step
from bot.engine.forward import Part
from bot.engine.part_checks import check_parts, check_prefixes

if TYPE_CHECKING:
    from bot.engine.drawn import Drawn
    from bot.engine.gpt2_weights import Gpt2Weights

_FEWEST = 8
"""Rows of a step for more than one text: for fewer it takes as long."""
_SHORTEST_LOOK = 128
_SHORTEST_PROMPT = 16
_GRAPHED_TOKENS = 1024
"""Of prompts: for more the kernels' start is no part of the time, and their memory would be kept for each size."""
_LOGITS_AT_ONCE = 2**26
"""Held at a time while scoring: 256 MiB."""


@dataclass(frozen=True)
class _Foreseen:
    """A step that was begun before the host knew its tokens."""

    slots: list[int]
    positions: list[int]
    places: list[int]
    """Among the drawn tokens."""
    drawn: Drawn
    logits: Tensor
    """One row for each of the model's first slots."""

    def parts(self) -> list[tuple[int, int, list[int], bool]]:
        """What the step has read, to be compared with parts."""
        drawn = self.drawn.read()
        tokens = [drawn[place] for place in self.places]
        return [(slot, at, [token], True) for slot, at, token in zip(self.slots, self.positions, tokens, strict=True)]


class CudaForward:
    """A Forward in static shapes."""

    repeatable = False
    prompt_tokens = 4096

    def __init__(self, weights: Gpt2Weights, device: torch.device, dtype: torch.dtype, slots: int) -> None:
        """Copies the weights to the device, and compiles what a step needs."""
        self._shape, self._device, self._dtype = weights.shape, device, dtype
        self._model = on_device(weights, device, dtype)
        self._kernels = kernel_step(self._model)
        self.resize(slots)

    @property
    def device(self) -> torch.device:
        """Where it runs."""
        return self._device

    @property
    def slots(self) -> int:
        """How many texts can be held at once."""
        return self._slots

    @property
    def n_positions(self) -> int:
        """The context in tokens."""
        return self._shape.n_positions

    @property
    def steps_by(self) -> str:
        """Whose kernels compute a step, for the log."""
        return "torch's kernels" if self._kernels is None else "its own kernels"

    @property
    def weight_bytes(self) -> int:
        """Of the weights in the matrix products."""
        return self._shape.product_weights * self._model.embedding.element_size()

    def resize(self, slots: int) -> None:
        """Hold so many texts from now on; what the slots held is lost."""
        shape = self._shape
        self._steps: dict[tuple[int, int], _Step] = {}
        self._readings: dict[tuple[int, int, int], _Reading] = {}
        self._foreseen: _Foreseen | None = None
        self._wanted: tuple[list[int], list[int]] = [], []  # the slots of the last logits, and their next positions
        self._caches: list[tuple[Tensor, Tensor]] = []  # given back, and what they are views of, before there are new ones
        self._held = torch.empty(0)
        if self._device.type == "cuda":
            gc.collect()  # what an error or a graph still holds in a cycle
            torch.cuda.empty_cache()
        self._slots = slots
        self._written = [0] * slots  # positions of each that may hold numbers
        size = (shape.n_layer, 2, slots, shape.n_positions + 1, shape.n_head, shape.n_embd // shape.n_head)
        self._held = torch.zeros(size, dtype=self._dtype, device=self._device)
        self._caches = [(layer[0], layer[1]) for layer in self._held]
        if self._kernels is not None:
            self._make_graphs()

    @torch.inference_mode()
    def _make_graphs(self) -> None:
        """Those of steps, and of short prompts of one text and of many: so that nobody's story waits while they are made."""
        numbers = [1 << bit for bit in range((self._slots - 1).bit_length() + 1)]  # of texts, the last one the slots or more
        for number in numbers:
            self._step_for(min(number, self._slots) - 1, 0)
        for number in (1, *(number for number in numbers if number >= _FEWEST)):
            for tokens in (_SHORTEST_PROMPT, 2 * _SHORTEST_PROMPT, 4 * _SHORTEST_PROMPT):
                if number * tokens <= _GRAPHED_TOKENS:
                    ids = [0] * min(tokens, self.n_positions)
                    self._read([Part(slot, 0, ids) for slot in range(min(number, self._slots))])

    @torch.inference_mode()
    def __call__(self, parts: Sequence[Part]) -> Tensor:
        """One pass; see Forward. The logits are valid until the next one, or until `foresee`."""
        foreseen, self._foreseen = self._foreseen, None
        begun = [] if foreseen is None else foreseen.parts()
        if foreseen is not None and begun == list(parts):  # nobody came or went: most rounds
            self._wanted = foreseen.slots, [position + 1 for position in foreseen.positions]
            return self._rows(foreseen.logits, foreseen.slots, copied=False)
        check_parts(parts, self.slots, self.n_positions, self._shape.vocab_size)
        self._clear([part.slot for part in parts if part.start == 0])
        wanted = [part for part in parts if part.wanted]
        self._wanted = [part.slot for part in wanted], [part.start + len(part.ids) for part in wanted]
        steps = [part for part in wanted if len(part.ids) == 1]
        by_slot = {part[0]: part for part in begun}
        known = [part for part in steps if by_slot.get(part.slot) == (part.slot, part.start, list(part.ids), True)]
        of_known = {part.slot for part in known}
        new = [part for part in steps if part.slot not in of_known]
        prompts = [part for part in parts if len(part.ids) > 1 or not part.wanted]
        groups: list[tuple[list[Part], Tensor]] = []
        if foreseen is not None and known:
            groups.append((known, self._rows(foreseen.logits, [part.slot for part in known], copied=bool(new))))
        if new:
            groups.append((new, self._step(new)))
        if prompts:
            groups.append(([part for part in prompts if part.wanted], self._read(prompts)))
        return groups[0][1] if len(groups) == 1 else _in_order(wanted, groups)

    @torch.inference_mode()
    def foresee(self, drawn: Drawn) -> None:
        """Begin the step that likely comes next: one more token, as drawn, for each row of the last logits."""
        slots, positions = self._wanted
        places, tokens = list(range(len(slots))), drawn.tokens
        if max(positions) >= self.n_positions:  # a full context is read anew
            places = [place for place in places if positions[place] < self.n_positions]
            if not places:
                return
            slots, positions = [slots[place] for place in places], [positions[place] for place in places]
            tokens = tokens[self._ints(places)]
        self._wrote(slots, [position + 1 for position in positions])
        logits = self._step_for(max(slots), max(positions))(slots, positions, tokens)
        self._foreseen = _Foreseen(slots, positions, places, drawn, logits)

    def _wrote(self, slots: Sequence[int], ends: Sequence[int]) -> None:
        written = self._written
        for slot, end in zip(slots, ends, strict=True):
            if written[slot] < end:
                written[slot] = end

    def _clear(self, slots: Sequence[int]) -> None:
        """For new texts: the mask only weighs what is left of those before by 0, and 0 times a number that is none is none.

        No further than was written: 64 whole slots of GPT-2 are 2.4 GB.
        """
        if written := max((self._written[slot] for slot in slots), default=0):
            self._held[:, :, :, :written].index_fill_(2, self._ints(slots), 0)
        for slot in slots:
            self._written[slot] = 0

    def _rows(self, logits: Tensor, slots: Sequence[int], *, copied: bool) -> Tensor:
        if list(slots) != list(range(len(logits))):
            return logits[self._ints(slots)]
        return logits.clone() if copied else logits

    def _step(self, parts: Sequence[Part]) -> Tensor:
        step = self._step_for(max(part.slot for part in parts), max(part.start for part in parts))
        slots = [part.slot for part in parts]
        self._wrote(slots, [part.start + 1 for part in parts])
        logits = step(slots, [part.start for part in parts], self._ints([part.ids[0] for part in parts]))
        return self._rows(logits, slots, copied=False)

    def _step_for(self, last_slot: int, last_position: int) -> _Step:
        rows = min(self._slots, 1 if last_slot == 0 else power_of_two(last_slot + 1, _FEWEST))
        look = 0  # our own kernels look as far back as each row has text
        if self._kernels is None:
            look = power_of_two(last_position + 1, _SHORTEST_LOOK, self.n_positions)
        step = self._steps.get((rows, look))
        if step is None:
            step = self._steps[rows, look] = _Step(self, rows, look)
        return step

    def _ints(self, numbers: Sequence[int]) -> Tensor:
        """On the device, without waiting for what it is at: CUDA keeps a copy of such memory until it is sent."""
        return torch.tensor(numbers, dtype=torch.int64).to(self._device, non_blocking=True)

    def one_token_each(self, tokens: Tensor, positions: Tensor, look: int) -> Tensor:
        """The logits after one more token in each of the first slots, at these positions; `look` of them are looked at.

        `tokens` and `positions` are int64 of shape (rows,), on the device. Nothing is read back, and no shape depends on them.
        """
        if self._kernels is not None:
            return self._kernels(tokens, positions, self._caches)
        return self._logits(self._through(tokens[:, None], positions[:, None], None, look)[:, 0])

    def _read(self, parts: Sequence[Part]) -> Tensor:
        """Prompts, or parts of some, each filled up to the longest: (wanted parts, vocabulary)."""
        self._wrote([part.slot for part in parts], [part.start + len(part.ids) for part in parts])
        texts = 1 if len(parts) == 1 else power_of_two(len(parts), _FEWEST)
        longest = power_of_two(max(len(part.ids) for part in parts), _SHORTEST_PROMPT)
        look = power_of_two(max(part.start + len(part.ids) for part in parts), _SHORTEST_LOOK, self.n_positions)
        graphed = texts * longest <= _GRAPHED_TOKENS
        reading = self._readings.get((texts, longest, look)) or _Reading(self, texts, longest, look, graphed=graphed)
        if graphed:
            self._readings[texts, longest, look] = reading
        logits = reading(parts)
        wanted = [row for row, part in enumerate(parts) if part.wanted]
        return logits if len(wanted) == texts else logits[self._ints(wanted)]

    def several_tokens_each(self, tokens: Tensor, positions: Tensor, slots: Tensor, last: Tensor, look: int) -> Tensor:
        """The logits after the token at `last` (texts,) of each text's `tokens` (texts, tokens); see `one_token_each`."""
        x = self._through(tokens, positions, slots, look)
        return self._logits(x[torch.arange(len(x), device=self._device), last])

    def _through(self, tokens: Tensor, positions: Tensor, slots: Tensor | None, look: int) -> Tensor:
        """All layers by torch's kernels: (texts, tokens, n_embd) of (texts, tokens), each text in its slot.

        Without `slots` they are the first ones, whose keys then need not be copied.
        """
        at = torch.arange(len(tokens), device=self._device) if slots is None else slots
        places = positions.clamp(max=self.n_positions - 1)
        x = embedding(tokens, self._model.embedding) + embedding(places, self._model.positions)
        seen = torch.arange(look, device=self._device) <= positions[..., None]
        mask = torch.zeros(seen.shape, dtype=self._dtype, device=self._device).masked_fill_(~seen, -torch.inf)[:, None]
        for layer, (keys, values) in zip(self._model.layers, self._caches, strict=True):
            query, key, value = self._apart(layer.attn_in(layer.ln_1(x)))
            keys[at[:, None], positions] = key
            values[at[:, None], positions] = value
            held = [cache[: len(tokens), :look] if slots is None else cache[at, :look] for cache in (keys, values)]
            mixed = scaled_dot_product_attention(
                query.transpose(1, 2),
                held[0].transpose(1, 2),
                held[1].transpose(1, 2),
                attn_mask=mask,
                scale=self._shape.attention_scale,
            )
            x = self._finish(layer, x, mixed.transpose(1, 2).flatten(2))
        return x

    @torch.inference_mode()
    def score(self, prefixes: Sequence[Sequence[int]], continuation: Sequence[int]) -> list[float]:
        """Sum up log P(continuation | prefix) in nats for each prefix; see Forward."""
        check_prefixes(prefixes, continuation, self.n_positions, self._shape.vocab_size)
        texts = torch.tensor([[*prefix, *continuation[:-1]] for prefix in prefixes], device=self._device)
        targets = torch.tensor(continuation, device=self._device)
        x = embedding(texts, self._model.embedding) + self._model.positions[: texts.shape[1]]
        for layer in self._model.layers:
            query, key, value = (part.transpose(1, 2) for part in self._apart(layer.attn_in(layer.ln_1(x))))
            mixed = scaled_dot_product_attention(query, key, value, is_causal=True, scale=self._shape.attention_scale)
            x = self._finish(layer, x, mixed.transpose(1, 2).flatten(2))
        x = x[:, len(prefixes[0]) - 1 :]
        together = max(1, _LOGITS_AT_ONCE // (len(texts) * self._shape.vocab_size))
        totals = torch.zeros(len(texts), dtype=torch.float64, device=self._device)
        for states, tokens in zip(x.split(together, 1), targets.split(together), strict=True):
            log_p = self._logits(states).log_softmax(-1).gather(-1, tokens.expand(len(texts), -1).unsqueeze(-1))
            totals += log_p.double().sum(dim=(1, 2))
        return totals.tolist()

    def _apart(self, joined: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values, each (..., heads, head width), of (..., 3 * n_embd)."""
        query, key, value = joined.unflatten(-1, (3, self._shape.n_head, -1)).unbind(-3)
        return query, key, value

    def _finish(self, layer: Layer, x: Tensor, mixed: Tensor) -> Tensor:
        """What follows attention, with the two sums around it."""
        x = x + layer.attn_out(mixed)
        return x + layer.mlp_out(gelu(layer.mlp_in(layer.ln_2(x)), approximate=self._shape.gelu))

    def _logits(self, x: Tensor) -> Tensor:
        return linear(self._model.ln_f(x), self._model.head)[..., : self._shape.vocab_size].float()


def _in_order(wanted: Sequence[Part], groups: Sequence[tuple[list[Part], Tensor]]) -> Tensor:
    """The groups' rows, in the order of the parts."""
    places = {part.slot: place for place, part in enumerate(part for group, _ in groups for part in group)}
    joined = torch.cat([logits for _, logits in groups])
    return joined[torch.tensor([places[part.slot] for part in wanted]).to(joined.device, non_blocking=True)]


class _Step:
    """One token for each of the first `rows` slots, from a buffer that stays where it is."""

    def __init__(self, forward: CudaForward, rows: int, look: int) -> None:
        self._nowhere = forward.n_positions
        self._tokens = torch.zeros(rows, dtype=torch.int64, device=forward.device)
        # a graph is made by running: nobody's keys may be written over
        self._positions = torch.full((rows,), self._nowhere, dtype=torch.int64, device=forward.device)
        self._replay = Replay(lambda: forward.one_token_each(self._tokens, self._positions, look), forward.device)

    def __call__(self, slots: Sequence[int], positions: Sequence[int], tokens: Tensor) -> Tensor:
        """One row a slot, valid until the next call; `tokens` are int64 on the device, in the order of `slots`.

        What is no token but a negative number is read as token 0.
        """
        rows = len(self._positions)
        everywhere = [self._nowhere] * rows
        for slot, position in zip(slots, positions, strict=True):
            everywhere[slot] = position
        self._positions.copy_(torch.tensor(everywhere), non_blocking=True)
        if list(slots) == list(range(len(slots))):
            torch.clamp(tokens, min=0, out=self._tokens[: len(slots)])
        else:
            self._tokens.index_copy_(0, torch.tensor(slots).to(tokens.device, non_blocking=True), tokens.clamp(min=0))
        return self._replay()


class _Reading:
    """Some tokens for each of some texts, from buffers that stay where they are."""

    def __init__(self, forward: CudaForward, texts: int, tokens: int, look: int, *, graphed: bool) -> None:
        def full(value: int, *size: int) -> Tensor:
            return torch.full(size, value, dtype=torch.int64, device=forward.device)

        self._nowhere = forward.n_positions
        self._tokens, self._positions = full(0, texts, tokens), full(self._nowhere, texts, tokens)
        self._slots, self._last = full(0, texts), full(0, texts)
        self._replay = Replay(
            lambda: forward.several_tokens_each(self._tokens, self._positions, self._slots, self._last, look),
            forward.device,
            graphed=graphed,
        )

    def __call__(self, parts: Sequence[Part]) -> Tensor:
        """One row a text, valid until the next call; those after the parts' mean nothing."""
        texts, longest = self._tokens.shape
        missing = [Part(0, self._nowhere, ())] * (texts - len(parts))
        everyone = [*parts, *missing]
        tokens = [[*part.ids, *[0] * (longest - len(part.ids))] for part in everyone]
        nowhere = [self._nowhere] * longest
        positions = [[*range(part.start, part.start + len(part.ids)), *nowhere][:longest] for part in everyone]
        for buffer, values in (
            (self._tokens, tokens),
            (self._positions, positions),
            (self._slots, [part.slot for part in everyone]),
            (self._last, [max(0, len(part.ids) - 1) for part in everyone]),
        ):
            buffer.copy_(torch.tensor(values), non_blocking=True)
        return self._replay()
