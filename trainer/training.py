"""One training from sources to a model directory: read, cut, tokenise, pack, teach, calibrate, write.

models/NAME/                 the model, when it is taught
models/NAME/checkpoints/     where a training that was cut off goes on from
models/NAME/training.json    the settings it was started with, and the curve so far
"""

from __future__ import annotations

import importlib.util
from contextlib import nullcontext
from typing import TYPE_CHECKING

from trainer.alone import alone_in
from trainer.base import check_base, load_model
from trainer.errors import BadSetting, OutputError
from trainer.lessons import Lessons, prepare
from trainer.lora import with_lora
from trainer.material import digest_of
from trainer.output import Plan, claim_output, inspect_output, python, write_record
from trainer.processes import is_first, wait_for_all
from trainer.recipe import recipe_of
from trainer.settings import TrainSettings, set_threads
from trainer.sources.texts import read_texts
from trainer.talking import quieten_transformers, say

if TYPE_CHECKING:
    from transformers import GPT2LMHeadModel

    from trainer.teaching import NewModel


def train(settings: TrainSettings) -> int:
    """Teach a model; the exit status. 130 after Ctrl-C and 143 after SIGTERM, with everything saved.

    Raises TrainerError.
    """
    set_threads(settings.threads)
    check_base(settings.base)
    check_reporters(settings.report_to)
    texts = read_texts(settings.data, say)
    plan = inspect_output(settings, digest_of(texts))
    if plan.finished:
        say(f"{settings.out} is taught already with these settings. To go on teaching it: --base {settings.out} --out another.")
        return 0
    lessons = prepare(settings, texts)

    from transformers import set_seed

    quieten_transformers()
    recipe = recipe_of(settings)

    def new_model(lora_rank: int) -> GPT2LMHeadModel:
        set_seed(settings.seed)
        model = load_model(lessons.base, lessons.codec.end_id, recipe.dropout, recipe.attention_dropout)
        return with_lora(model, lora_rank, lessons.codec.special_ids) if lora_rank else model

    wait_for_all()  # none is to read what another has begun to write
    with alone_in(settings.out / "checkpoints") if is_first() else nullcontext():
        return _teach_and_finish(settings, plan, lessons, new_model)


def _teach_and_finish(settings: TrainSettings, plan: Plan, lessons: Lessons, new_model: NewModel) -> int:
    from trainer.teaching import teach

    if is_first():
        claim_output(settings, plan)
    wait_for_all()
    try:
        taught = teach(settings, plan, lessons, new_model)
        if taught.status == 0 and is_first():
            from trainer.finishing import finish

            finish(settings, lessons, taught.model, taught.progress)
            write_record(settings, taught.plan, taught.progress, finished=True)
    except OSError as error:
        raise OutputError(
            f"{settings.out} can't be written ({error.strerror or error}). The last whole checkpoint is kept: make room, and "
            "give the same command again."
        ) from error
    return taught.status


def check_reporters(names: tuple[str, ...]) -> None:
    """Find out whether Trainer can report there before anything slow is done. Raises BadSetting."""
    for name in names:
        if name in ("none", "all") or importlib.util.find_spec(name) is None:
            raise BadSetting(
                f"--report-to {name}: there is no such package here. Install it first, as in "
                f"{python()} -m pip install tensorboard for --report-to tensorboard."
            )
