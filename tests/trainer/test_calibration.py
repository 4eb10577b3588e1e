from __future__ import annotations

import math

import pytest
import torch

from trainer.calibration import CORE_PRIOR, calibrate, known_prompts
from trainer.material import Passage
from trainer.prompts import PromptSources
from trainer.story_format import StoryCodec


def passage(genre: str | None, own: str | None, title: str | None = None) -> Passage:
    return Passage("A text.", genre, PromptSources(own, title, (), "A text."))


def test_prompts_that_people_wrote_are_asked_first_and_drawn_ones_where_these_are_few() -> None:
    written = [passage("HORROR", f"ghost {n}") for n in range(40)]
    drawn = [passage("FANTASY", None, "Title") for _ in range(200)]
    assert {genre for _, genre in known_prompts(written + drawn, 1)} == {"HORROR"}
    assert {genre for _, genre in known_prompts(written[:3] + drawn, 1)} == {"HORROR", "FANTASY"}
    assert not known_prompts([passage(None, "no genre")], 1)


def test_a_fit_undoes_a_model_that_prefers_one_genre_and_adds_the_prior(
    codec: StoryCodec, monkeypatch: pytest.MonkeyPatch
) -> None:

    genres = codec.format.genres  # FANTASY, SCI-FI, HORROR, ADVENTURE, COMEDY

    def scores(_model: object, _codec: object, prompt: str) -> torch.Tensor:
        row = torch.full((len(genres),), -10.0)
        row[int(prompt)] += 1.0  # right, but the model likes FANTASY more than that
        row[0] += 4.0
        return row

    class Model:
        def eval(self) -> None: ...

    monkeypatch.setattr("trainer.calibration.log_likelihood", scores)
    pairs = [(str(n % 4), genres[n % 4]) for n in range(80)]  # never COMEDY
    calibrated = calibrate(Model(), codec, pairs)  # type: ignore[arg-type]
    assert calibrated is not None
    assert calibrated.accuracy_before == 0.25
    assert calibrated.accuracy == 1.0
    bias = calibrated.calibration.bias
    assert bias["FANTASY"] < bias["SCI-FI"] - 3
    core = [bias[genre] - math.log(CORE_PRIOR) for genre in genres[:4]]
    assert abs(bias["COMEDY"] - sum(core) / 4) < 1e-3  # nothing is known of it, so it gets the mean, without the core's prior


def test_too_few_prompts_are_no_fit(codec: StoryCodec) -> None:
    assert calibrate(object(), codec, [("x", "HORROR")] * 5) is None  # type: ignore[arg-type]
