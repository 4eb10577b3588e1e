"""A text's numbers are transformers' own in fp32, and the same bit for bit whatever else is in the pass."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
import torch
from tiny_gpt2 import cpu_forward
from torch import Tensor
from transformers import GPT2LMHeadModel

from bot.engine.any_forward import AnyForward, load_any_gpt2
from bot.engine.cpu_forward import CpuForward
from bot.engine.cpu_linear import Fp32Linear, Int8Linear, MakeLinear
from bot.engine.forward import Forward, Part

PROMPT = (5, 99, 7, 280, 41, 13, 13, 200)


def forward_of(model_dir: Path, linear: MakeLinear) -> CpuForward:
    return cpu_forward(model_dir, linear, slots=4)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Several wait for each other, long where others run tests beside these."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def precise(pristine: Path) -> CpuForward:
    return forward_of(pristine, Fp32Linear)


@pytest.fixture(scope="module")
def compact(pristine: Path) -> CpuForward:
    return forward_of(pristine, Int8Linear)


@pytest.fixture(scope="module")
def variant(pristine: Path) -> AnyForward:
    return AnyForward(load_any_gpt2(pristine, torch.device("cpu"), torch.float32), 4)


@pytest.fixture(params=["precise", "compact", "variant"])
def forward(request: pytest.FixtureRequest) -> Forward:
    forward = request.getfixturevalue(request.param)
    forward.resize(4)
    return forward


@torch.inference_mode()
def expected(reference: GPT2LMHeadModel, ids: Sequence[int]) -> Tensor:
    return reference(torch.tensor([list(ids)])).logits[0, -1]


def greedy(forward: Forward, prompt: Sequence[int], new: int) -> list[int]:
    ids = list(prompt)
    logits = forward([Part(0, 0, ids)])
    for _ in range(new):
        ids.append(int(logits[0].argmax()))
        if len(ids) < forward.n_positions:
            logits = forward([Part(0, len(ids) - 1, ids[-1:])])
    return ids


def test_greedy_is_generate_token_for_token(precise: CpuForward, reference: GPT2LMHeadModel) -> None:
    whole = reference.generate(
        torch.tensor([PROMPT]), do_sample=False, max_length=64, eos_token_id=None, pad_token_id=0, use_cache=True
    )
    assert greedy(precise, PROMPT, 64 - len(PROMPT)) == whole[0].tolist()


def test_fp32_logits_are_those_of_transformers_however_a_prompt_is_cut(precise: CpuForward, reference: GPT2LMHeadModel) -> None:
    for cuts in ([8], [1, 7], [3, 3, 2], [1] * 8):
        start = 0
        for n in cuts:
            logits = precise([Part(1, start, PROMPT[start : start + n])])
            start += n
            torch.testing.assert_close(logits[0], expected(reference, PROMPT[:start]), rtol=1e-4, atol=1e-4)


def test_int8_logits_are_close(compact: CpuForward, reference: GPT2LMHeadModel) -> None:
    logits, wanted = compact([Part(0, 0, PROMPT)])[0], expected(reference, PROMPT)
    assert (logits - wanted).std() < 0.03 * wanted.std()


@pytest.mark.parametrize(("seed", "threads"), [(1, 1), (2, 1), (3, 1), (4, 2)])
def test_batched_is_single_bit_for_bit(forward: Forward, seed: int, threads: int) -> None:
    """Each text is read in the same pieces alone and among others, which come and go at random."""
    torch.set_num_threads(threads)
    draw = random.Random(seed)
    pieces = {slot: random_pieces(draw, slot) for slot in range(4)}
    alone = {slot: [forward([part]) for part in parts] for slot, parts in pieces.items()}
    forward.resize(4)
    unread = {slot: list(zip(parts, alone[slot], strict=True)) for slot, parts in pieces.items()}
    while unread:
        some = draw.sample(sorted(unread), draw.randint(1, len(unread)))
        turn = [unread[slot].pop(0) for slot in some]
        parts = [Part(part.slot, part.start, part.ids, wanted=draw.random() < 0.7) for part, _ in turn]
        logits = forward(parts)
        wanted = [single for part, (_, single) in zip(parts, turn, strict=True) if part.wanted]
        assert len(logits) == len(wanted)
        assert all(torch.equal(row, single[0]) for row, single in zip(logits, wanted, strict=True))
        unread = {slot: rest for slot, rest in unread.items() if rest}


def random_pieces(draw: random.Random, slot: int) -> list[Part]:
    parts: list[Part] = []
    at, length = 0, draw.randint(1, 64)
    while at < length:
        n = min(length - at, draw.choice([1, 1, 1, 2, 5, 17, 30]))
        parts.append(Part(slot, at, [draw.randrange(300) for _ in range(n)]))
        at += n
    return parts


def test_a_slot_taken_over_by_a_shorter_text_forgets_the_longer_one(forward: Forward) -> None:
    fresh = forward([Part(3, 0, PROMPT[:3])])
    forward([Part(2, 0, list(range(50)))])
    assert torch.equal(forward([Part(2, 0, PROMPT[:3])]), fresh)
    again = forward([Part(3, 3, PROMPT[3:4])])
    assert torch.equal(forward([Part(2, 3, PROMPT[3:4])]), again)


def test_a_text_may_go_back_and_be_read_again_from_there(forward: Forward) -> None:
    forward([Part(0, 0, PROMPT[:4])])
    first = forward([Part(0, 4, PROMPT[4:5])])
    forward([Part(0, 4, (1,))])
    assert torch.equal(forward([Part(0, 4, PROMPT[4:5])]), first)


def test_only_the_logits_asked_for_come_back_in_the_order_of_the_parts(forward: Forward) -> None:
    singles = [forward([Part(slot, 0, PROMPT[slot:])]) for slot in range(3)]
    parts = [Part(2, 0, PROMPT[2:]), Part(1, 0, PROMPT[1:], wanted=False), Part(0, 0, PROMPT)]
    logits = forward(parts)
    assert torch.equal(logits, torch.cat([singles[2], singles[0]]))
    assert logits.dtype == torch.float32
    assert forward([Part(1, 0, PROMPT, wanted=False)]).shape == (0, logits.shape[1])


BEYOND = {
    "no part": [],
    "a slot that is not there": [Part(4, 0, (1,))],
    "a slot under 0": [Part(-1, 0, (1,))],
    "a slot twice": [Part(1, 0, (1,)), Part(1, 1, (1,))],
    "no token": [Part(0, 0, ())],
    "a start under 0": [Part(0, -1, (1,))],
    "one token past the context": [Part(0, 64, (1,))],
    "a prompt past the context": [Part(0, 60, (1, 2, 3, 4, 5))],
    "a token outside the vocabulary": [Part(0, 0, (10_000,))],
    "a token under 0": [Part(0, 0, (-1,))],
}


@pytest.mark.parametrize("what", BEYOND)
def test_a_pass_beyond_the_bounds_is_refused(forward: Forward, what: str) -> None:
    with pytest.raises(ValueError, match=r"part|slot|tokens|token"):
        forward(BEYOND[what])


def test_the_whole_context_can_be_filled(forward: Forward) -> None:
    ids = [token % 300 for token in range(64)]
    forward([Part(0, 0, ids[:40], wanted=False)])
    assert forward([Part(0, 40, ids[40:])]).isfinite().all()


def test_resize_changes_how_many_texts_are_held(forward: Forward) -> None:
    before = forward([Part(3, 0, PROMPT)])
    forward.resize(9)
    assert forward.slots == 9
    assert torch.equal(forward([Part(8, 0, PROMPT)]), before)
    forward.resize(1)
    with pytest.raises(ValueError, match="slot"):
        forward([Part(1, 0, PROMPT)])


def test_scores_are_sums_of_log_probabilities_and_touch_no_slot(forward: Forward, reference: GPT2LMHeadModel) -> None:
    first = forward([Part(0, 0, PROMPT[:5])])
    forward([Part(0, 0, PROMPT[:4])])
    prefixes, continuation = [[1], [2], [250]], list(PROMPT)
    scores = forward.score(prefixes, continuation)
    assert torch.equal(forward([Part(0, 4, PROMPT[4:5])]), forward([Part(0, 4, PROMPT[4:5])]))
    torch.testing.assert_close(forward([Part(0, 4, PROMPT[4:5])]), first, rtol=0.05, atol=0.05)
    for prefix, score in zip(prefixes, scores, strict=True):
        with torch.inference_mode():
            log_p = reference(torch.tensor([prefix + continuation])).logits[0].log_softmax(-1)
        by_hand = sum(float(log_p[at, token]) for at, token in enumerate(continuation))
        assert score == pytest.approx(by_hand, rel=0.02 if is_int8(forward) else 1e-4)


def is_int8(forward: Forward) -> bool:
    return isinstance(forward, CpuForward) and forward.linear is Int8Linear


@pytest.mark.parametrize("rows_at_once", [1, 20])
@pytest.mark.parametrize("logits_at_once", [1, 5000])
def test_scores_do_not_depend_on_how_much_is_held_at_once(
    compact: CpuForward, monkeypatch: pytest.MonkeyPatch, rows_at_once: int, logits_at_once: int
) -> None:
    prefixes = [[1, 2], [3, 4], [5, 6]]
    whole = compact.score(prefixes, PROMPT)
    monkeypatch.setattr("bot.engine.cpu_forward.ROWS_AT_ONCE", rows_at_once)
    monkeypatch.setattr("bot.engine.cpu_forward.LOGITS_AT_ONCE", logits_at_once)
    assert compact.score(prefixes, PROMPT) == pytest.approx(whole, rel=1e-6)


@pytest.mark.parametrize(
    ("prefixes", "continuation"),
    [([], [1]), ([[1]], []), ([[]], [1]), ([[1], [1, 2]], [3]), ([[1]], [2] * 64), ([[999]], [1])],
)
def test_a_score_beyond_the_bounds_is_refused(forward: Forward, prefixes: list[list[int]], continuation: list[int]) -> None:
    with pytest.raises(ValueError, match="token"):
        forward.score(prefixes, continuation)


def test_a_split_among_many_threads_changes_no_bit(compact: CpuForward) -> None:
    """Three threads split an elementwise operation where its vectors do not end."""
    compact.resize(9)
    torch.set_num_threads(3)
    parts = [Part(slot, 0, [(slot * 7 + n) % 300 for n in range(50)]) for slot in range(9)]
    together = compact(parts)
    assert all(torch.equal(compact([part])[0], row) for part, row in zip(parts, together, strict=True))
