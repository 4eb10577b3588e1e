"""The GPU's forward pass: transformers' numbers, however texts come and go. Without a GPU it runs here without its graphs."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from torch import Tensor
from transformers import GPT2LMHeadModel

from bot.engine.cuda_forward import CudaForward
from bot.engine.drawn import Drawn
from bot.engine.draws import Draws
from bot.engine.forward import Part
from bot.engine.gpt2_weights import Gpt2Shape, covered_shape, read_weights
from bot.engine.graphed_draw import GraphedDraws
from bot.engine.interface import Sampling
from bot.engine.model_files import read_fields
from bot.engine.sampling import REACHES_FURTHER
from bot.engine.text_draws import TextDraws

PROMPT = (5, 99, 7, 280, 41, 13, 13, 200)
SAMPLINGS = (
    *(Sampling(), Sampling(temperature=0), Sampling(top_k=5), Sampling(1.2, 3, 0.9, top_p=0.9)),
    *(Sampling(min_p=0.1, banned_ids=((3,), (4, 5))), Sampling(temperature=0.7, top_k=20, top_p=0.8)),
    Sampling(top_k=9, banned_ids=((3,), (5,))),
)
CLOSE = {"rtol": 1e-3, "atol": 2e-3}


@pytest.fixture(params=["cpu", "cuda"])
def device(request: pytest.FixtureRequest) -> torch.device:
    if request.param == "cuda" and not torch.cuda.is_available():
        pytest.skip("no CUDA device on this machine")
    return torch.device(request.param)


@pytest.fixture
def forward(pristine: Path, device: torch.device) -> CudaForward:
    shape = covered_shape(read_fields(pristine))
    assert isinstance(shape, Gpt2Shape)
    return CudaForward(read_weights(pristine, shape), device, torch.float32, 5)


@torch.inference_mode()
def expected(reference: GPT2LMHeadModel, ids: Sequence[int]) -> Tensor:
    return reference(torch.tensor([list(ids)])).logits[0, -1]


@pytest.mark.parametrize("cuts", [[8], [1, 7], [3, 3, 2], [1] * 8])
def test_logits_are_those_of_transformers_however_a_prompt_is_cut(
    forward: CudaForward, reference: GPT2LMHeadModel, cuts: list[int]
) -> None:
    start = 0
    for n in cuts:
        logits = forward([Part(3, start, PROMPT[start : start + n])])
        start += n
        torch.testing.assert_close(logits[0].cpu(), expected(reference, PROMPT[:start]), **CLOSE)


@pytest.mark.parametrize("seed", range(3))
def test_texts_that_come_go_and_mix_keep_their_own_numbers(forward: CudaForward, reference: GPT2LMHeadModel, seed: int) -> None:
    draw = random.Random(seed)
    held: dict[int, list[int]] = {}
    likely: dict[int, int] = {}
    for _ in range(80):
        parts: list[Part] = []
        for slot in draw.sample(range(5), draw.randint(1, 5)):
            text = held.setdefault(slot, [])
            if len(text) > 50 or draw.random() < 0.1:
                text.clear()
            elif text and draw.random() < 0.1:
                del text[draw.randrange(1, len(text) + 1) :]  # it goes back
            ids = [draw.randrange(300) for _ in range(1 if text and draw.random() < 0.7 else draw.randint(2, 12))]
            if slot in likely and draw.random() < 0.8:
                ids = [likely[slot]]
            parts.append(Part(slot, len(text), ids, wanted=draw.random() < 0.8))
            text.extend(ids)
        logits = forward(parts)
        wanted = [part for part in parts if part.wanted]
        assert logits.shape == (len(wanted), reference.config.vocab_size)
        for row, part in zip(logits, wanted, strict=True):
            torch.testing.assert_close(row.cpu(), expected(reference, held[part.slot]), **CLOSE)
        likely.clear()
        if wanted and draw.random() < 0.8:
            tokens = [draw.choice((REACHES_FURTHER, draw.randrange(300), draw.randrange(300))) for _ in wanted]
            forward.foresee(Drawn(torch.tensor(tokens, device=forward.device)))
            likely = {part.slot: token for part, token in zip(wanted, tokens, strict=True) if token >= 0}


def test_a_step_that_was_foreseen_is_not_computed_again(forward: CudaForward, monkeypatch: pytest.MonkeyPatch) -> None:
    forward([Part(0, 0, PROMPT), Part(2, 0, PROMPT[:4])])
    forward.foresee(Drawn(torch.tensor([11, 12], device=forward.device)))
    monkeypatch.setattr(forward, "_step", lambda parts: pytest.fail(f"computed {parts} again"))
    assert len(forward([Part(0, 8, [11]), Part(2, 4, [12])])) == 2


def test_on_a_gpu_the_steps_are_our_own_kernels(forward: CudaForward) -> None:
    assert forward.steps_by == ("its own kernels" if forward.device.type == "cuda" else "torch's kernels")


def test_the_whole_context_can_be_filled_and_no_more(forward: CudaForward, reference: GPT2LMHeadModel) -> None:
    ids = [token % 300 for token in range(64)]
    forward([Part(0, 0, ids[:63], wanted=False)])
    torch.testing.assert_close(forward([Part(0, 63, ids[63:])])[0].cpu(), expected(reference, ids), **CLOSE)
    with pytest.raises(ValueError, match="64 positions"):
        forward([Part(0, 64, (1,))])


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device on this machine")
def test_many_long_prompts_at_once_leave_no_memory_behind(pristine: Path) -> None:
    shape = covered_shape(read_fields(pristine))
    assert isinstance(shape, Gpt2Shape)
    forward = CudaForward(read_weights(pristine, shape), torch.device("cuda"), torch.float32, 40)
    kept: list[int] = []
    for _ in range(5):
        forward([Part(slot, 0, [token % 300 for token in range(60)]) for slot in range(40)])
        kept.append(torch.cuda.memory_reserved())
    assert kept[1:] == kept[1:2] * 4
    assert not forward._readings.keys() & {(64, 64, 64)}


def test_scores_are_sums_of_log_probabilities(forward: CudaForward, reference: GPT2LMHeadModel) -> None:
    prefixes = [[1, 9], [2, 9], [250, 9]]
    for prefix, score in zip(prefixes, forward.score(prefixes, PROMPT), strict=True):
        with torch.inference_mode():
            log_p = reference(torch.tensor([[*prefix, *PROMPT]])).logits[0].log_softmax(-1)
        by_hand = sum(float(log_p[1 + at, token]) for at, token in enumerate(PROMPT))
        assert score == pytest.approx(by_hand, abs=1e-2)


@pytest.mark.parametrize("foreseen", [False, True])
def test_numbers_that_are_none_stay_in_the_text_that_had_them(
    pristine: Path, device: torch.device, reference: GPT2LMHeadModel, foreseen: bool
) -> None:
    shape = covered_shape(read_fields(pristine))
    assert isinstance(shape, Gpt2Shape)
    weights = read_weights(pristine, shape)
    weights.embedding[298] = torch.nan
    forward = CudaForward(weights, device, torch.float32, 5)
    assert forward([Part(0, 0, (298, *PROMPT)), Part(1, 0, PROMPT)])[0].isnan().all()
    if foreseen:  # a position further, in a text that is over by then
        forward.foresee(Drawn(torch.tensor([298, 12], device=device)))
    else:
        forward([Part(0, 9, [12])])
    for ids in ([11, *PROMPT[:3]], [12]):  # too short to write over what was there
        row = forward([Part(0, 0, ids)])[0].cpu()
        tokens = torch.arange(len(row)) != 298
        torch.testing.assert_close(row[tokens], expected(reference, ids)[tokens], **CLOSE)
    assert all(not part[0].isnan().any() for caches in forward._caches for part in caches)


def test_resize_changes_how_many_texts_are_held(forward: CudaForward, reference: GPT2LMHeadModel) -> None:
    forward.resize(1)
    torch.testing.assert_close(forward([Part(0, 0, PROMPT)])[0].cpu(), expected(reference, PROMPT), **CLOSE)
    with pytest.raises(ValueError, match="slot"):
        forward([Part(1, 0, PROMPT)])
    forward.resize(7)
    torch.testing.assert_close(forward([Part(6, 0, PROMPT)])[0].cpu(), expected(reference, PROMPT), **CLOSE)


@pytest.mark.parametrize("seed", range(3))
def test_a_draw_from_fixed_buffers_is_the_draw(device: torch.device, seed: int) -> None:
    """Texts come and go, so that the buffers are filled from other columns each time."""
    numbers = random.Random(seed)
    torch.manual_seed(seed)
    unwritable = torch.zeros(300, dtype=torch.bool)
    unwritable[7] = True
    plain, graphed = Draws(6, unwritable), Draws(6, unwritable)
    for draws in (plain, graphed):
        draws._move_to(torch.zeros(1, device=device).device)  # as the first logits do
    plain._graphed, graphed._graphed = None, GraphedDraws(graphed._bias, 300)
    seated: set[int] = set()
    slots: list[int] = []
    for _ in range(120):
        for slot in range(6):
            if slot not in seated or numbers.random() < 0.05:
                sampling, own = numbers.choice(SAMPLINGS), numbers.randrange(1000)
                plain.seat(slot, TextDraws(sampling, own, [1, 2, 3]))
                graphed.seat(slot, TextDraws(sampling, own, [1, 2, 3]))
                seated.add(slot)
        if not slots or numbers.random() < 0.4:  # else the columns are those of the round before
            slots = sorted(numbers.sample(range(6), numbers.randint(1, 6)))
        logits = torch.randn(len(slots), 300, device=device) * 3
        assert graphed.choose(slots, logits) == plain.choose(slots, logits)
