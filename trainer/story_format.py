"""How a story is written to the model, the one thing that trainer and bot share.

    [TAG] prompt \\n story <|endoftext|>

The tag is one added special token and the end is another; between them stands text from people, which is encoded so that it
can never become either. The parts are encoded one by one: what the bot sends is token for token what the trainer taught,
whatever the prompt ends with. The price is that no token spans a boundary.

A story of no genre opens with the end token in the tag's place, as GPT-2's own texts do. No torch here: the bot imports it.
"""

from __future__ import annotations

import json
import math
import re
import unicodedata
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from tokenizers import Tokenizer

END_TOKEN = "<|endoftext|>"  # noqa: S105 (a token of text, not of an account)
TEMPLATE = "{tag} {prompt}\n{story}" + END_TOKEN
CORE_GENRES = ("FANTASY", "SCI-FI", "HORROR", "ADVENTURE")
"""Every model has these; more as its data has them."""
FILE_NAME = "story_format.json"
VERSION = 1

_GENRE = re.compile(r"[A-Z][A-Z0-9]*(?:-[A-Z0-9]+)*")
_LEADING_TAG = re.compile(r"\s*\[([^\[\]\n]{1,40})\](?:\s+|$)")


class FormatError(ValueError):
    """A story_format.json or tokenizer that does not hold what this format needs."""


def genre_name(label: str) -> str | None:
    """The tag's name for a label as people write it ("sci fi", "[Fairy-Tale]"), or None where it can't be one."""
    name = re.sub(r"[\s_-]+", "-", label.strip().strip("[]").strip()).upper()
    return name if _GENRE.fullmatch(name) and len(name) <= 32 else None


def split_tag(text: str, known: Collection[str] = ()) -> tuple[str | None, str]:
    """("HORROR", "the old house") for "[HORROR] the old house": a leading tag's name and the rest; (None, text) without.

    A tag is in capitals, as corpora have it, or is a known genre in any case. Whether a model knows it, the caller decides.
    """
    match = _LEADING_TAG.match(text)
    name = genre_name(match.group(1)) if match else None
    if match is None or name is None or not (name in known or match.group(1).isupper()):
        return None, text
    return name, text[match.end() :]


def script(letter: str) -> str:
    """The script of a letter by its Unicode name: LATIN, HEBREW, CJK; empty for one without a name."""
    return unicodedata.name(letter, "").partition(" ")[0]


def scripts_of(texts: Iterable[str], share: float = 0.01) -> tuple[str, ...]:
    """The scripts that make up at least this share of the letters, the commonest first."""
    characters: Counter[str] = Counter()
    for text in texts:
        characters.update(text)
    letters = {character: number for character, number in characters.items() if character.isalpha()}
    counts: Counter[str] = Counter()
    for letter, number in letters.items():
        counts[script(letter)] += number
    return tuple(name for name, number in counts.most_common() if name and number >= share * counts.total())


def one_line(text: str) -> str:
    """The text with each run of white space as one space: a prompt is a line, since the line's end ends it."""
    return " ".join(text.split())


@dataclass(frozen=True)
class GenreCalibration:
    """What turns log P(prompt | tag) into odds: softmax(scale x log P + bias), fitted on held-out prompts.

    The bias takes the place of log P(tag) and of what one tag's language explains better in general.
    """

    scale: float = 1.0
    bias: Mapping[str, float] = field(default_factory=dict[str, float])

    def odds(self, log_likelihood: Mapping[str, float]) -> dict[str, float]:
        """The probability of each tag, given log P(prompt | tag) in nats."""
        logits = {tag: self.scale * value + self.bias.get(tag, 0.0) for tag, value in log_likelihood.items()}
        top = max(logits.values())
        weights = {tag: math.exp(value - top) for tag, value in logits.items()}
        total = sum(weights.values())
        return {tag: weight / total for tag, weight in weights.items()}


@dataclass(frozen=True)
class StoryFormat:
    """The genres that a model knows, and how its prompts are scored. Kept in the model directory as story_format.json."""

    genres: tuple[str, ...] = CORE_GENRES
    calibration: GenreCalibration = field(default_factory=GenreCalibration)
    scripts: tuple[str, ...] = ()
    """The scripts of the letters it was taught, by their Unicode names; none where that is not known."""

    def __post_init__(self) -> None:
        """Raise FormatError for genres that can't be tags."""
        if not self.genres or len(set(self.genres)) != len(self.genres):
            raise FormatError("the genres must be different, and at least one")
        for name in self.genres:
            if genre_name(name) != name:
                raise FormatError(f"{name!r} can't be a genre: capitals, digits and single hyphens only")

    @staticmethod
    def tag(genre: str | None) -> str:
        """The token that opens a story of this genre; the end token for a story of none."""
        return END_TOKEN if genre is None else f"[{genre}]"

    def save(self, directory: Path) -> None:
        """Write story_format.json."""
        content = {
            "version": VERSION,
            "template": TEMPLATE,
            "end_token": END_TOKEN,
            "genres": list(self.genres),
            "scripts": list(self.scripts),
            "calibration": {"scale": self.calibration.scale, "bias": dict(self.calibration.bias)},
        }
        (directory / FILE_NAME).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, directory: Path) -> StoryFormat:
        """Read story_format.json. Raises FormatError, which says what is wrong with it."""
        path = directory / FILE_NAME
        try:
            return cls._parse(json.loads(path.read_text(encoding="utf-8")))
        except FileNotFoundError:
            raise FormatError(f"{path} is missing") from None
        except FormatError as error:
            raise FormatError(f"{path}: {error}") from None
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise FormatError(f"{path} can't be read: {error!r}") from None

    @classmethod
    def _parse(cls, content: dict[str, Any]) -> StoryFormat:
        if content["version"] != VERSION:
            raise FormatError(f"its version is {content['version']}, and this program reads version {VERSION}")
        calibration = cast("dict[str, Any]", content.get("calibration", {}))
        return cls(
            tuple(str(name) for name in content["genres"]),
            GenreCalibration(
                float(calibration.get("scale", 1.0)),
                {str(tag): float(value) for tag, value in calibration.get("bias", {}).items()},
            ),
            tuple(str(name) for name in content.get("scripts", ())),
        )


class StoryCodec:
    """Turns genre, prompt and story into token ids, with a tokenizer that has the format's special tokens."""

    def __init__(self, tokenizer: Tokenizer, story_format: StoryFormat) -> None:
        """Takes the tokenizer over: from here on it reads special tokens in text as plain text.

        Raises FormatError when a tag or the end is not one special token of this tokenizer.
        """
        self.format = story_format
        self.tokenizer = tokenizer
        added = tokenizer.get_added_tokens_decoder()
        special = {token.content: index for index, token in added.items() if token.special}
        missing = [t for t in (END_TOKEN, *map(story_format.tag, story_format.genres)) if t not in special]
        if missing:
            raise FormatError(f"the tokenizer has no special token {', '.join(missing)}")
        self.end_id = special[END_TOKEN]
        self._tag_ids = {name: special[story_format.tag(name)] for name in story_format.genres}
        # Not saved in tokenizer.json, so it is set at each start; with it, "[HORROR]" in a text is five plain tokens.
        tokenizer.encode_special_tokens = True
        self._separator = self.encode_text("\n")

    @property
    def special_ids(self) -> list[int]:
        """The tokens of the end and of all tags."""
        return sorted({self.end_id, *self._tag_ids.values()})

    def tag_id(self, genre: str | None) -> int:
        """The token that opens a story of this genre."""
        return self.end_id if genre is None else self._tag_ids[genre]

    def encode_text(self, text: str) -> list[int]:
        """Text from people as token ids, none of which is special."""
        return self.tokenizer.encode(text, add_special_tokens=False).ids

    def encode_texts(self, texts: Sequence[str]) -> list[list[int]]:
        """Many texts at once, on all cores."""
        return [encoding.ids for encoding in self.tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)]

    def count(self, texts: Sequence[str]) -> list[int]:
        """The length of each text in tokens."""
        return [len(ids) for ids in self.encode_texts(texts)]

    @staticmethod
    def prompt_text(prompt: str) -> str:
        """What of a prompt is encoded: one line, with the space that parts it from the tag."""
        line = one_line(prompt)
        return f" {line}" if line else ""

    def encode_prompt(self, prompt: str) -> list[int]:
        """The prompt alone, as it stands between tag and line end."""
        return self.encode_text(self.prompt_text(prompt))

    def opening(self, genre: str | None, prompt_ids: Sequence[int]) -> list[int]:
        """`[TAG] prompt \\n`: what the model goes on from, and what is never dropped from its context."""
        return [self.tag_id(genre), *prompt_ids, *self._separator]

    def story(self, genre: str | None, prompt_ids: Sequence[int], text_ids: Sequence[int]) -> list[int]:
        """One whole story as it is taught, its end included."""
        return [*self.opening(genre, prompt_ids), *text_ids, self.end_id]
