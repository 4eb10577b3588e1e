"""Sampling is what `Sampling` says, and what transformers does."""

from __future__ import annotations

import random
from collections import Counter

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from transformers.generation.logits_process import (
    MinPLogitsWarper,
    NoRepeatNGramLogitsProcessor,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from bot.engine.interface import Sampling
from bot.engine.sampling import (
    Chooser,
    NgramLedger,
    draw,
    keep_min_p,
    keep_top_k,
    keep_top_p,
    penalise_repetition,
)

VOCAB = 23
rows = st.lists(st.floats(-20, 20, width=32), min_size=VOCAB, max_size=VOCAB).map(lambda row: torch.tensor([row]))
token = st.integers(0, VOCAB - 1)
tokens = st.lists(token, min_size=1, max_size=40)
few_tokens = st.lists(st.integers(0, 3), min_size=1, max_size=40)  # so that n-grams do repeat
quick = settings(max_examples=60, deadline=None)


def same(ours: Tensor, theirs: Tensor) -> None:
    torch.testing.assert_close(ours, theirs)


@quick
@given(rows, tokens, st.floats(0.5, 3))
def test_the_repetition_penalty_is_that_of_transformers(row: Tensor, seen: list[int], penalty: float) -> None:
    mask = torch.zeros(VOCAB, dtype=torch.bool)
    mask[seen] = True
    same(penalise_repetition(row, mask, penalty), RepetitionPenaltyLogitsProcessor(penalty)(torch.tensor([seen]), row))


@quick
@given(few_tokens, st.integers(1, 5))
def test_the_banned_ngrams_are_those_of_transformers(text: list[int], n: int) -> None:
    ledger = NgramLedger(n)
    for one in text:
        ledger.add(one)
    theirs = NoRepeatNGramLogitsProcessor(n)(torch.tensor([text]), torch.zeros(1, VOCAB))
    assert list(ledger.banned()) == theirs[0].isinf().nonzero().flatten().tolist()


@quick
@given(rows, st.integers(1, VOCAB + 5))
def test_top_k_is_that_of_transformers(row: Tensor, k: int) -> None:
    same(keep_top_k(row, k), TopKLogitsWarper(k)(torch.tensor([[0]]), row))


@quick
@given(rows, st.floats(0.0, 1.0))
def test_top_p_is_that_of_transformers(row: Tensor, top_p: float) -> None:
    same(keep_top_p(row, top_p), TopPLogitsWarper(top_p)(torch.tensor([[0]]), row))


@quick
@given(rows, st.floats(0.0, 1.0))
def test_min_p_is_that_of_transformers(row: Tensor, min_p: float) -> None:
    same(keep_min_p(row, min_p), MinPLogitsWarper(min_p)(torch.tensor([[0]]), row))


@quick
@given(rows, few_tokens, st.integers(0, 2**40))
def test_all_parts_together_draw_only_what_transformers_would_keep(row: Tensor, text: list[int], seed: int) -> None:
    settings_ = Sampling(1.3, no_repeat_ngram=2, temperature=0.7, top_k=9, top_p=0.9, min_p=0.05)
    chooser = Chooser(settings_, seed, [5, 6], torch.zeros(VOCAB, dtype=torch.bool))
    for one in text:
        chooser._note(one)
    prompt_and_new, new = torch.tensor([[5, 6, *text]]), torch.tensor([text])
    kept = RepetitionPenaltyLogitsProcessor(1.3)(prompt_and_new, row)
    kept = NoRepeatNGramLogitsProcessor(2)(new, kept)
    for warper in (TemperatureLogitsWarper(0.7), TopKLogitsWarper(9), TopPLogitsWarper(0.9), MinPLogitsWarper(0.05)):
        kept = warper(prompt_and_new, kept)
    same(chooser._narrowed(chooser._without_repeats(row)), kept)
    assert kept[0, chooser.choose(row[0])] > -torch.inf


@quick
@given(st.lists(rows, min_size=2, max_size=5))
def test_a_batch_of_rows_is_narrowed_and_drawn_as_each_row_alone(several: list[Tensor]) -> None:
    batch = torch.cat(several)
    column = torch.linspace(0.3, 0.9, len(several)).unsqueeze(-1)
    uniform = torch.linspace(0, 0.999, len(several), dtype=torch.float64).unsqueeze(-1)
    for narrow in (keep_top_p, keep_min_p):
        narrowed = narrow(batch, column)
        for at, row in enumerate(several):
            same(narrowed[at : at + 1], narrow(row, column[at]))
    drawn = draw(batch, uniform)
    assert drawn.tolist() == [int(draw(row[0], uniform[at])) for at, row in enumerate(several)]


@quick
@given(rows, st.sets(token, min_size=1, max_size=VOCAB - 1), st.sampled_from([0.0, 0.5, 1 - 2**-53]))
def test_a_token_without_probability_is_never_drawn(row: Tensor, without: set[int], uniform: float) -> None:
    row[0, sorted(without)] = -torch.inf
    assert int(draw(row[0], torch.tensor([uniform], dtype=torch.float64))) not in without


def test_tokens_are_drawn_as_often_as_their_probability_says() -> None:
    probabilities = [0.5, 0.0, 0.3, 0.2]
    numbers = random.Random(0)
    row = torch.tensor(probabilities).log()
    drawn = Counter(int(draw(row, torch.tensor([numbers.random()]).double())) for _ in range(4000))
    assert all(abs(drawn[one] / 4000 - share) < 0.03 for one, share in enumerate(probabilities))


def test_temperature_zero_takes_the_likeliest() -> None:
    chooser = Chooser(Sampling(temperature=0), 0, [0], torch.zeros(3, dtype=torch.bool))
    assert chooser.choose(torch.tensor([1.0, 3.0, 2.0])) == 1


def test_an_unwritable_token_is_not_taken_however_likely() -> None:
    chooser = Chooser(Sampling(temperature=0), 0, [0], torch.tensor([False, True, False]))
    assert chooser.choose(torch.tensor([1.0, 3.0, 2.0])) == 2


def test_a_ban_that_leaves_no_token_is_lifted() -> None:
    chooser = Chooser(Sampling(temperature=0, no_repeat_ngram=1), 0, [0], torch.tensor([True, False]))
    assert [chooser.choose(torch.tensor([0.0, 1.0])) for _ in range(3)] == [1, 1, 1]


def test_seeds_that_differ_only_above_32_bits_differ() -> None:
    row = torch.zeros(1000)
    first, second = (Chooser(Sampling(), seed, [0], torch.zeros(1000, dtype=torch.bool)) for seed in (7, 7 + 2**32))
    assert [first.choose(row) for _ in range(5)] != [second.choose(row) for _ in range(5)]


def test_logits_that_are_no_numbers_are_an_error_and_no_token() -> None:
    chooser = Chooser(Sampling(), 0, [0], torch.zeros(2, dtype=torch.bool))
    with pytest.raises(ArithmeticError):
        chooser.choose(torch.tensor([float("nan"), 1.0]))
