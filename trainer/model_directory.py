"""Write and open a model directory: a plain Hugging Face directory with story_format.json beside it."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainer.errors import BaseUnavailable, OutputError
from trainer.story_format import FormatError, StoryCodec, StoryFormat

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from transformers import GPT2LMHeadModel

SMALL = 50_000_000
SAMPLING: dict[str, Any] = {
    "do_sample": True,
    "temperature": 0.8,
    "top_p": 0.92,
    "repetition_penalty": 1.1,
}
"""What suits stories: DeLucia et al. 2021 find top_p from 0.7 to 0.9 best; a little over it, since a small model repeats."""
SMALL_SAMPLING: dict[str, Any] = {"temperature": 0.5, "repetition_penalty": 1.0, "no_repeat_ngram_size": 6}
"""Under some 50M parameters the tail of the distribution is words that do not exist, and a penalty on what was said takes away
the names and things that hold a simple story together: the bundled model lost its plots by it. Six tokens again are caught."""


def write_model(out: Path, model: GPT2LMHeadModel, tokenizer: Tokenizer, story_format: StoryFormat) -> None:
    """Write all files aside, then move each into place: old weights go first and new ones come last.

    A directory without weights is no model yet, so old ones never stand beside a new tokenizer.

    Raises OutputError when the disk is full or the directory can't be written.
    """
    from safetensors import SafetensorError
    from transformers import GenerationConfig, PreTrainedTokenizerFast

    end = StoryCodec(tokenizer, story_format).end_id
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=story_format.tag(None),
        eos_token=story_format.tag(None),
        model_max_length=model.config.n_positions,
    )
    model.generation_config = GenerationConfig(**sampling_of(model), bos_token_id=end, eos_token_id=end, pad_token_id=end)
    try:
        with tempfile.TemporaryDirectory(dir=out, prefix="being-written-") as name:
            staged = Path(name)
            model.save_pretrained(staged, safe_serialization=True)
            fast.save_pretrained(staged)
            story_format.save(staged)
            for file in out.glob("*.safetensors*"):
                file.unlink()
            for file in sorted(staged.iterdir(), key=lambda path: path.suffix == ".safetensors"):
                file.chmod(0o644)  # a container's user reads it too; safetensors writes for the owner alone
                file.replace(out / file.name)
    except (OSError, SafetensorError) as error:
        raise OutputError(
            f"The model can't be written to {out} ({str(error)[:120]}). Its last checkpoint is kept: make room, and give the "
            "same command again."
        ) from error


def sampling_of(model: GPT2LMHeadModel) -> dict[str, Any]:
    """How a model of this size tells best, as `generate` and generation_config.json have it."""
    return SAMPLING | SMALL_SAMPLING if model.num_parameters() < SMALL else SAMPLING


def open_model(directory: Path) -> tuple[GPT2LMHeadModel, StoryCodec]:
    """A taught model and its codec, for evaluation, on the GPU where there is one. Raises BaseUnavailable."""
    import torch
    from tokenizers import Tokenizer
    from transformers import GPT2LMHeadModel

    if not directory.is_dir():
        raise BaseUnavailable(f"There is no model directory {directory}.")
    try:
        story_format = StoryFormat.load(directory)
        tokenizer = Tokenizer.from_file(str(directory / "tokenizer.json"))
        codec = StoryCodec(tokenizer, story_format)
        model = GPT2LMHeadModel.from_pretrained(directory, use_safetensors=True, local_files_only=True, dtype="float32")
    except FormatError as error:
        raise BaseUnavailable(f"{directory} is no model of this trainer: {error}.") from None
    except Exception as error:
        reason = str(error).strip().split("\n", 1)[0][:160]
        raise BaseUnavailable(f"The model in {directory} can't be read ({reason}): copy it again.") from error
    if torch.cuda.is_available():
        model.to("cuda")  # pyright: ignore[reportArgumentType] (its decorator hides its type)
    return model, codec
