"""Whether a model may run in int8: only where its loss on stories it was never taught rises by less than 0.5 %.

The stories are eight of our own (reference.txt, CC0; held out when the bundled model was taught). What was found is kept
in the model directory as int8.json and holds until the weights change; where that can't be written to, as where a container
has it read-only, beside what else the bot remembers. It reads 1,600 tokens twice: half a
tera-operation for GPT-2 124M, which two quiet cores do in some seconds, and a second for the bundled model.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tokenizers import Tokenizer

from bot.engine.model_files import shard_files, weights_file

if TYPE_CHECKING:
    from bot.engine.forward import Forward

logger = logging.getLogger(__name__)

RISE_LIMIT = 0.005
"""The share by which the held-out loss may rise."""
RECORD = "int8.json"
REFERENCE = Path(__file__).with_name("reference.txt")
BETWEEN_STORIES = "\n\n* * *\n\n"
SCHEME = "row-scaled 8-bit activations, channel-scaled 8-bit weights, pairs within 127"
"""How the numbers are made; a record of another scheme says nothing."""
SAMPLES, SAMPLE_BYTES = 256, 4096


@dataclass(frozen=True)
class Int8Record:
    """What was measured, and on what."""

    loss_fp32: float
    """Nats per token."""
    loss_int8: float
    tokens: int
    weights: str
    """A fingerprint of the weight files, see `fingerprint`."""
    scheme: str = SCHEME

    @property
    def rise(self) -> float:
        """The share by which the loss rises; infinite when a loss is no number."""
        rise = self.loss_int8 / self.loss_fp32 - 1 if self.loss_fp32 else math.inf
        return rise if math.isfinite(rise) else math.inf

    @property
    def allows(self) -> bool:
        """Whether the model may run in int8."""
        return self.rise < RISE_LIMIT

    def __str__(self) -> str:
        """For the log."""
        return f"held-out loss {self.loss_fp32:.4f} in fp32, {self.loss_int8:.4f} in int8: {self.rise:+.2%}"


def known_record(model_dir: Path, state_dir: Path | None = None) -> Int8Record | None:
    """The record kept with the model or in `state_dir`, if it is of these weights and this scheme."""
    for directory in (model_dir, state_dir):
        record = _read(directory / RECORD) if directory is not None else None
        if record is not None and record.scheme == SCHEME and record.weights == fingerprint(model_dir):
            return record
    return None


def _read(file: Path) -> Int8Record | None:
    try:
        kept = json.loads(file.read_text(encoding="utf-8"))
        numbers = float(kept["loss_fp32"]), float(kept["loss_int8"]), int(kept["tokens"])
        return Int8Record(*numbers, str(kept["weights"]), str(kept["scheme"]))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError):
        logger.warning("%s in %s is torn or of another kind; int8 is checked again", RECORD, file.parent)
        return None


def measure(
    model_dir: Path, tokenizer: Tokenizer, precise: Forward, compact: Forward, state_dir: Path | None = None
) -> Int8Record:
    """The loss of both on the reference, kept with the model, or else in `state_dir`."""
    stories = [ids for ids in _reference_ids(tokenizer, precise.n_positions) if len(ids) > 1]
    losses = [sum(forward.score([ids[:1]], ids[1:])[0] for ids in stories) for forward in (precise, compact)]
    tokens = sum(len(ids) - 1 for ids in stories)
    fp32, int8 = (round(-loss / max(1, tokens), 6) for loss in losses)
    record = Int8Record(fp32, int8, tokens, fingerprint(model_dir))
    _keep(record, [model_dir] if state_dir is None else [model_dir, state_dir])
    return record


def fingerprint(model_dir: Path) -> str:
    """SHA-256 over names, sizes, and a megabyte of samples from each weight file: training changes every weight."""
    digest = hashlib.sha256()
    for file in shard_files(weights_file(model_dir)):
        size = file.stat().st_size
        digest.update(f"{file.name} {size}\n".encode())
        with file.open("rb") as content:
            for sample in range(SAMPLES):
                content.seek(max(0, size - SAMPLE_BYTES) * sample // (SAMPLES - 1))
                digest.update(content.read(SAMPLE_BYTES))
    return digest.hexdigest()


def _reference_ids(tokenizer: Tokenizer, n_positions: int) -> list[list[int]]:
    stories = REFERENCE.read_text(encoding="utf-8").strip().split(BETWEEN_STORIES)
    return [encoding.ids[:n_positions] for encoding in tokenizer.encode_batch(stories)]


def _keep(record: Int8Record, directories: Sequence[Path]) -> None:
    """In the first of them that can be written to."""
    finite = {name: value if value == value else None for name, value in asdict(record).items()}  # NaN is no JSON
    text = json.dumps({**finite, "rise": round(record.rise, 6) if math.isfinite(record.rise) else None}, indent=2)
    why: OSError | None = None
    for directory in directories:
        part = directory / f"{RECORD}.part"
        try:
            directory.mkdir(parents=True, exist_ok=True)
            part.write_text(text + "\n", encoding="utf-8")
            part.replace(directory / RECORD)
        except OSError as error:
            why = error
            continue
        return
    places = " or ".join(str(directory) for directory in directories)
    logger.warning("%s can't be kept in %s (%s): int8 is checked again at the next load", RECORD, places, why)
