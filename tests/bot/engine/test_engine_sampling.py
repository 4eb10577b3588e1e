"""Sampling is what `Sampling` says, what transformers does, and the same for a row whatever the others are."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor
from transformers.generation.logits_process import (
    MinPLogitsWarper,
    NoBadWordsLogitsProcessor,
    NoRepeatNGramLogitsProcessor,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from bot.engine import draws, sampling
from bot.engine.bans import BannedWords, NgramLedger
from bot.engine.draws import Draws
from bot.engine.interface import Sampling
from bot.engine.sampling import draw_at, likeliest, penalise_repetition, spare_token, workspace
from bot.engine.text_draws import TextDraws

VOCAB = 23
rows = st.lists(st.floats(-20, 20, width=32), min_size=VOCAB, max_size=VOCAB, unique=True).map(lambda row: torch.tensor([row]))
token = st.integers(0, VOCAB - 1)
tokens = st.lists(token, min_size=1, max_size=40)
few_tokens = st.lists(st.integers(0, 3), min_size=1, max_size=40)  # so that n-grams do repeat
quick = settings(max_examples=60, deadline=None)
samplings = st.builds(
    Sampling,
    repetition_penalty=st.sampled_from([1.0, 1.2]),
    no_repeat_ngram=st.sampled_from([0, 2]),
    temperature=st.sampled_from([0.0, 0.7, 1.0, 2.0]),
    top_k=st.sampled_from([0, 1, 5, 40]),
    top_p=st.sampled_from([1.0, 0.5, 0.9, 0.999]),
    min_p=st.sampled_from([0.0, 0.05, 0.5]),
    banned_ids=st.sampled_from([(), ((3,), (1, 2))]),
)


def a_row_of(vocabulary: int, spread: float = 4.0) -> Tensor:
    return torch.randn(1, vocabulary) * spread


def drawn_from(row: Tensor, how: Sampling, uniform: float, prompt: Sequence[int] = (0,)) -> int | None:
    """The token for one row at one random number."""
    text = TextDraws(how, 0, prompt)
    text._ahead.append(uniform)
    one = Draws(1, torch.zeros(row.shape[-1], dtype=torch.bool))
    one.seat(0, text)
    return one.choose([0], row)[0]


def kept_by(row: Tensor, how: Sampling, prompt: Sequence[int] = (0,)) -> set[int | None]:
    """The tokens that can be drawn, found by trying numbers between the steps of the cumulative distribution."""
    steps = torch.linspace(0, 0.9999, 400).tolist()
    return {drawn_from(row, how, uniform, prompt) for uniform in steps}


def theirs(row: Tensor, how: Sampling, prompt: Sequence[int], new: Sequence[int]) -> Tensor:
    """What transformers' processors leave of a row."""
    everything, written = torch.tensor([[*prompt, *new]]), torch.tensor([list(new)], dtype=torch.long)
    if how.repetition_penalty != 1:
        row = RepetitionPenaltyLogitsProcessor(how.repetition_penalty)(everything, row)
    if how.no_repeat_ngram and len(new) >= how.no_repeat_ngram:
        row = NoRepeatNGramLogitsProcessor(how.no_repeat_ngram)(written, row)
    if how.banned_ids:
        row = NoBadWordsLogitsProcessor([list(word) for word in how.banned_ids])(everything, row)
    row = TemperatureLogitsWarper(how.temperature)(everything, row)
    if how.top_k:
        row = TopKLogitsWarper(how.top_k)(everything, row)
    if how.top_p < 1:
        row = TopPLogitsWarper(how.top_p)(everything, row)
    if how.min_p:
        row = MinPLogitsWarper(how.min_p)(everything, row)
    return row


@quick
@given(rows, tokens, st.floats(0.5, 3))
def test_the_repetition_penalty_is_that_of_transformers(row: Tensor, seen: list[int], penalty: float) -> None:
    work = workspace(1, VOCAB)
    work[:, :VOCAB] = row
    padded = torch.tensor([[*dict.fromkeys(seen), spare_token(VOCAB), spare_token(VOCAB)]])
    penalise_repetition(work, padded, torch.tensor([[penalty]]))
    expected = RepetitionPenaltyLogitsProcessor(penalty)(torch.tensor([seen]), row)
    torch.testing.assert_close(work[:, :VOCAB], expected)
    assert work[:, VOCAB:].isneginf().all()


@quick
@given(few_tokens, st.integers(1, 5))
def test_the_banned_ngrams_are_those_of_transformers(text: list[int], n: int) -> None:
    ledger = NgramLedger(n)
    for one in text:
        ledger.add(one)
    expected = NoRepeatNGramLogitsProcessor(n)(torch.tensor([text]), torch.zeros(1, VOCAB))
    assert list(ledger.banned()) == expected[0].isinf().nonzero().flatten().tolist()


@quick
@given(
    few_tokens, st.lists(st.lists(st.integers(0, 3), min_size=1, max_size=4).map(tuple), min_size=1, max_size=4, unique=True)
)
def test_the_banned_words_are_those_of_transformers(text: list[int], words: list[tuple[int, ...]]) -> None:
    prompt, new = text[:3], text[3:]
    ours = BannedWords(words, prompt)
    for one in new:
        ours.add(one)
    expected = NoBadWordsLogitsProcessor([list(word) for word in words])(torch.tensor([text]), torch.zeros(1, VOCAB))
    assert sorted(set(ours.banned())) == expected[0].isinf().nonzero().flatten().tolist()


@quick
@given(rows, few_tokens, samplings, st.floats(0, 1, exclude_max=True))
def test_the_token_is_where_the_distribution_that_transformers_leaves_passes_the_number(
    row: Tensor, new: list[int], how: Sampling, uniform: float
) -> None:
    prompt = [5, 6]
    text = TextDraws(how, 0, prompt)
    for one in new:
        text.note(one)
    text._ahead.append(uniform)
    one = Draws(1, torch.zeros(VOCAB, dtype=torch.bool))
    one.seat(0, text)
    (got,) = one.choose([0], row)
    if text.greedy:
        kept = theirs(row, replace(how, temperature=1.0, top_k=1, top_p=1.0, min_p=0.0), prompt, new)
        assert got == int(kept.argmax())
        return
    kept = theirs(row, how, prompt, new)
    cumulative = kept.double().softmax(-1).cumsum(-1)[0]
    assert got is not None
    assert kept[0, got] > -torch.inf
    below = float(cumulative[got - 1]) if got else 0.0
    assert below - 1e-6 <= uniform <= float(cumulative[got]) + 1e-6


def test_tokens_as_likely_as_the_last_that_is_kept_are_kept() -> None:
    row = torch.tensor([[3.0, 1.0, 1.0, 1.0, -2.0]])
    assert kept_by(row, Sampling(top_k=2)) == {0, 1, 2, 3}
    assert kept_by(row, Sampling(top_p=0.75)) == {0, 1, 2, 3}
    assert kept_by(row, Sampling(top_p=0.6)) == {0}


def test_a_list_of_seen_tokens_that_outgrows_its_room_loses_nobody_s(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(draws, "_WIDTH_STEP", 1)
    how = Sampling(temperature=0, repetition_penalty=5.0)
    both = Draws(2, torch.zeros(300, dtype=torch.bool))
    both.seat(0, TextDraws(how, 0, [7]))
    both.seat(1, TextDraws(how, 0, [0]))
    falling = torch.arange(300, 0, -1.0)[None]
    assert both.choose([0, 1], falling.expand(2, -1)) == [0, 1]
    assert [both.choose([1], falling)[0] for _ in range(60)] == list(range(2, 62))
    row = torch.ones(2, 300)
    row[:, 7], row[:, 0], row[:, 200] = 4.0, 4.5, 2.0  # 7 and 0 are likelier, but for having been seen
    assert both.choose([0, 1], row) == [200, 200]


@pytest.mark.parametrize("vocabulary", [300, 9000, 50_257])
@pytest.mark.parametrize(
    "how",
    [
        Sampling(top_p=0.95, temperature=0.8, repetition_penalty=1.1),
        Sampling(top_p=0.999, temperature=1.5),
        Sampling(top_k=40, top_p=0.9),
        Sampling(min_p=0.001),
        Sampling(top_k=3000, temperature=2.0),
    ],
)
def test_looking_at_the_likeliest_first_gives_the_tokens_of_looking_at_all(
    vocabulary: int, how: Sampling, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(vocabulary)
    logits = torch.cat([a_row_of(vocabulary, spread) for spread in (1.0, 3.0, 6.0, 9.0)])
    for k in (0, 1):
        logits[k] = (logits[k] * 8).round() / 8  # many ties, as bf16 makes

    def several(first_look: int) -> list[list[int | None]]:
        monkeypatch.setattr(draws, "FIRST_LOOK", first_look)
        batch = Draws(4, torch.zeros(vocabulary, dtype=torch.bool))
        for slot in range(4):
            batch.seat(slot, TextDraws(how, slot, range(50)))
        return [batch.choose(range(4), logits) for _ in range(6)]

    assert several(256) == several(vocabulary + 16) == several(32)


@pytest.fixture
def threads(request: pytest.FixtureRequest) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("vocabulary", [300, 50_257])
@pytest.mark.parametrize(("seed", "threads"), [(0, 1), (1, 2)], indirect=["threads"])
@pytest.mark.usefixtures("threads")
def test_a_row_is_drawn_as_it_is_alone_whatever_the_other_rows_are(vocabulary: int, seed: int) -> None:
    numbers = random.Random(seed)
    torch.manual_seed(seed)
    hows = [
        Sampling(
            numbers.choice([1.0, 1.2]),
            numbers.choice([0, 2]),
            numbers.choice([0.0, 0.7, 1.0, 1.7]),
            numbers.choice([0, 0, 5, 300]),
            numbers.choice([1.0, 0.9, 0.99]),
            numbers.choice([0.0, 0.05]),
            numbers.choice([(), ((3,), (1, 2))]),
        )
        for _ in range(9)
    ]
    steps = [torch.cat([a_row_of(vocabulary, 1.0 + row) for row in range(9)]) for _ in range(5)]
    unwritable = torch.zeros(vocabulary, dtype=torch.bool)
    unwritable[7:12] = True

    def written(rows: Sequence[int]) -> list[list[int | None]]:
        batch = Draws(9, unwritable)
        for row in rows:
            batch.seat(row, TextDraws(hows[row], row, [1, 2, row]))
        return [batch.choose(rows, step[list(rows)]) for step in steps]

    together = written(range(9))
    for row in range(9):
        assert [line[0] for line in written([row])] == [line[row] for line in together]
    some = sorted(numbers.sample(range(9), 4), reverse=True)
    assert written(some) == [[line[row] for row in some] for line in together]


@pytest.mark.parametrize("k", [1, 40, 256, 5000])
def test_the_likeliest_are_those_of_a_sort(k: int) -> None:
    torch.manual_seed(k)
    work = workspace(3, 50_257)
    work[:, :50_257] = torch.cat([a_row_of(50_257) for _ in range(3)])
    values, at = likeliest(work, k)
    assert torch.equal(values, work.sort(dim=-1, descending=True).values[:, :k])
    assert torch.equal(work.gather(1, at), values)
    assert all(len(set(row)) == k for row in at.tolist())


@quick
@given(rows, st.sets(token, min_size=1, max_size=VOCAB - 1), st.sampled_from([0.0, 0.5, sampling.LARGEST_UNIFORM]))
def test_a_token_without_probability_is_never_drawn(row: Tensor, without: set[int], uniform: float) -> None:
    row[0, sorted(without)] = -torch.inf
    assume(row.max() > -torch.inf)
    assert int(draw_at(row.softmax(-1), torch.tensor([[uniform]], dtype=torch.float64))) not in without


def test_tokens_are_drawn_as_often_as_their_probability_says() -> None:
    probabilities = [0.5, 0.0, 0.3, 0.2]
    numbers = random.Random(0)
    uniform = torch.tensor([[numbers.random()] for _ in range(4000)], dtype=torch.float64)
    drawn = Counter(draw_at(torch.tensor([probabilities]).expand(4000, -1), uniform).tolist())
    assert all(abs(drawn[one] / 4000 - share) < 0.03 for one, share in enumerate(probabilities))


def test_temperature_zero_takes_the_likeliest_and_the_first_of_equals() -> None:
    assert drawn_from(torch.tensor([[1.0, 3.0, 2.0]]), Sampling(temperature=0), 0.9) == 1
    assert drawn_from(torch.tensor([[1.0, 3.0, 3.0]]), Sampling(temperature=0), 0.9) == 1


def test_an_unwritable_token_is_not_taken_however_likely() -> None:
    batch = Draws(1, torch.tensor([False, True, False]))
    batch.seat(0, TextDraws(Sampling(temperature=0), 0, [0]))
    assert batch.choose([0], torch.tensor([[1.0, 3.0, 2.0]])) == [2]


def test_a_ban_that_leaves_no_token_is_lifted() -> None:
    batch = Draws(1, torch.tensor([True, False]))
    batch.seat(0, TextDraws(Sampling(temperature=0, no_repeat_ngram=1), 0, [0]))
    assert [batch.choose([0], torch.tensor([[0.0, 1.0]])) for _ in range(3)] == [[1]] * 3


def test_a_story_longer_than_the_list_of_seen_tokens_goes_on_with_all_of_them() -> None:
    vocabulary = 3000
    how = Sampling(temperature=0, repetition_penalty=100.0)
    batch = Draws(2, torch.zeros(vocabulary, dtype=torch.bool))
    batch.seat(0, TextDraws(how, 0, [0]))
    batch.seat(1, TextDraws(how, 0, range(2000)))
    row = torch.linspace(2, 1, vocabulary).expand(2, -1)
    drawn = [batch.choose([0, 1], row) for _ in range(1200)]
    assert drawn[0] == [1, 2000]
    assert [first for first, _ in drawn] == list(range(1, 1201))  # each token once, the likeliest first
    assert [second for _, second in drawn[:1000]] == list(range(2000, 3000))


def test_seeds_that_differ_only_above_32_bits_differ() -> None:
    first, second = TextDraws(Sampling(), 7, [0]), TextDraws(Sampling(), 7 + 2**32, [0])
    assert first.uniforms(1) != second.uniforms(1)


def test_a_text_has_the_same_numbers_however_many_are_made_at_once() -> None:
    one_by_one, ahead = TextDraws(Sampling(), 7, [0]), TextDraws(Sampling(), 7, [0])
    numbers: list[float] = []
    for token in range(40):
        numbers += one_by_one.uniforms(1)
        one_by_one.note(token)
    assert len(set(numbers)) == 40
    for start, count in ((0, 16), (16, 5), (21, 19)):
        assert ahead.uniforms(count) == numbers[start : start + count]
        assert ahead.uniforms(count) == numbers[start : start + count]  # until a token is drawn by one
        for token in range(count):
            ahead.note(token)


def test_a_round_that_is_tried_again_draws_with_the_same_number() -> None:
    """In the middle of the numbers that were made at once, after the last of them, and when others come and go."""
    rounds, row = 40, torch.zeros(1, 1000)
    told: list[list[int | None]] = []
    for tried, others in ((False, False), (True, False), (True, True)):
        every = Draws(2, torch.zeros(1000, dtype=torch.bool))
        every.seat(0, TextDraws(Sampling(), 7, [0]))
        drawn: list[int | None] = []
        for number in range(rounds):
            if others and number % 7 == 3:
                every.seat(1, TextDraws(Sampling(), number, [0]))
            slots = [0, 1] if others and number % 7 > 3 else [0]
            if tried:
                every.begin(slots, row.expand(len(slots), -1)).read()
            drawn.append(every.choose(slots, row.expand(len(slots), -1))[0])
        told.append(drawn)
    assert len(set(told[0])) > rounds // 2
    assert told[1] == told[0]
    assert told[2] == told[0]


def test_a_ban_that_never_changes_holds_in_every_round_beside_one_that_does() -> None:
    row = torch.zeros(1, VOCAB)
    constant, changing = Sampling(banned_ids=((3,), (5,))), Sampling(banned_ids=((3,), (5,), (7, 9)))
    assert not TextDraws(constant, 0, [0]).bans_change
    assert TextDraws(changing, 0, [0]).bans_change
    assert TextDraws(Sampling(no_repeat_ngram=3), 0, [0]).bans_change
    for how in ((constant, constant), (constant, Sampling()), (constant, changing)):
        every = Draws(2, torch.zeros(VOCAB, dtype=torch.bool))
        for slot, one in enumerate(how):
            every.seat(slot, TextDraws(one, slot, [0]))
        drawn = [every.choose([0, 1], row.expand(2, -1)) for _ in range(200)]
        assert {token for token, _ in drawn} == set(range(VOCAB)) - {3, 5}
        second = [token for _, token in drawn]
        assert set(second) == (set(range(VOCAB)) if not how[1].banned_ids else set(range(VOCAB)) - {3, 5})
        assert 7 in second[:-1]
        assert (7, 9) not in pairwise(second) or how[1] is not changing


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("how", [Sampling(), Sampling(top_p=0.9), Sampling(temperature=0), Sampling(top_k=1, min_p=0.1)])
def test_logits_that_are_no_numbers_are_no_token_and_leave_the_other_rows_alone(bad: float, how: Sampling) -> None:
    torch.manual_seed(0)
    logits = torch.randn(3, 9000)
    clean = logits.clone()
    logits[1, 4000] = bad
    batches = [Draws(3, torch.zeros(9000, dtype=torch.bool)) for _ in range(2)]
    for batch in batches:
        for slot in range(3):
            batch.seat(slot, TextDraws(how, slot, [0]))
    broken, whole = batches[0].choose(range(3), logits), batches[1].choose(range(3), clean)
    assert broken == [whole[0], None, whole[2]]


def test_the_draw_reads_nothing_back_and_its_shapes_do_not_depend_on_the_data() -> None:
    """So that a CUDA graph can hold it: on the meta device there is no data to read."""
    columns = sampling.Columns(
        uniform=torch.empty(4, 1, dtype=torch.float64, device="meta"),
        temperature=torch.empty(4, 1, device="meta"),
        top_k=torch.empty(4, 1, dtype=torch.long, device="meta"),
        top_p=torch.empty(4, 1, device="meta"),
        min_p=torch.empty(4, 1, device="meta"),
        penalty=torch.empty(4, 1, device="meta"),
        seen=torch.empty(4, 64, dtype=torch.long, device="meta"),
        banned=torch.empty(4, 3, dtype=torch.long, device="meta"),
    )
    logits, bias = torch.empty(4, 50_257, device="meta"), torch.empty(50_257, device="meta")
    work = workspace(4, 50_257, "meta")
    drawn = sampling.draw(logits, bias, work, columns, 256, sampling.Asked())
    assert (drawn.shape, drawn.dtype) == ((4,), torch.int64)
