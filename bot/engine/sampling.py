"""Draw the next token from logits, in the order that `Sampling` documents.

The functions work on rows (any leading shape, the vocabulary last), and their parameters may be a number or a column
with one value a row, so that a batch of stories can be drawn at once. They equal transformers' logits processors; tests
hold it.

A row is drawn by inverting its cumulative distribution at one number from the story's own random source, which is
Python's: it takes a seed of any size and promises the same numbers in later versions. `torch.multinomial` would take
one generator for all rows and a number for each token of the vocabulary, and torch's CPU generator looks at the low 32
bits of a seed only.
"""

from __future__ import annotations

import random
from collections import defaultdict, deque
from collections.abc import Sequence

import torch
from torch import Tensor

from bot.engine.interface import GREEDY_BELOW, Sampling


def penalise_repetition(logits: Tensor, seen: Tensor, penalty: float | Tensor) -> Tensor:
    """Make the tokens in the mask `seen` less likely (Keskar et al. 2019), whatever the sign of their logits."""
    return torch.where(seen, torch.where(logits < 0, logits * penalty, logits / penalty), logits)


def keep_top_k(logits: Tensor, k: int) -> Tensor:
    """Only the k likeliest tokens of each row, and those as likely as the last of them."""
    last_kept = logits.topk(min(k, logits.shape[-1])).values[..., -1:]
    return logits.masked_fill(logits < last_kept, -torch.inf)


def keep_top_p(logits: Tensor, top_p: float | Tensor) -> Tensor:
    """Only the likeliest tokens that together reach the share `top_p` of the probability (Holtzman et al. 2020)."""
    ascending, order = logits.sort(dim=-1)
    dropped = ascending.softmax(dim=-1).cumsum(dim=-1) <= 1 - top_p
    dropped[..., -1] = False  # the likeliest always stays
    return logits.masked_fill(dropped.scatter(-1, order, dropped), -torch.inf)


def keep_min_p(logits: Tensor, min_p: float | Tensor) -> Tensor:
    """Only tokens at least `min_p` times as likely as the likeliest (Nguyen et al. 2024)."""
    probabilities = logits.softmax(dim=-1)
    return logits.masked_fill(probabilities < min_p * probabilities.amax(dim=-1, keepdim=True), -torch.inf)


def draw(logits: Tensor, uniform: Tensor) -> Tensor:
    """One token a row: where the cumulative distribution passes `uniform`, a column of numbers in [0, 1)."""
    cumulative = logits.softmax(dim=-1).double().cumsum(dim=-1)
    total = cumulative[..., -1:]
    # rounding may lift uniform * total to total itself, which lies past the last token that can be drawn
    at = torch.minimum(uniform * total, torch.nextafter(total, torch.zeros_like(total)))
    return torch.searchsorted(cumulative, at, right=True).squeeze(-1)


class NgramLedger:
    """Which tokens would repeat an n-gram of the text so far, in constant time a token."""

    def __init__(self, n: int) -> None:
        self._tail: deque[int] = deque(maxlen=n - 1)
        self._followers: defaultdict[tuple[int, ...], set[int]] = defaultdict(set)
        self._prefix_length = n - 1

    def add(self, token: int) -> None:
        """The text goes on with this token."""
        if len(self._tail) == self._prefix_length:
            self._followers[tuple(self._tail)].add(token)
        self._tail.append(token)

    def banned(self) -> Sequence[int]:
        """What has already followed the last n - 1 tokens."""
        return sorted(self._followers.get(tuple(self._tail), ()))


class Chooser:
    """Chooses the tokens of one text: holds what it has seen and its own random numbers, so neighbours can't matter.

    The repetition penalty counts prompt and new text alike, as in transformers; no_repeat_ngram counts the new text
    only, so that a story may say the words of its prompt.
    """

    def __init__(self, sampling: Sampling, seed: int, prompt_ids: Sequence[int], unwritable: Tensor) -> None:
        self._sampling = sampling
        self._random = random.Random(seed)
        self._unwritable = unwritable  # a mask over the vocabulary, on the CPU
        self._seen = torch.zeros_like(unwritable)
        self._seen[torch.tensor(prompt_ids)] = True
        self._ngrams = NgramLedger(sampling.no_repeat_ngram) if sampling.no_repeat_ngram > 0 else None

    def choose(self, logits: Tensor) -> int:
        """The next token for one row of logits on any device. Raises ArithmeticError if they are no numbers."""
        row = logits.float().cpu()  # the one copy from the device; from here on all is float32 on the CPU
        if not row.isfinite().all():
            raise ArithmeticError("the model computed logits that are not finite numbers")
        row = self._without_repeats(row.masked_fill(self._unwritable, -torch.inf))
        if self._sampling.temperature < GREEDY_BELOW:
            token = int(row.argmax())
        else:
            token = int(draw(self._narrowed(row), torch.tensor([self._random.random()], dtype=torch.float64)))
        self._note(token)
        return token

    def _without_repeats(self, row: Tensor) -> Tensor:
        if self._sampling.repetition_penalty != 1:
            row = penalise_repetition(row, self._seen, self._sampling.repetition_penalty)
        banned = self._ngrams.banned() if self._ngrams else ()
        if not banned:
            return row
        allowed = row.index_fill(-1, torch.tensor(banned), -torch.inf)
        return allowed if allowed.max() > -torch.inf else row  # a ban that leaves no token at all is lifted

    def _narrowed(self, row: Tensor) -> Tensor:
        row = row / self._sampling.temperature
        if self._sampling.top_k > 0:
            row = keep_top_k(row, self._sampling.top_k)
        if self._sampling.top_p < 1:
            row = keep_top_p(row, self._sampling.top_p)
        if self._sampling.min_p > 0:
            row = keep_min_p(row, self._sampling.min_p)
        return row

    def _note(self, token: int) -> None:
        self._seen[token] = True
        if self._ngrams:
            self._ngrams.add(token)
